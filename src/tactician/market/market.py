"""The validated market: what happened, session by session, as known after each close."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tactician.errors import UserError
from tactician.market.bars import Bars
from tactician.market.factors import factor_scores, rolling_dollar_volume, rolling_volatility, tradable_mask
from tactician.market.validation import Finding, validate

MAX_RATE_AGE = 10
"""Sessions that a cash rate may be carried forward."""


@dataclass(frozen=True)
class Market:
    """S sessions of A assets on the CPU, float64. Row s holds what is known after the close of session s."""

    sessions: pd.DatetimeIndex
    symbols: tuple[str, ...]
    returns: Float[Tensor, "session asset"]
    """Simple total return s − 1 → s; 0 where an asset has no price at both. A missing bar is marked at the last price."""
    closes: Float[Tensor, "session asset"]
    """Price level; NaN before the listing; the last known inside a gap and after the end."""
    cash_returns: Float[Tensor, " session"]
    """What cash earns from close s to close s + 1, at the rate quoted at s."""
    tradable: Bool[Tensor, "session asset"]
    scores: Float[Tensor, "session asset factor"]
    volatility: Float[Tensor, "session asset"]
    """Daily, over 20 sessions."""
    dollar_volume: Float[Tensor, "session asset"]
    """Mean over 20 sessions, in currency; NaN where the source has no volumes."""
    days_to_next: Int64[Tensor, " session"]
    """Calendar days to the exchange's next session."""
    findings: tuple[Finding, ...]
    fingerprint: str
    """sha256 of bars, cash rates and rules."""
    source: str

    def __repr__(self) -> str:
        first, last = self.sessions[0], self.sessions[-1]
        return (
            f"Market({self.source}: {len(self.symbols)} assets, {len(self.sessions)} sessions {first:%Y-%m-%d} to "
            f"{last:%Y-%m-%d}, {len(self.findings)} findings, {self.fingerprint[:12]})"
        )


def build_market(
    bars: Bars, *, cash_rate: float | Path = 0.0, calendar: str = "XNYS", listing_warmup: int = 60
) -> Market:
    """Validate bars and compute what follows from them.

    Args:
        bars: what was read.
        cash_rate: a constant annual rate, or a CSV/Parquet file of daily rates (see docs/data.md).
        calendar: exchange calendar by its ISO 10383 code.
        listing_warmup: bars that an asset needs before it is tradable.

    Raises:
        UserError: the bars do not pass validation, or the calendar or the rates cannot be read.
    """
    sessions, days_to_next = exchange_sessions(bars, calendar)
    findings = validate(bars, sessions)
    adjusted = _grid(bars, "adj_close", sessions)
    closes = _tensor(_grid(bars, "close", sessions).ffill())
    priced = _tensor(adjusted.notna())
    marked = adjusted.ffill()
    returns = _tensor((marked / marked.shift(1) - 1).fillna(0.0))
    cash = torch.from_numpy(cash_returns(cash_rate, sessions))
    if "volume" in bars.frame:
        traded = _tensor(_grid(bars, "volume", sessions)) * closes
        dollar_volume = rolling_dollar_volume(torch.nan_to_num(traded))
    else:
        dollar_volume = torch.full_like(returns, torch.nan)
    digest = hashlib.sha256(f"{bars.fingerprint} {calendar} {listing_warmup} {bars.symbols}".encode())
    digest.update(cash.numpy().tobytes())
    return Market(
        sessions=sessions,
        symbols=bars.symbols,
        returns=returns,
        closes=closes,
        cash_returns=cash,
        tradable=tradable_mask(priced, listing_warmup),
        scores=factor_scores(returns, closes),
        volatility=rolling_volatility(returns),
        dollar_volume=dollar_volume,
        days_to_next=torch.from_numpy(days_to_next),
        findings=findings,
        fingerprint=digest.hexdigest(),
        source=bars.source,
    )


def exchange_sessions(bars: Bars, calendar: str) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """The exchange's sessions from the first bar to the last, and the calendar days from each to the next one.

    Raises:
        UserError: no such calendar.
    """
    import exchange_calendars  # a second to import

    first, last = bars.frame["date"].iloc[0], bars.frame["date"].iloc[-1]
    try:
        exchange = exchange_calendars.get_calendar(
            calendar, start=first - pd.Timedelta(days=10), end=last + pd.Timedelta(days=15)
        )
    except (exchange_calendars.errors.InvalidCalendarName, ValueError) as error:
        raise UserError(f"calendar: there is no usable exchange calendar '{calendar}' ({error}); use XNYS.") from error
    every = exchange.sessions.astype("datetime64[ns]")
    inside = every[(every >= first) & (every <= last)]
    following = every[every.searchsorted(inside, side="right")]
    if len(inside) == 0:
        raise UserError(f"{bars.source} has no bar on a session of {calendar}; check dates and calendar.")
    return inside, (following - inside).days.to_numpy(dtype=np.int64, copy=True)


def cash_returns(rate: float | Path, sessions: pd.DatetimeIndex) -> np.ndarray:
    """What cash earns from each session to the next, at the rate quoted in the session.

    Args:
        rate: annual constant, compounded over 252 sessions; or a file with a column ``date`` and ``rf_daily`` (simple
            daily rate) or ``rate_annual``. A missing day takes the last rate, up to 10 sessions old.
        sessions: whose rates are wanted.

    Raises:
        UserError: the file cannot be read, or has no recent enough rate for a session.
    """
    if not isinstance(rate, Path):
        return np.full(len(sessions), (1 + rate) ** (1 / 252) - 1)
    try:
        table = pd.read_parquet(rate) if rate.suffix == ".parquet" else pd.read_csv(rate)
        dates = pd.to_datetime(table["date"]).astype("datetime64[ns]")
    except Exception as error:  # readers raise many kinds; all mean that the file is not readable
        raise UserError(
            f"cash_rate: cannot read {rate} ({error}); give a file with columns date and rf_daily."
        ) from error
    if "rf_daily" in table:
        daily = table["rf_daily"].astype("float64")
    elif "rate_annual" in table:
        daily = (1 + table["rate_annual"].astype("float64")) ** (1 / 252) - 1
    else:
        raise UserError(f"cash_rate: {rate} has neither a column rf_daily nor rate_annual; name one so.")
    series = pd.Series(daily.to_numpy(), index=pd.DatetimeIndex(dates)).sort_index()
    aligned = series.reindex(sessions.union(series.index)).ffill(limit=MAX_RATE_AGE).reindex(sessions)
    if aligned.isna().any():
        missing = sessions[aligned.isna().to_numpy().argmax()]
        raise UserError(
            f"cash_rate: {rate} has no rate for {missing:%Y-%m-%d} or the {MAX_RATE_AGE} days before; extend it."
        )
    return aligned.to_numpy(copy=True)


def _grid(bars: Bars, column: str, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """One column as a session × symbol table, in the universe's order."""
    table = bars.frame.pivot(index="date", columns="symbol", values=column)
    return table.reindex(index=sessions, columns=list(bars.symbols))


def _tensor(table: pd.DataFrame) -> Tensor:
    # A copy, because from pandas 3 on the array inside a table cannot be written to, of which torch warns.
    return torch.from_numpy(table.to_numpy(copy=True))
