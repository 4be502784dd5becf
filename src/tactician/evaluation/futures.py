"""Other futures: the same history up to a session, and another world from that session on.

Whatever belongs to a decision at the close of session t is known after the close of t − 1. So it must be the same before every
future that begins with t (`leaks`). Each future is a function of history, session and seed; bars before t stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tactician.bars import Bars
from tactician.market.factors import MAX_GAP

_PRICES = ("open", "high", "low", "close")
_LEVEL, _LARGEST_LEVEL, _DAILY = 0.5, 1.0, 0.05
"""Standard deviation and bound of an asset's move at the cut, and deviation of its daily noise, in log price. They are large
enough to change ranks, and small enough for no check to take them for a fault of the data."""
_LOWEST_RATE, _HIGHEST_RATE = -0.0005, 0.002
"""Bounds of a rate per session that a file of rates may have."""


@dataclass(frozen=True)
class History:
    """What a market is built from."""

    bars: Bars
    rates: pd.DataFrame | None = None
    """Columns date and rf_daily; None for a constant rate of cash, which has no future."""


@dataclass(frozen=True)
class Cut:
    """The session from which on the future is another one."""

    days: pd.DatetimeIndex
    """Session t and all later ones."""
    living: tuple[str, ...]
    """Assets with a bar in the session before, t − 1, at which an order could be filled."""

    @property
    def first(self) -> pd.Timestamp:
        """Session t."""
        return self.days[0]


Future = Callable[[History, Cut, int], History | None]
"""Another future, by history, cut and seed; None if it is not possible there."""


def noise(history: History, cut: Cut, seed: int) -> History:
    """Every price, volume and cash rate of the future is multiplied by noise, and every asset jumps at the cut."""
    rng = np.random.default_rng(seed)
    frame, later = _floats(history), None
    hit = (frame["date"] >= cut.first).to_numpy()
    codes, symbols = pd.factorize(frame["symbol"])

    def factor() -> np.ndarray:
        level = rng.normal(0, _LEVEL, len(symbols)).clip(-_LARGEST_LEVEL, _LARGEST_LEVEL)
        return np.exp(level[codes[hit]] + rng.normal(0, _DAILY, hit.sum()))

    together = factor()  # one factor for a day's prices keeps their order
    for column in _PRICES:
        if column in frame:
            frame.loc[hit, column] *= together
    frame.loc[hit, "adj_close"] *= factor()
    if "volume" in frame:
        frame.loc[hit, "volume"] *= np.exp(rng.normal(0, 1, hit.sum()))
    if history.rates is not None:
        later = history.rates.copy()
        ahead = (later["date"] >= cut.first).to_numpy()
        moved = later["rf_daily"][ahead] * rng.uniform(0.5, 1.5, ahead.sum()) + rng.uniform(0, 1e-4, ahead.sum())
        later.loc[ahead, "rf_daily"] = moved.clip(_LOWEST_RATE, _HIGHEST_RATE)
    return _with(history, frame, later)


def end(history: History, cut: Cut, seed: int) -> History:
    """The bars end before the cut, as they do in live use.

    A few flat bars at the last known prices follow, because a row needs a session to trade in and one to earn in. There are
    enough of them to tell a halted asset from a delisted one, as in the data.
    """
    window = cut.days[: MAX_GAP + 2]
    frame = _floats(history)
    before, usable = frame["date"] < cut.first, frame[["close", "adj_close"]].gt(0).all(axis=1)
    if "volume" in frame:
        usable &= ~frame["volume"].eq(0)  # an unchanged price without volume would be no trade
    past, ahead = frame[before], frame[~before]
    # An asset that is not listed yet must have some bar, or the universe would be refused.
    last = pd.concat([frame[before & usable].groupby("symbol").tail(1), ahead.groupby("symbol").head(1)])
    last = last.drop_duplicates("symbol", keep="first").set_index("symbol")
    inside = ahead[ahead["date"] <= window[-1]]
    absent = sorted(set(ahead["symbol"]) - set(inside["symbol"]))
    rows = pd.concat([inside[["date", "symbol"]], pd.DataFrame({"date": window[-1], "symbol": absent})])
    flat = rows.join(last.drop(columns="date"), on="symbol")
    rates = history.rates
    if rates is not None:
        then = rates[rates["date"] < cut.first]["rf_daily"]
        rates = rates.assign(rf_daily=rates["rf_daily"].where(rates["date"] < cut.first, then.iloc[-1]))
    return _with(history, pd.concat([past, flat]), rates)


def endings(history: History, cut: Cut, seed: int) -> History | None:
    """From the cut on a quarter of the assets is never traded again, and another quarter is halted.

    An asset that could not be traded just before the cut keeps its fate: the ledger tells a delisting from a halt by what
    follows.
    """
    living = _shuffled(cut.living, seed)
    quarter = max(1, len(living) // 4)
    ended = living[:quarter] if len(living) >= 3 else living[:0]
    halted = living[len(ended) : len(ended) + quarter] if len(living) != 3 else living[:0]
    if len(ended) + len(halted) == 0 or len(living) < 2:
        return None
    # With two assets a long halt would leave less than two tradable ones.
    length = MAX_GAP + 3 if len(ended) else MAX_GAP
    frame = history.bars.frame
    ahead = frame["date"] >= cut.first
    halt = frame["date"] < cut.days[min(length, len(cut.days) - 1)]
    gone = ahead & (frame["symbol"].isin(ended) | (frame["symbol"].isin(halted) & halt))
    return _with(history, frame[~gone], history.rates)


def splits(history: History, cut: Cut, seed: int) -> History | None:
    """Half of the assets split two for one at the cut, and the vendor scales its adjusted prices of the past.

    A later dividend scales the past in the same way. A half is exact in binary, so returns keep their bits, and only a price
    level changes.
    """
    living = _shuffled(cut.living, seed)
    chosen = living[: max(1, len(living) // 2)]
    if len(chosen) == 0:
        return None
    frame = _floats(history)
    ours = frame["symbol"].isin(chosen)
    past = ours & (frame["date"] < cut.first)
    frame.loc[past, "adj_close"] *= 0.5
    # As traded, the price halves from the split on; otherwise the whole past is delivered at today's level.
    moved = ours & ~past if history.bars.as_traded else past
    for column in _PRICES:
        if column in frame:
            frame.loc[moved, column] *= 0.5
    if "volume" in frame:
        frame.loc[moved, "volume"] *= 2
    return _with(history, frame, history.rates)


FUTURES: dict[str, Future] = {"noise": noise, "end": end, "endings": endings, "splits": splits}
"""By name, in the order in which they are tried."""

SAID = {
    "noise": "prices, volumes and cash rates from then on are others",
    "end": "the bars end before it",
    "endings": "some assets are delisted or halted from then on",
    "splits": "some assets split then",
}
"""What differs, as a clause."""


def _shuffled(symbols: tuple[str, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.array(symbols, dtype=object))


def _floats(history: History) -> pd.DataFrame:
    """A copy of the bars whose numbers can be multiplied; whole numbers keep their value."""
    frame = history.bars.frame
    return frame.astype({column: "float64" for column in frame if column not in ("date", "symbol")})


def _with(history: History, frame: pd.DataFrame, rates: pd.DataFrame | None) -> History:
    ordered = frame.sort_values(["date", "symbol"], kind="stable").reset_index(drop=True)
    return replace(history, bars=replace(history.bars, frame=ordered), rates=rates)
