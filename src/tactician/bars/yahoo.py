"""Bars from Yahoo through yfinance: as-traded and total-return closes."""

import logging
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd

from tactician.bars.bars import Bars, make_bars
from tactician.errors import UserError

_RENAMED = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Adj Close": "adj_close",
    "Volume": "volume",
}


def yahoo_bars(
    symbols: tuple[str, ...], start: date | None = None, end: date | None = None, *, zone: str | None = None
) -> Bars:
    """Download daily bars. ``close`` is as traded on the day, ``adj_close`` as Yahoo adjusts it.

    Yahoo's own "Close" is adjusted for all splits until today. Multiplying it by the ratios of all later splits gives the
    price that was traded. The download therefore always runs until today, and is cut at ``end`` afterwards. Otherwise a
    split after ``end`` would stay in the closes.

    Args:
        symbols: as Yahoo writes them.
        start: first date; None for 1990.
        end: last date; None for the latest.
        zone: IANA zone of the exchange whose close the caller knows. Bars from this zone are all kept, also one of today that
            may still be moving. A bar from another zone is left out until its day is over there.

    Raises:
        UserError: the download failed, or a symbol came back empty.
    """
    import yfinance  # a second to import

    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # a failure is reported once, by our own message
    frames = [_history(yfinance, symbol, start, zone) for symbol in symbols]
    return make_bars(pd.concat(frames, ignore_index=True), "yfinance", symbols, start, end, as_traded=True)


def _history(yfinance: Any, symbol: str, start: date | None, zone: str | None) -> pd.DataFrame:
    remedy = "check the network and the symbol, or give a file with --bars FILE"
    try:
        history = yfinance.Ticker(symbol).history(
            start=str(start or "1990-01-01"),
            auto_adjust=False,
            actions=True,
            raise_errors=True,
        )
    except Exception as error:  # yfinance passes on whatever its transport raises
        raise UserError(f"yfinance could not download {symbol} ({type(error).__name__}); {remedy}.") from error
    if history.empty:
        raise UserError(f"yfinance returned no bars of {symbol}; {remedy}.")
    local = history.index.tz_localize(None) if history.index.tz is not None else history.index
    frame = history.rename(columns=_RENAMED)[list(_RENAMED.values())].astype("float64").reset_index(drop=True)
    frame.insert(0, "date", local.normalize().to_numpy().astype("datetime64[ns]"))
    frame.insert(1, "symbol", symbol)
    ratio = later_splits(history.get("Stock Splits", pd.Series(0.0, index=history.index)))
    for column in ("open", "high", "low", "close"):
        frame[column] *= ratio
    frame["volume"] /= ratio
    own = history.index.tz or UTC
    today = pd.Timestamp(datetime.now(own).date())
    return frame if str(own) == zone else frame[frame["date"] < today]


def later_splits(splits: pd.Series) -> Any:
    """Product of the split ratios after each day (0 means no split), as an array."""
    ratio = splits.where(splits > 0, 1.0).to_numpy()
    after = ratio[::-1].cumprod()[::-1]
    return after / ratio
