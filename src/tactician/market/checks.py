"""Checks of bars: one function per group of faults. docs/data.md has the table, and `validation` has the order.

A check reads a frame sorted by symbol, then date, and yields faults. It changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from tactician.bars.findings import Finding, Row, Severity, finding_of

STALE_RUN = 5
"""Number of consecutive bars with the same close that causes a warning."""
CONSTANT_LIFE = 20
"""An asset with at least this many bars, and a price that never changes, is taken for dead."""
SPIKE = 8.0
"""A spike leaves by this factor and is back within `SPIKE_BARS`. Its cause is an error: pence for pounds, a lost point."""
SPIKE_BARS = 5
_BACK = np.log(1.5)
"""A price is back if its logarithm is within this distance of where it was."""
SAME_PRICE = 1e-3
"""Prices of one day with a smaller relative difference are one price, rounded."""
_SPARSE_DAYS = 4
"""Bars this many calendar days apart are not daily. A long weekend is as long, but does not come again and again."""
_SPACINGS = {"weekly_bars": (_SPARSE_DAYS, 14), "monthly_bars": (14, 45), "quarterly_bars": (45, np.inf)}
"""Range of the median number of days between two bars."""
_STRETCH = 19
"""Number of consecutive distances (20 bars) that make a stretch."""
_HIGHEST, _LOWEST = 1e15, 1e-15
"""No currency has prices outside these bounds: adjusted prices reach 1e11 (reverse splits), coins 1e-12."""
_MOST_VOLUME = 1e20
_OHLC_TOLERANCE = 0.005
_OHLC_SHARE = 0.2
"""If more of an asset's bars contradict the close, its open, high and low have another basis and are not used."""
_ROUNDING = 1e-6

Effect = Literal["drop", "block", "clear", "tell"]
_DONE = {"drop": "bar dropped", "block": "not fillable", "clear": "cells ignored", "tell": "told"}


@dataclass(frozen=True)
class Fault:
    """Rows of a frame with a fault of one kind, and the consequence for them."""

    name: str
    severity: Severity
    rows: np.ndarray
    """bool, one per row of the frame."""
    what: str
    """Text after symbol and date."""
    effect: Effect
    """drop: the bar is removed. block: it marks holdings, but fills nothing. clear: some cells are removed. tell: none."""
    columns: tuple[str, ...] = ()
    """Columns whose values are reported, and removed if the effect is 'clear'."""
    action: str = ""
    """Reported instead of the effect."""
    unit: str = "such rows"
    growth: np.ndarray | None = None
    """Price divided by the one before, one per row of the frame, if the report shows it."""

    def finding(self, frame: pd.DataFrame) -> Finding:
        """The finding that reports this fault."""
        hits, columns = frame.loc[self.rows, ["date", "symbol", *self.columns]], self.columns
        if self.growth is not None:
            hits, columns = hits.assign(times=self.growth[self.rows]), (*columns, "times")
        rows = rows_of(hits.sort_values(["date", "symbol"], kind="stable"), columns)
        return finding_of(self.name, self.severity, rows, self.what, self.action or _DONE[self.effect], unit=self.unit)


def rows_of(hits: pd.DataFrame, columns: tuple[str, ...] = ()) -> list[Row]:
    """Symbol, date and the values of some columns, per row."""
    days = hits["date"].dt.strftime("%Y-%m-%d")
    details = [""] * len(hits)
    if columns:
        values = (hits[c].to_numpy() for c in columns)
        details = [
            ", ".join(f"{c} {x:g}" for c, x in zip(columns, row, strict=True)) for row in zip(*values, strict=True)
        ]
    return list(zip(hits["symbol"].astype(str), days, details, strict=True))


def unpriced(f: pd.DataFrame) -> Iterator[Fault]:
    """Rows without a usable close or adjusted close."""
    shown = [c for c in ("open", "high", "low", "close", "adj_close") if c in f]
    empty = f[shown].isna().all(axis=1).to_numpy()
    yield Fault("empty_row", "repair", empty, "has a row without any price", "drop")
    prices = f[["close", "adj_close"]].to_numpy(dtype=np.float64)
    finite = np.isfinite(prices).all(1)
    columns = ("close", "adj_close")
    what = "has a price that is not a finite number"
    yield Fault("non_finite_price", "repair", ~finite & ~empty, what, "drop", columns)
    positive = (prices > 0).all(1)
    what = "has a price that is not positive"
    yield Fault("non_positive_price", "repair", finite & ~positive, what, "drop", columns)
    absurd = ((prices >= _HIGHEST) | (prices <= _LOWEST)).any(1)
    what = "has a price of no currency"
    yield Fault("absurd_price", "repair", finite & positive & absurd, what, "drop", columns)


def spacing(f: pd.DataFrame) -> Iterator[Fault]:
    """Bars that are not daily: several per day with different prices on most days, or one per week, month or quarter."""
    by_day = f.groupby(["symbol", "date"], observed=True, sort=False)["close"].agg(["size", "nunique", "min", "max"])
    differ = (by_day["nunique"] > 2) | (by_day["max"] > by_day["min"] * (1 + SAME_PRICE))  # two may be one, rounded
    several = differ.groupby(level="symbol", observed=True).mean() > 0.5
    remedy, assets = "download daily bars", "such assets"
    first = _first_bars(f)
    hourly = f["symbol"].map(several).to_numpy(dtype=bool) & first
    what = "has several bars per day with different prices on most days: intraday bars"
    yield Fault("intraday_bars", "error", hourly, what, "tell", action=remedy, unit=assets)
    days = by_day.index.get_level_values("date").to_series(index=by_day.index)
    gaps = days.groupby(level="symbol", observed=True).diff().dt.days
    median = f["symbol"].map(gaps.groupby(level="symbol", observed=True).median()).to_numpy()
    enough = f["symbol"].map(by_day.groupby(level="symbol", observed=True).size()).to_numpy() >= 4
    for name, (low, high) in _SPACINGS.items():
        rows = first & enough & (median >= low) & (median < high)
        yield Fault(name, "error", rows, f"and later: {name.replace('_', ' ')}", "tell", action=remedy, unit=assets)


def sparse_stretches(f: pd.DataFrame) -> list[Finding]:
    """Bars that are not daily for a part of an asset's life, such as a weekly history before a daily one.

    In a stretch, all of `_STRETCH` distances between bars but one are 4 days or more. An asset that trades on random days
    has more short distances.
    """
    bars = f[["symbol", "date"]].drop_duplicates().reset_index(drop=True)
    gap = bars.groupby("symbol", observed=True)["date"].diff().dt.days.to_numpy(dtype=np.float64)
    life = bars.groupby("symbol", observed=True).cumcount().to_numpy()
    long = np.concatenate([[0], np.cumsum(gap >= _SPARSE_DAYS)])
    sparse = np.zeros(len(bars), dtype=bool)
    for end in np.flatnonzero(life >= _STRETCH):
        if long[end + 1] - long[end + 1 - _STRETCH] >= _STRETCH - 1:
            sparse[end - _STRETCH : end + 1] = True
    begins = sparse & ~(np.concatenate([[False], sparse[:-1]]) & (life > 0))
    rows: dict[str, list[Row]] = {}
    for stretch in np.split(np.flatnonzero(sparse), np.flatnonzero(begins[sparse])[1:]):
        if not len(stretch):
            continue
        long_gaps = np.flatnonzero(gap[stretch[1:]] >= _SPARSE_DAYS)  # the stretch may begin or end with a daily bar
        stretch = stretch[long_gaps[0] : long_gaps[-1] + 2]
        median = np.median(gap[stretch[1:]])
        name = next(name for name, (low, high) in _SPACINGS.items() if low <= median < high)
        first, last = bars["date"].iloc[stretch[0]], bars["date"].iloc[stretch[-1]]
        row = (str(bars["symbol"].iloc[stretch[0]]), f"{first:%Y-%m-%d}", f"until {last:%Y-%m-%d}")
        rows.setdefault(name, []).append(row)
    return [
        finding_of(
            name, "error", some, f"begins {name.replace('_', ' ')}", "download daily bars", unit="such stretches"
        )
        for name, some in rows.items()
    ]


def duplicates(f: pd.DataFrame) -> list[Fault]:
    """Several rows per symbol and day: equal ones, equal ones but for rounding or some cells, or different ones.

    If the prices are equal, or one is the other rounded, the first row stays, so no price is invented.
    """
    again = f.duplicated(["symbol", "date"], keep=False).to_numpy()
    if not again.any():
        return []
    some = f[again]
    day = [some["symbol"].to_numpy(), some["date"].to_numpy()]

    def differs(column: str, tolerance: float) -> np.ndarray:
        """For each row of the frame: whether its day has two values of a column."""
        groups = some[column].groupby(day)
        low, high, known = (groups.transform(how).to_numpy() for how in ("min", "max", "count"))
        rows = np.zeros(len(f), dtype=bool)
        rows[again] = (high - low > tolerance * np.abs(low)) | ((known > 0) & (known < groups.transform("size")))
        return rows

    conflicting = differs("close", SAME_PRICE) | differs("adj_close", SAME_PRICE)
    extra = f.duplicated(["symbol", "date"], keep="first").to_numpy() & ~conflicting
    kept = again & ~extra & ~conflicting
    faults = []
    for column in ("open", "high", "low", "volume"):
        if column in f:
            rows = kept & differs(column, SAME_PRICE)
            what = f"has rows with one close and different values of {column}"
            done = f"{column} missing"
            faults.append(Fault("conflicting_cells", "repair", rows, what, "clear", (column,), done))
    what = "has the same row, or the same prices rounded, twice"
    faults.append(Fault("duplicate_rows", "repair", extra, what, "drop", action="one row kept"))
    what = "has rows with different prices on one day"
    faults.append(Fault("conflicting_rows", "repair", conflicting, what, "drop", ("close",), action="day dropped"))
    return faults


def spikes(f: pd.DataFrame) -> Iterator[Fault]:
    """Prices that leave by a factor of 8 or more and are back within 5 bars, whatever they do in between."""
    symbol = pd.factorize(f["symbol"].to_numpy())[0]
    rows = np.zeros(len(f), dtype=bool)
    for column in ("close", "adj_close"):
        rows |= _away(np.log(f[column].to_numpy(dtype=np.float64)), symbol)
    what = f"has a price off by a factor of {SPIKE:g} or more, and back within {SPIKE_BARS} bars"
    yield Fault("price_spike", "repair", rows, what, "drop", ("close", "adj_close"))


def _away(level: np.ndarray, symbol: np.ndarray) -> np.ndarray:
    """Bars between a price and its return to that level, if the price jumps by `SPIKE` among them."""
    far, away = np.log(SPIKE) - 1e-9, np.zeros(len(level), dtype=bool)
    jump = np.concatenate([[False], (np.abs(np.diff(level)) >= far) & (symbol[1:] == symbol[:-1])])
    # A spike may leave in small steps and jump back, so it may begin up to SPIKE_BARS bars before its large jump.
    starts = np.unique(np.flatnonzero(jump)[:, None] - np.arange(1, SPIKE_BARS + 2))
    for start in starts[starts >= 0]:
        if away[start]:
            continue  # the return from a spike does not begin a new one
        path = level[start : start + SPIKE_BARS + 2]
        off = np.abs(path[symbol[start : start + len(path)] == symbol[start]] - level[start])
        back = 1 + np.flatnonzero(off[1:] < _BACK)[:1]
        for end in back:
            if off[:end].max() >= far and jump[start + 1 : start + end + 1].any():
                away[start + 1 : start + end] = True
    return away


def volumes(f: pd.DataFrame) -> Iterator[Fault]:
    """Impossible volumes, and bars without a trade."""
    if "volume" not in f:
        return
    volume = f["volume"].to_numpy(dtype=np.float64)
    broken = (volume < 0) | (volume > _MOST_VOLUME)
    what = "has a volume that cannot be"
    yield Fault("broken_volume", "repair", broken, what, "clear", ("volume",), "volume ignored")
    never = ~pd.Series(volume > 0).groupby(f["symbol"].to_numpy()).transform("any").to_numpy() & (volume == 0)
    first_never = never & _first_bars(f[never], len(f))
    yield Fault("no_volume", "warning", first_never, "and later: the volume is always 0", "tell", unit="such assets")
    unchanged = f["close"].groupby(f["symbol"], observed=True).diff().to_numpy() == 0
    quiet = (volume == 0) & unchanged & ~never
    yield Fault("no_trade", "repair", quiet, "has no volume and the close before: nobody traded", "block")


def ohlc(f: pd.DataFrame) -> Iterator[Fault]:
    """Open, high and low: cells that are no prices, and an impossible order."""
    used = [c for c in ("open", "high", "low") if c in f and f[c].notna().any()]
    cells = {c: f[c].to_numpy(dtype=np.float64) for c in used}
    good = {c: np.isfinite(x) & (x > 0) for c, x in cells.items()}
    if not used:
        return
    has = {c: pd.Series(ok).groupby(f["symbol"].to_numpy()).transform("any").to_numpy() for c, ok in good.items()}
    bad = np.logical_or.reduce([has[c] & ~good[c] for c in used])
    what = "has an open, high or low that is no price"
    yield Fault("open_high_low", "warning", bad, what, "tell", tuple(used), "cells ignored")
    off = _disorder(f["close"].to_numpy(dtype=np.float64), {c: np.where(good[c], cells[c], np.nan) for c in used})
    wrong = pd.Series(off > _OHLC_TOLERANCE)
    other_basis = wrong.groupby(f["symbol"].to_numpy()).transform("mean").to_numpy() > _OHLC_SHARE
    what = "and often later: a high below or a low above the close, as if of another adjustment"
    yield Fault(
        "ohlc_basis", "warning", other_basis & _first_bars(f), what, "tell", action="columns unused", unit="such assets"
    )
    shown = (*used, "close")
    what = "has a high below, or a low above, its other prices"
    yield Fault("ohlc_order", "repair", wrong.to_numpy() & ~other_basis, what, "block", shown)
    small = (off > _ROUNDING) & ~wrong.to_numpy() & ~other_basis
    yield Fault("ohlc_rounding", "warning", small, f"{what}, by less than 0.5 %", "tell", shown)


def _disorder(close: np.ndarray, cells: dict[str, np.ndarray]) -> np.ndarray:
    """By how much a high is below, or a low above, another price of the bar, relative to the close."""
    inside = [close, *(x for name, x in cells.items() if name == "open")]
    off = np.zeros(len(close))
    if "high" in cells:
        off = np.fmax(off, np.fmax.reduce([*inside, *(cells[c] for c in cells if c == "low")]) - cells["high"])
    if "low" in cells:
        off = np.fmax(off, cells["low"] - np.fmin.reduce(inside))
    return off / close


def stale_runs(f: pd.DataFrame) -> Iterator[Fault]:
    """Runs of bars with the same close and adjusted close."""
    steps = f.groupby("symbol", observed=True)[["close", "adj_close"]].diff().to_numpy()
    same = (steps == 0).all(1)
    run = pd.Series(same).groupby(np.cumsum(~same)).cumsum().to_numpy() + 1
    life = f.groupby("symbol", observed=True)["close"].transform("size").to_numpy()
    changes = pd.Series(~same).groupby(f["symbol"].to_numpy()).transform("sum").to_numpy()
    constant = (changes == 1) & (life >= CONSTANT_LIFE)
    what = f"has the same close for {STALE_RUN} bars or more"
    yield Fault("stale_run", "warning", (run == STALE_RUN) & ~constant, what, "tell", ("close",))
    symbols = f["symbol"].nunique() - f.loc[constant, "symbol"].nunique()
    severity: Severity = "repair" if symbols >= 2 else "error"
    action = "never fillable" if symbols >= 2 else "name another symbol in the universe"
    what = "and later: the price never changes"
    yield Fault("constant_price", severity, constant, what, "block", ("close",), action)


def _first_bars(f: pd.DataFrame, length: int | None = None) -> np.ndarray:
    """Mask of the first row per symbol. With ``length`` it covers the longer frame from which this one was selected."""
    mask = np.zeros(len(f) if length is None else length, dtype=bool)
    rows = np.arange(len(f)) if length is None else f.index.to_numpy()
    mask[rows[~f["symbol"].duplicated().to_numpy()]] = True
    return mask
