"""What can be wrong with bars, by name. An error stops; a warning is shown and kept. docs/data.md has the table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tactician.errors import UserError
from tactician.market.bars import Bars
from tactician.market.calendar import Sessions, exchange_sessions
from tactician.market.factors import MAX_GAP
from tactician.market.findings import Finding, Severity

STALE_RUN = 5
"""Sessions in a row with the same close that are worth a warning."""
_SPLIT_RATIOS = (2, 3, 4, 5, 10, 20)


@dataclass(frozen=True)
class CheckedBars:
    """Bars that a market can be made of."""

    bars: Bars
    """Repaired: one row a symbol and session, finite positive prices."""
    blocked: pd.Series
    """For each row of the bars: its price is known, but no fill may use it."""
    sessions: Sessions
    findings: tuple[Finding, ...]


def check_bars(bars: Bars, calendar: str, on_findings: str = "repair") -> CheckedBars:
    """Find the sessions, check the bars against them and against one another, and repair what can be.

    Args:
        bars: what was read.
        calendar: exchange calendar by its ISO 10383 code.
        on_findings: 'repair', or 'strict' to stop instead.

    Raises:
        UserError: an error, or with 'strict' anything that would be repaired.
    """
    sessions = exchange_sessions(bars, calendar)
    findings = validate(bars, sessions.dates)
    return CheckedBars(bars, pd.Series(False, index=bars.frame.index), sessions, findings)


def validate(bars: Bars, sessions: pd.DatetimeIndex) -> tuple[Finding, ...]:
    """Check bars against one another and against the exchange calendar.

    Args:
        bars: what was read.
        sessions: the exchange's sessions from the first bar to the last.

    Returns:
        The warnings.

    Raises:
        UserError: for the first error, naming source, symbol, date, finding and remedy; more of them are counted.
    """
    findings = list(bars.notes)
    for check in _CHECKS:
        findings += check(bars, sessions)
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more error{'s' * (len(errors) > 2)})" if len(errors) > 1 else ""
        raise UserError(f"{bars.source}: {errors[0].message} [{errors[0].name}]{more}; correct the bars.")
    return tuple(findings)


def _one_asset(bars: Bars, sessions: pd.DatetimeIndex) -> Iterator[Finding]:
    if len(bars.symbols) < 2:
        yield Finding("one_asset", "error", f"{bars.symbols[0]} is the only asset, and allocation needs at least two")


def _duplicates(bars: Bars, sessions: pd.DatetimeIndex) -> Iterator[Finding]:
    yield from _rows(bars, bars.frame.duplicated(["date", "symbol"]), "duplicate_rows", "error", "has two rows")


def _prices(bars: Bars, sessions: pd.DatetimeIndex) -> Iterator[Finding]:
    for column in ("open", "high", "low", "close", "adj_close"):
        if column in bars.frame:
            price = bars.frame[column]
            broken = ~np.isfinite(price.to_numpy())
            what = f"has a price that is not a finite number ({column})"
            yield from _rows(bars, pd.Series(broken), "non_finite_price", "error", what)
            what = f"has a price that is not positive ({column})"
            yield from _rows(bars, (price <= 0) & ~broken, "non_positive_price", "error", what)


def _ohlc_order(bars: Bars, sessions: pd.DatetimeIndex) -> Iterator[Finding]:
    if not {"open", "high", "low"} <= set(bars.frame):
        return
    f = bars.frame
    above = np.maximum.reduce([f["open"], f["close"], f["low"]]) / f["high"] - 1
    below = 1 - np.minimum.reduce([f["open"], f["close"], f["high"]]) / f["low"]
    off = pd.Series(np.maximum(above, below))
    yield from _rows(bars, off > 0.005, "ohlc_order", "error", "has a high below or a low above its other prices")
    small = (off > 1e-6) & (off <= 0.005)
    yield from _rows(bars, small, "ohlc_order", "warning", "has a high or low beaten by its other prices, up to 0.5 %")


def _calendar(bars: Bars, sessions: pd.DatetimeIndex) -> Iterator[Finding]:
    stray = ~bars.frame["date"].isin(sessions)
    yield from _rows(bars, stray, "not_a_session", "error", "has a bar although the exchange was closed")
    position = pd.Series(sessions.get_indexer(bars.frame["date"]))
    gap = position.groupby(bars.frame["symbol"].to_numpy()).diff() - 1
    long, short = gap > MAX_GAP, (gap > 0) & (gap <= MAX_GAP)
    yield from _rows(bars, long, "missing_sessions", "error", f"follows more than {MAX_GAP} missing sessions")
    yield from _rows(bars, short, "missing_sessions", "warning", f"follows up to {MAX_GAP} missing sessions")


def _stale_runs(bars: Bars, sessions: pd.DatetimeIndex) -> Iterator[Finding]:
    close = bars.frame["close"].groupby(bars.frame["symbol"])
    unchanged = (close.diff() == 0).astype(int)
    changes = (unchanged == 0).groupby(bars.frame["symbol"]).cumsum()
    run = unchanged.groupby([bars.frame["symbol"], changes]).cumsum() + 1
    yield from _rows(bars, run == STALE_RUN, "stale_run", "warning", f"has the same close for {STALE_RUN} sessions")


def _jumps(bars: Bars, sessions: pd.DatetimeIndex) -> Iterator[Finding]:
    growth = bars.frame["adj_close"].groupby(bars.frame["symbol"]).pct_change() + 1
    ratios = np.array([*_SPLIT_RATIOS, *(1 / r for r in _SPLIT_RATIOS)])
    near = (np.abs(growth.to_numpy()[:, None] / ratios - 1) < 0.02).any(1)
    extreme = (growth > 4) | (growth < 0.25)
    yield from _rows(
        bars, pd.Series(near) | extreme, "split_like_jump", "warning", "moves like a split that was not adjusted for"
    )


def _lives(bars: Bars, sessions: pd.DatetimeIndex) -> Iterator[Finding]:
    life = bars.frame.groupby("symbol")["date"].agg(["min", "max"])
    for symbol, (first, last) in life.iterrows():
        before, after = int((sessions < first).sum()), int((sessions > last).sum())
        if before > MAX_GAP:
            text = f"{symbol} begins on {first:%Y-%m-%d}, {before} sessions after the first; it cannot be held before"
            yield Finding("late_listing", "warning", text, str(symbol), f"{first:%Y-%m-%d}", before)
        if after > 0:
            text = f"{symbol} ends on {last:%Y-%m-%d}, {after} sessions before the last; it cannot be bought after"
            yield Finding("early_end", "warning", text, str(symbol), f"{last:%Y-%m-%d}", after)


_CHECKS: tuple[Callable[[Bars, pd.DatetimeIndex], Iterator[Finding]], ...] = (
    _one_asset,
    _duplicates,
    _prices,
    _ohlc_order,
    _calendar,
    _stale_runs,
    _jumps,
    _lives,
)


def _rows(bars: Bars, mask: pd.Series, name: str, severity: Severity, what: str) -> Iterator[Finding]:
    """One finding a symbol for the rows of a mask, naming the first."""
    rows = np.flatnonzero(mask.to_numpy(dtype=bool))
    if len(rows) == 0:
        return
    for symbol, hits in bars.frame.iloc[rows].groupby("symbol", sort=True):
        day = f"{hits['date'].iloc[0]:%Y-%m-%d}"
        more = f" (first of {len(hits)} such rows)" if len(hits) > 1 else ""
        yield Finding(name, severity, f"{symbol} {day} {what}{more}", str(symbol), day, len(hits))
