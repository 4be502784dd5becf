"""The market as it is known for a session: last closes, and a row for the decision."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import torch

from tactician.bars import Bars
from tactician.bars.hours import last_closed, session_after, trading_day
from tactician.bars.store import Refreshed, refresh
from tactician.config import Config
from tactician.environment import MarketTensors, build_market_tensors, cache_key
from tactician.errors import Refused
from tactician.market import market_of
from tactician.trading.advice import Advice, Advisor, Lived, Seat
from tactician.trading.simulated import Tape


@dataclass(frozen=True)
class KnownMarket:
    """What a cycle knows of the market (`tactician.trading.cycle.Known`)."""

    advisor: Advisor
    closes: Callable[[date], Mapping[str, float]]

    @property
    def regimes(self) -> tuple[str, ...]:
        """Names of the policy's regimes, in order."""
        return self.advisor.env.market.regimes.names

    def advise(self, session: date, seat: Seat, lived: list[Lived]) -> Advice:
        """See `Advisor.advise`."""
        return self.advisor.advise(session, seat, lived)


def market_until(config: Config, folder: Path, until: date) -> tuple[Refreshed, MarketTensors]:
    """The market up to a session, with rows for the next two, from bars that are brought up to date.

    Args:
        config: source, universe, calendar and rules, as the model was trained with.
        folder: where bars are kept.
        until: the last finished session.

    Raises:
        UserError: the bars cannot be read, or do not pass validation.
        Refused: they do not reach the session.
    """
    fresh = refresh(config, folder, until)
    last = fresh.bars.frame["date"].max().date()
    if last != until:
        raise Refused(
            f"The bars of {fresh.bars.source} end on {last}, and the last finished session is {until}: a decision would be "
            "old. Get newer bars, or ask for a past session with tactician signal --on."
        )
    return fresh, with_next_decision(fresh.bars, config)


def with_next_decision(bars: Bars, config: Config) -> MarketTensors:
    """The tensors of a market whose last row is the decision for the session after the bars.

    Raises:
        UserError: the bars do not pass validation.
    """
    market = market_of(bars, config)
    last = market.sessions[-1].date()
    coming = [session_after(config.calendar, last, n) for n in (1, 2)]
    built_from = {**cache_key(config), "source": market.source}
    return build_market_tensors(market.with_future(coming), config.regimes, config.groups, built_from)


def closes_of(bars: Bars, calendar: str) -> Callable[[date], Mapping[str, float]]:
    """The closes of the session before one that is asked for, as the bars have them."""
    frame = bars.frame

    def closes(session: date) -> Mapping[str, float]:
        day = trading_day(calendar, session)
        before = last_closed(calendar, day.opens).date if day else session
        rows = frame[frame["date"] == pd.Timestamp(before)]
        found = dict(zip(rows["symbol"], rows["close"].astype(float), strict=True))
        missing = [s for s in bars.symbols if not found.get(s, 0.0) > 0]
        if missing:
            raise Refused(
                f"{bars.source} has no bar of {', '.join(missing[:5])} for {before}, the session before; wait for it, or "
                "give other bars."
            )
        return found

    return closes


def closes_on_tape(tape: Tape) -> Callable[[date], Mapping[str, float]]:
    """Last prices of a simulated broker's tape."""

    def closes(session: date) -> Mapping[str, float]:
        row = tape.days.index((session - date(1970, 1, 1)) // timedelta(days=1))
        return dict(zip(tape.symbols, tape.prices[row - 1].tolist(), strict=True))

    return closes


def anchored(bars: Bars, market: MarketTensors) -> Tape:
    """A tape whose prices are the closes at the beginning of the market."""
    first = market.date_of(0)
    rows = bars.frame[bars.frame["date"] <= pd.Timestamp(first)].groupby("symbol")["close"].last()
    prices = [float(rows.get(symbol, 100.0)) for symbol in market.symbols]
    return Tape.of(market, torch.tensor(prices, dtype=torch.float64))
