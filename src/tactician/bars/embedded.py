"""Real prices that come with a dependency: 20 large US stocks, no network needed."""

from datetime import date

import pandas as pd

from tactician.bars.bars import Bars, make_bars

_FIRST = date(2000, 1, 3)
"""Earlier prices are a few cents, rounded to 3 decimals: up to 13 % of the daily returns are zero."""


def embedded_bars(symbols: tuple[str, ...] | None = None, start: date | None = None, end: date | None = None) -> Bars:
    """Adjusted closes of skfolio's ``load_sp500_dataset``, 1990 to 2022, from 2000-01-03 on.

    The 20 stocks were chosen with hindsight. The closes are adjusted, so there is no price level and no size score.

    Raises:
        UserError: a symbol is not among the 20, or no session lies between the dates.
    """
    from skfolio.datasets import load_sp500_dataset  # seconds to import

    wide = load_sp500_dataset()
    wide.index.name, wide.columns.name = "date", "symbol"
    tidy = wide.stack().rename("close").reset_index()
    tidy["date"] = pd.to_datetime(tidy["date"]).astype("datetime64[ns]")
    tidy["symbol"] = tidy["symbol"].astype(str)
    tidy["adj_close"] = tidy["close"]
    return make_bars(tidy, "embedded", symbols, max(start or _FIRST, _FIRST), end)
