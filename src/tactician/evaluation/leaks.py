"""A search for look-ahead: change the future, build the market again, and compare the past bit for bit.

For several sessions t the history from t on is replaced by other futures (`futures`). The decision at the close of t knows the
sessions up to t − 1. So nothing that belongs to it, or to a decision before it, may depend on which future follows. Fills and
returns are the ledger's, and are compared up to the last session that is the same in all futures.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.environment import (
    FEATURE_NAMES,
    HOLD,
    OBSERVATION_NAMES,
    Environment,
    MarketTensors,
    first_state,
    fit_normaliser,
    normalise,
    observe,
    step,
)
from tactician.errors import UserError
from tactician.evaluation.futures import FUTURES, SAID, Cut, Future, History
from tactician.market import FACTORS
from tactician.policy import Network
from tactician.portfolio.frictions import Frictions

Moments = tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]
Build = Callable[[History], MarketTensors]
Tell = Callable[[int, int, str], None]

_PATH, _PORTFOLIOS = 64, 3
"""Sessions up to a cut through which portfolios are taken, and how many of them."""
_EPOCH = date(1970, 1, 1)
_FEWEST = 4
"""Rows that a market needs for a cut with something before and after it."""


@dataclass(frozen=True)
class Decisions:
    """How decisions are made from a market: what they see beside the market's own tables."""

    frictions: Frictions = field(default_factory=Frictions)
    portfolio_value: float = 1.0
    train_until: date | None = None
    """Last session of the range on which the normaliser is fitted; None for all sessions before a cut."""
    fit: Callable[[MarketTensors, range], Moments] = fit_normaliser
    """Fits the normaliser on some rows."""
    policy: Network | None = None
    moments: Moments | None = None
    """The policy's own normaliser, which was frozen in training."""


@dataclass(frozen=True)
class Leak:
    """A value that knew the future."""

    table: str
    """Table of the first value that differs, in the order in which tables follow from one another."""
    entry: str
    """Which value of the table's row; '' if the row is one value."""
    session: date
    """Session of the decision whose row differs, the earliest one."""
    cut: date
    """First session whose inputs were changed."""
    early: int
    """Sessions by which the value knew more than it may, at least."""
    future: str
    """Which of the `FUTURES` showed it."""
    before: str
    """The value in the history as it is."""
    after: str
    """The value in the history with the other future."""
    also: tuple[str, ...] = ()
    """The other tables in which something differs."""
    hint: str = ""
    """What is known about the cut, as a sentence."""

    def __str__(self) -> str:
        """One sentence, and the hint."""
        what = f"{self.table} {self.entry}".strip()
        sessions = "session" if self.early == 1 else "sessions"
        more = f" (seen in {', '.join(self.also)} too)" if self.also else ""
        return (
            f"{what} of the decision on {self.session} knows {self.cut}, {self.early} {sessions} too early: it is "
            f"{self.before}, but {self.after} if {SAID.get(self.future, self.future)}{more}. {self.hint}"
        ).strip()


@dataclass(frozen=True)
class LeakCheck:
    """What a search compared, and what it found."""

    leak: Leak | None
    """The first one; the search ends there."""
    values: int
    """Values compared."""
    cuts: tuple[date, ...]
    futures: tuple[str, ...]
    compared: int
    """Markets built with another future and compared."""
    refused: tuple[str, ...] = ()
    """Futures that could not be built, with the reason."""

    def __str__(self) -> str:
        """The result in one or two sentences."""
        if self.leak is not None:
            return f"Leak: {self.leak}"
        return (
            f"No leak: {self.values:,} values at {len(self.cuts)} cuts × {len(self.futures)} futures compared, all equal to "
            "the bit."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        leak = None
        if self.leak is not None:
            days = {"session": str(self.leak.session), "cut": str(self.leak.cut), "also": list(self.leak.also)}
            leak = {**vars(self.leak), **days, "sentence": str(self.leak)}
        return {
            "leak": leak,
            "values": self.values,
            "cuts": [str(day) for day in self.cuts],
            "futures": list(self.futures),
            "compared": self.compared,
            "refused": list(self.refused),
        }


@dataclass(frozen=True)
class _Table:
    """Values by row. Row r may know sessions up to r + ``knows``."""

    name: str
    values: Tensor
    """[row, …]."""
    names: tuple[Sequence[str], ...] = ()
    """Names along the dimensions after the first."""
    knows: int = -1
    first: int = 0
    """Row of the market that the first row belongs to."""

    def entry(self, index: Sequence[int]) -> str:
        """The name of a value of a row."""
        return " ".join(names[k] for names, k in zip(self.names, index, strict=True))

    def told(self, index: Sequence[int]) -> str:
        """A value with all the digits that tell its bits."""
        if index[0] >= len(self.values):
            return "missing"
        value = self.values[tuple(index)]
        if self.name == "session":
            return str(_EPOCH + timedelta(days=int(value)))
        if value.dtype == torch.bool:
            return "yes" if value else "no"
        return f"{float(value):.9g}" if value.is_floating_point() else str(int(value))


def find_leak(
    build: Build,
    history: History,
    decisions: Decisions | None = None,
    *,
    cuts: int = 5,
    at: Mapping[date, str] | None = None,
    futures: Mapping[str, Future] = FUTURES,
    seed: int = 0,
    tell: Tell = lambda done, total, detail: None,
) -> LeakCheck:
    """Search for a value that depends on what follows.

    Args:
        build: makes the market of a history. It is what is checked.
        history: as it is.
        decisions: what is made of the market.
        cuts: number of cuts spread over the rows. The start of the range after training and the last but three are added.
        at: further sessions to cut at, with a hint for each. What is no decision session is passed over.
        futures: by name.
        seed: of the futures.
        tell: told of the progress.

    Raises:
        UserError: the market cannot be built or is too short, or no other future can be built.
    """
    decisions, at = decisions or Decisions(), at or {}
    calm = build(history)
    rows = choose_cuts(calm, cuts, at, decisions.train_until)
    days = tuple(calm.date_of(row) for row in rows)
    plan = [(row, seed + i, name) for i, row in enumerate(rows) for name in futures]
    values, compared, leak, refused = 0, 0, None, []
    for done, (row, its_seed, name) in enumerate(plan):
        tell(done, len(plan), f"{name} from {calm.date_of(row)}")
        try:
            other = futures[name](history, _cut(calm, row), its_seed)
            if other is None:
                continue
            count, leak = _compare(calm, build(other), decisions, row, name)
        except UserError as error:
            refused.append(f"{name} from {calm.date_of(row)}: {error}")
            continue
        values, compared = values + count, compared + 1
        if leak is not None:
            leak = replace(leak, hint=at.get(leak.cut, ""))
            break
    if not compared:
        raise UserError(f"No other future can be built ({refused[0] if refused else 'none is possible'}).")
    return LeakCheck(leak, values, days, tuple(futures), compared, tuple(refused))


def choose_cuts(market: MarketTensors, count: int, at: Iterable[date], train_until: date | None) -> tuple[int, ...]:
    """Rows to cut at: spread over the market, at given sessions, after the training range, and near the end.

    Raises:
        UserError: the market is too short.
    """
    n = market.n_days
    if n < _FEWEST:
        raise UserError(f"The market has {n} decision sessions, too few to cut; give a longer history.")
    lowest = max(2, min(_PATH, n // 4))
    rows = {round(x) for x in np.linspace(lowest, n - 1, count)} | {n - 4}
    if train_until is not None:
        rows.add(market.rows(train_until, None).start)
    row_of = {int(day): row for row, day in enumerate(market.dates)}
    rows |= {row_of.get((day - _EPOCH).days, 0) for day in at}
    return tuple(sorted(row for row in rows if 2 <= row < n))


def _cut(market: MarketTensors, row: int) -> Cut:
    days = pd.to_datetime(torch.cat([market.dates[row:], market.end_dates[-1:]]).numpy(), unit="D")
    living = market.fillable[row - 1].tolist()
    return Cut(pd.DatetimeIndex(days), tuple(s for s, alive in zip(market.symbols, living, strict=True) if alive))


def _compare(
    calm: MarketTensors, market: MarketTensors, decisions: Decisions, row: int, future: str
) -> tuple[int, Leak | None]:
    """Compare all that may not depend on the future from a row's session on.

    Returns:
        The number of values compared, and the first that differs.
    """
    # The session of the cut itself may be missing from another future, where nobody traded. Then its decision is, too.
    last = row if torch.equal(calm.dates[: row + 1], market.dates[: row + 1]) else row - 1
    comparable = market.symbols == calm.symbols and torch.equal(calm.dates[:row], market.dates[:row])
    before, after = ([], []) if not comparable else (_tables(each, decisions, last) for each in (calm, market))
    firsts = [*_universes(calm.symbols, market.symbols), *(_Table("session", each.dates) for each in (calm, market))]
    values, found = 0, []
    for one, other in [firsts[:2], firsts[2:], *_pairs(before, after)]:
        known = max(0, last - one.knows - one.first)  # rows whose sessions all lie before the cut
        values += one.values[:known].numel()
        differ = _bits_differ(one.values[:known], other.values[:known])
        if differ.any():
            found.append((one, other, differ))
    if not found:
        return values, None
    one, other, differ = found[0]
    k, *index = torch.nonzero(differ)[0].tolist()
    leak = Leak(
        table=one.name,
        entry=one.entry(index),
        session=calm.date_of(one.first + k),
        cut=calm.date_of(row),
        early=row - (one.first + k + one.knows),
        future=future,
        before=one.told((k, *index)),
        after=other.told((k, *index)),
        also=tuple(table.name for table, _, _ in found[1:]),
    )
    return values, leak


def _pairs(before: Sequence[_Table], after: Sequence[_Table]) -> Iterable[tuple[_Table, _Table]]:
    """The tables of two markets by name. If one is missing, all of its rows are."""
    theirs = {table.name: table for table in after}
    return ((table, theirs.get(table.name, replace(table, values=table.values[:0]))) for table in before)


def _bits_differ(a: Tensor, b: Tensor) -> Bool[Tensor, "..."]:
    """Where two tensors differ in a bit. Not available is equal to not available; a row that b lacks differs."""
    if len(b) < len(a):
        return torch.cat([_bits_differ(a[: len(b)], b), torch.ones_like(a[len(b) :], dtype=torch.bool)])
    if not a.is_floating_point():
        return a != b
    bits = {torch.float32: torch.int32, torch.float64: torch.int64}[a.dtype]
    return (a.contiguous().view(bits) != b.contiguous().view(bits)) & ~(a.isnan() & b.isnan())


def _universes(ours: Sequence[str], theirs: Sequence[str]) -> tuple[_Table, _Table]:
    """The assets of two markets as a row each: whether an asset is there; or, of the same assets, whether in its place."""
    names = tuple(dict.fromkeys((*ours, *theirs)))
    here, there = ([name in some for name in names] for some in (ours, theirs))
    if here == there:
        there = [a == b for a, b in zip(ours, theirs, strict=True)]
    return _Table("universe", torch.tensor([here]), (names,)), _Table("universe", torch.tensor([there]), (names,))


def _tables(market: MarketTensors, decisions: Decisions, last: int) -> list[_Table]:
    """All that the decisions up to a row see, in the order in which it follows from one another."""
    moments, fitted = _moments(market, decisions, last)
    path = range(max(1, last + 1 - _PATH), last + 1)
    normal = normalise(market, *(decisions.moments or moments))
    seen = torch.stack(list(_observed(normal, decisions, path)))
    slots = [f"of portfolio {k}" for k in range(_PORTFOLIOS)]
    tables = [
        *_of_market(market),
        *(table for k in range(len(market.beside)) for table in _of_further(market, k)),
        _Table("normaliser", torch.stack(moments)[None], (("mean of", "deviation of"), FEATURE_NAMES), -1, fitted),
        _Table("observation", seen.transpose(1, 2), (OBSERVATION_NAMES, slots), first=path.start),
    ]
    if decisions.policy is not None:
        probabilities = _probabilities(decisions.policy, seen)
        names = (market.regimes.names, slots)
        tables.append(_Table("action probability", probabilities.transpose(1, 2), names, first=path.start))
    return tables


def _of_market(market: MarketTensors) -> list[_Table]:
    symbols, regimes = market.symbols, market.regimes.names
    per_year = torch.full((market.n_days,), market.sessions_per_year)
    return [
        _Table("sessions per year", per_year),
        _Table("return", market.returns, (symbols,), knows=1),
        _Table("return of cash", market.cash_return, knows=0),
        _Table("fillable", market.fillable, (symbols,), knows=0),
        _Table("delisted", market.delisted, (symbols,), knows=0),
        _Table("tradable", market.tradable, (symbols,)),
        _Table("volatility", market.vol_daily, (symbols,)),
        _Table("traded value", market.dollar_volume, (symbols,)),
        _Table("factor rank", market.factor_ranks.transpose(1, 2), (FACTORS, symbols)),
        _Table("feature", market.features, (FEATURE_NAMES,)),
        _Table("target", market.regime_weights, (regimes, (*symbols, "cash"))),
    ]


def _of_further(market: MarketTensors, number: int) -> Iterable[_Table]:
    """Tables of a further market, in the rows of the market: of the sessions that both have, if they are the same."""
    other, first = market.beside[number], int((market.dates < market.beside[number].dates[0]).sum())
    if not torch.equal(other.dates, market.dates[first : first + other.n_days]):
        return
    for table in _of_market(other):
        yield replace(table, name=f"{table.name} of further market {number + 1}", first=first)


def _moments(market: MarketTensors, decisions: Decisions, last: int) -> tuple[Moments, int]:
    """The normaliser, and the last row it was fitted on: of the training range, or of its part before the cut."""
    stop = min(market.rows(None, decisions.train_until).stop, last + 1)
    return decisions.fit(market, range(1, max(stop, 3))), max(stop, 3) - 1


def _observed(market: MarketTensors, decisions: Decisions, rows: range) -> Iterable[Float[Tensor, "env 64"]]:
    """Observations of some portfolios along a path of arbitrary, fixed actions: a third of them trades."""
    env = Environment(
        market,
        decisions.frictions,
        rows,
        len(rows),
        portfolios_per_window=_PORTFOLIOS,
        portfolio_value=decisions.portfolio_value,
        random_slippage=False,
    )
    state, slot = first_state(env, torch.zeros(1, dtype=torch.int64)), torch.arange(_PORTFOLIOS)
    for row in rows:
        yield observe(env, state)
        action = torch.where((row + slot) % 3 == 0, (5 * row + 3 * slot) % market.regimes.n_actions, HOLD)
        state, _ = step(env, state, action)


@torch.no_grad()
def _probabilities(policy: Network, seen: Float[Tensor, "step env 64"]) -> Float[Tensor, "step env action"]:
    logits, _, _ = policy(seen, policy.initial_state(seen.shape[1]))
    return logits.softmax(-1)
