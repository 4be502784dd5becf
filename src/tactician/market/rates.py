"""What cash earns: an annual rate, or a file of daily ones."""

from pathlib import Path

import numpy as np
import pandas as pd

from tactician.errors import UserError

MAX_RATE_AGE = 10
"""Sessions that a cash rate may be carried forward."""


def cash_returns(rate: float | Path, sessions: pd.DatetimeIndex, per_year: int = 252) -> np.ndarray:
    """What cash earns from each session to the next, at the rate quoted in the session.

    Args:
        rate: annual constant, compounded over the sessions of a year; or a file with a column ``date`` and ``rf_daily`` (simple
            daily rate) or ``rate_annual``. A missing day takes the last rate, up to 10 sessions old.
        sessions: whose rates are wanted.
        per_year: sessions in a year.

    Raises:
        UserError: the file cannot be read, or has no recent enough rate for a session.
    """
    if not isinstance(rate, Path):
        return np.full(len(sessions), (1 + rate) ** (1 / per_year) - 1)
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
        daily = (1 + table["rate_annual"].astype("float64")) ** (1 / per_year) - 1
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
