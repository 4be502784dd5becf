"""The validated market: what happened, session by session, as known after each close."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tactician.bars.bars import Bars
from tactician.bars.findings import Finding
from tactician.config import Config
from tactician.market.factors import (
    delisted_mask,
    factor_scores,
    rolling_dollar_volume,
    rolling_volatility,
    tradable_mask,
)
from tactician.market.rates import cash_returns, rate_findings
from tactician.market.validation import CheckedBars, check_bars

LEVEL_LEAK = "adjusted_level_leak"
"""Name of the finding which says that the closes are no price level."""


@dataclass(frozen=True)
class Market:
    """S sessions of A assets on the CPU, float64. Row s holds what is known after the close of session s."""

    sessions: pd.DatetimeIndex
    symbols: tuple[str, ...]
    returns: Float[Tensor, "session asset"]
    """Simple total return s − 1 → s; 0 unless both sessions have a price. A missing bar is marked at the last price."""
    closes: Float[Tensor, "session asset"]
    """Price as traded. It is NaN before the listing, and everywhere if the source has no such price. Inside a gap and after
    the end it is the last known price."""
    cash_returns: Float[Tensor, " session"]
    """Return of cash from close s to close s + 1, at the rate quoted at s."""
    tradable: Bool[Tensor, "session asset"]
    """Whether a rule may hold the asset: it is listed, warmed up, and not in a long gap. Its bar may be missing."""
    fillable: Bool[Tensor, "session asset"]
    """Whether an order of this session can be filled: there is a bar without a fault."""
    delisted: Bool[Tensor, "session asset"]
    """Whether the session is after the asset's last bar, which more than five sessions follow. Its holding is cash then."""
    scores: Float[Tensor, "session asset factor"]
    volatility: Float[Tensor, "session asset"]
    """Daily, over 20 sessions."""
    dollar_volume: Float[Tensor, "session asset"]
    """Mean traded value over 20 sessions, in currency; NaN if an asset has no volumes or no price as traded."""
    days_to_next: Int64[Tensor, " session"]
    """Calendar days to the exchange's next session."""
    sessions_per_year: int
    """Figures are annualised by it: 252 on XNYS, 365 on 24/7."""
    findings: tuple[Finding, ...]
    fingerprint: str
    """sha256 of bars, cash rates and rules."""
    source: str

    def only(self, symbols: Sequence[str]) -> "Market":
        """The market of some of its assets, in the order given. Sessions and calendar stay those of all.

        Raises:
            ValueError: an asset is not there.
        """
        columns = torch.tensor([self.symbols.index(symbol) for symbol in symbols])
        # An asset's columns depend on its own bars alone. What compares assets is computed from these columns later.
        names = ("returns", "closes", "tradable", "fillable", "delisted", "scores", "volatility", "dollar_volume")
        chosen: dict[str, Any] = {name: getattr(self, name)[:, columns] for name in names}
        digest = hashlib.sha256(f"{self.fingerprint} only {' '.join(symbols)}".encode()).hexdigest()
        return replace(self, symbols=tuple(symbols), findings=(), fingerprint=digest, **chosen)

    def until(self, n_sessions: int) -> "Market":
        """The market's first sessions."""
        cut: dict[str, Any] = {
            f.name: value[:n_sessions] for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, sessions=self.sessions[:n_sessions], **cut)

    def with_future(self, sessions: Sequence[date]) -> "Market":
        """The market with rows for sessions to come, so that tensors made from it have a row for the next decision.

        The rows know nothing: no return, no score, prices as they were. A decision must not depend on them.

        Args:
            sessions: dates after the last session, in order.
        """
        n = len(sessions)

        def repeated(rows: Tensor) -> Tensor:
            return torch.cat([rows, rows[-1:].expand(n, *rows.shape[1:])])

        def with_value(rows: Tensor, value: float) -> Tensor:
            return torch.cat([rows, torch.full_like(rows[-1:], value).expand(n, *rows.shape[1:])])

        return replace(
            self,
            sessions=self.sessions.append(pd.DatetimeIndex(sessions).astype(self.sessions.dtype)),
            returns=with_value(self.returns, 0.0),
            closes=repeated(self.closes),
            cash_returns=repeated(self.cash_returns),
            tradable=repeated(self.tradable),
            fillable=with_value(self.fillable, True),
            delisted=repeated(self.delisted),
            scores=with_value(self.scores, torch.nan),
            volatility=with_value(self.volatility, torch.nan),
            dollar_volume=with_value(self.dollar_volume, torch.nan),
            days_to_next=with_value(self.days_to_next, 1),
        )

    def __repr__(self) -> str:
        first, last = self.sessions[0], self.sessions[-1]
        return (
            f"Market({self.source}: {len(self.symbols)} assets, {len(self.sessions)} sessions {first:%Y-%m-%d} to "
            f"{last:%Y-%m-%d}, {len(self.findings)} findings, {self.fingerprint[:12]})"
        )


def build_market(
    bars: Bars,
    *,
    cash_rate: float | Path = 0.0,
    calendar: str = "XNYS",
    listing_warmup: int = 60,
    on_findings: str = "repair",
    delisting_return: float = 0.0,
) -> Market:
    """Check bars and compute the market from them.

    Args:
        bars: as they were read.
        cash_rate: a constant annual rate, or a CSV/Parquet file of daily rates (see docs/data.md).
        calendar: exchange calendar by its ISO 10383 code; 'bars' takes the sessions from the bars.
        listing_warmup: bars that an asset needs before it is tradable.
        on_findings: 'repair' repairs what it can; 'strict' stops instead.
        delisting_return: simple return from an asset's last close to the cash paid for it.

    Raises:
        UserError: the bars cannot be repaired, or the calendar or the rates cannot be read.
    """
    checked = check_bars(bars, calendar, on_findings)
    bars, sessions, dates = checked.bars, checked.sessions, checked.sessions.dates
    fillable = _fillable(checked)
    delisted = delisted_mask(fillable)
    returns = _returns(bars, dates, delisted, delisting_return)
    closes = _closes(bars, dates)
    cash = torch.from_numpy(cash_returns(cash_rate, dates, sessions.per_year))
    rules = f"{calendar} {listing_warmup} {delisting_return} {bars.as_traded} {bars.symbols}"
    return Market(
        sessions=dates,
        symbols=bars.symbols,
        returns=returns,
        closes=closes,
        cash_returns=cash,
        tradable=tradable_mask(fillable, listing_warmup),
        fillable=fillable,
        delisted=delisted,
        scores=factor_scores(returns, fillable.cumsum(0) > 0, closes, sessions.per_year),
        volatility=rolling_volatility(returns),
        dollar_volume=_dollar_volume(bars, dates, closes),
        days_to_next=torch.from_numpy(sessions.days_to_next),
        sessions_per_year=sessions.per_year,
        findings=checked.findings + rate_findings(cash.numpy(), sessions.per_year, cash_rate) + level_findings(bars),
        fingerprint=_fingerprint(bars, rules, cash),
        source=bars.source,
    )


def market_of(bars: Bars, config: Config, cash_rate: float | Path | None = None) -> Market:
    """The market by a configuration's rules.

    Args:
        bars: as they were read.
        config: calendar, warm-up, findings and delisting.
        cash_rate: another one than the configuration's.

    Raises:
        UserError: see `build_market`.
    """
    return build_market(
        bars,
        cash_rate=config.cash_rate if cash_rate is None else cash_rate,
        calendar=config.calendar,
        listing_warmup=config.listing_warmup,
        on_findings=config.on_findings,
        delisting_return=config.delisting_return,
    )


def _fingerprint(bars: Bars, rules: str, cash: Tensor) -> str:
    digest = hashlib.sha256(f"{bars.fingerprint} {rules}".encode())
    digest.update(cash.numpy().tobytes())
    return digest.hexdigest()


def _fillable(checked: CheckedBars) -> Bool[Tensor, "session asset"]:
    """Sessions in which an asset has a usable bar. A bar without a trade, or with a fault, does not prove it is listed."""
    bars, dates = checked.bars, checked.sessions.dates
    blocked = bars.frame[["date", "symbol"]].assign(blocked=checked.blocked.to_numpy())
    blocked = blocked.pivot(index="date", columns="symbol", values="blocked").reindex(dates, columns=bars.symbols)
    return _tensor(_grid(bars, "adj_close", dates).notna() & ~blocked.eq(True))


def _returns(
    bars: Bars, sessions: pd.DatetimeIndex, delisted: Bool[Tensor, "session asset"], delisting_return: float
) -> Float[Tensor, "session asset"]:
    """Total returns. The holder of a delisted asset is paid in the first session after its last bar."""
    marked = _grid(bars, "adj_close", sessions).ffill()
    returns = _tensor((marked / marked.shift(1) - 1).fillna(0.0))
    first_after = delisted & ~torch.cat([torch.zeros_like(delisted[:1]), delisted[:-1]])
    return torch.where(first_after, delisting_return, returns.masked_fill(delisted, 0.0))


def _closes(bars: Bars, sessions: pd.DatetimeIndex) -> Float[Tensor, "session asset"]:
    closes = _tensor(_grid(bars, "close", sessions).ffill())
    return closes if bars.as_traded else torch.full_like(closes, torch.nan)


def _dollar_volume(
    bars: Bars, sessions: pd.DatetimeIndex, closes: Float[Tensor, "session asset"]
) -> Float[Tensor, "session asset"]:
    if "volume" not in bars.frame or not bars.as_traded:
        return torch.full_like(closes, torch.nan)
    traded = torch.nan_to_num(_tensor(_grid(bars, "volume", sessions)) * closes)
    # If an asset never has a volume, its volume is unknown; it does not mean that nobody trades it.
    return rolling_dollar_volume(traded).where(traded.gt(0).any(0), torch.nan)


def level_findings(bars: Bars) -> tuple[Finding, ...]:
    """Report a score that is left out because it would leak later information."""
    if bars.as_traded:
        return ()
    text = (
        "closes that may be adjusted for later splits and dividends would be a leak as a price level, so there is no size "
        "score: SIZE_SMALL holds equal weight, and what is observed of size is 0"
    )
    return (Finding(LEVEL_LEAK, "warning", f"{bars.source}: {text}.", action="no size score"),)


def _grid(bars: Bars, column: str, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """One column as a session × symbol table, in the universe's order."""
    table = bars.frame.pivot(index="date", columns="symbol", values=column)
    return table.reindex(index=sessions, columns=list(bars.symbols))


def _tensor(table: pd.DataFrame) -> Tensor:
    # A copy, because the arrays of pandas 3 are read-only, and torch warns about that.
    return torch.from_numpy(table.to_numpy(copy=True))
