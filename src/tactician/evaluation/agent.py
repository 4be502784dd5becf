"""Evaluation of the agent over one range: one deterministic pass, beside the baselines, through the same ledger."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment import FULL_CASH, HOLD, Environment, MarketTensors
from tactician.errors import UserError
from tactician.evaluation.backtest import Path, action_targets, backtest
from tactician.evaluation.baselines import AGENT, EQUAL_WEIGHT, always, baseline_targets
from tactician.evaluation.decisions import Decisions, decide
from tactician.evaluation.inference import Interval, minimum_detectable_return_difference
from tactician.evaluation.inference import return_difference as return_difference_interval
from tactician.evaluation.question import Question
from tactician.evaluation.statistics import Performance, difference, performance, return_difference
from tactician.evaluation.table import performance_table
from tactician.monitor.tables import as_text, print_table
from tactician.policy import Network
from tactician.storage import plain

MATTERS = 0.001
"""A smaller difference in annual return does not matter to an investor: 0.1 % per year."""


Side = Literal["above", "below", "not distinguishable", "not available"]


class NotFinite(UserError):
    """The growth of a strategy or an output of the policy is not finite, so there is no result."""


class PolicyNotFinite(NotFinite):
    """An output of the policy is not finite."""

    def __init__(self) -> None:
        super().__init__("outputs of the policy are not finite numbers")


@dataclass(frozen=True)
class Evaluation:
    """The agent and the baselines over one range."""

    first: str
    last: str
    performances: dict[str, Performance]
    """Figures by strategy: the agent, then the baselines in their order."""
    growth_beyond_equal_weight: float
    """Annual log growth of the agent beyond equal weight."""
    standard_error: float
    """Of that difference."""
    return_beyond_equal_weight: float
    """Annual return of the agent minus that of equal weight, in the unit of ``performances``."""
    return_standard_error: float
    """Of that difference (`return_difference`)."""
    regime_use: dict[str, float]
    """Share of the sessions in which the agent chose each regime."""
    trade_return: float
    """Mean simple net return of the agent's closed trades; NaN without a closed trade."""
    win_rate: float
    """Share of the closed trades with a gain; NaN without a closed trade."""
    path: Path
    """Strategies in the order of ``performances``."""
    caveat: str | None = None
    """Why the range is no evidence; None if it is. Every verdict ends with it."""
    universe: str | None = None
    """What the verdict says of a universe that the model was not trained on; None of its own."""
    notes: tuple[str, ...] = ()
    """What makes the result worth less than it looks (`reservations`)."""

    def __repr__(self) -> str:
        """The report."""
        table = performance_table(self.performances, f"{self.first} to {self.last}")
        lines = (f"Verdict: the agent is {self.verdict}.", *self.notes)
        return as_text(lambda console: print_table(console, table)) + "".join(f"\n  {line}" for line in lines)

    @cached_property
    def interval(self) -> Interval:
        """Annual return beyond equal weight with its 95 % confidence interval, from paired days (`return_difference`)."""
        if self.return_beyond_equal_weight is None or not math.isfinite(self.return_beyond_equal_weight):
            return Interval(math.nan, math.nan, math.nan)
        return beyond(self.path, AGENT, EQUAL_WEIGHT)

    @cached_property
    def detectable(self) -> float:
        """The smallest difference of annual returns that these sessions could have shown, with a power of 80 %."""
        if not math.isfinite(self.interval.value):
            return math.nan
        mine, theirs = (self.path.growth[:, self.path.column(k)].cpu().numpy() for k in (AGENT, EQUAL_WEIGHT))
        return minimum_detectable_return_difference(mine, theirs, self.path.sessions_per_year)

    @property
    def power(self) -> str | None:
        """What these sessions could have shown, in words."""
        if not math.isfinite(self.detectable):
            return None
        return (
            f"In {self.performances[AGENT].sessions:,} such sessions, a true difference of {100 * self.detectable:.1f} % per "
            "year would be found in four cases of five; smaller ones less often."
        )

    @property
    def side(self) -> Side:
        """The verdict in two words, from the interval alone."""
        return side_of(self.interval)

    @property
    def verdict(self) -> str:
        """The agent compared with equal weight, with the uncertainty. The text continues 'the agent is'."""
        said = told_verdict(self.interval, self.detectable)
        return "; ".join(part for part in (said, self.universe, self.caveat) if part)

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; None for a figure that is not available."""
        figures = {
            "first_session": self.first,
            "last_session": self.last,
            **{name: figures.as_dict() for name, figures in self.performances.items()},
            "growth_beyond_equal_weight": self.growth_beyond_equal_weight,
            "growth_beyond_equal_weight_standard_error": self.standard_error,
            "return_beyond_equal_weight": self.return_beyond_equal_weight,
            "return_beyond_equal_weight_standard_error": self.return_standard_error,
            "return_beyond_equal_weight_low": self.interval.low,
            "return_beyond_equal_weight_high": self.interval.high,
            "detectable_return_difference": self.detectable,
            "verdict": self.verdict,
            "caveat": self.caveat,
            "universe": self.universe,
            "regime_use": self.regime_use,
            "trade_return": self.trade_return,
            "win_rate": self.win_rate,
        }
        return {name: plain(value) for name, value in figures.items()}


def reservations(looks: int, hindsight: bool, spread: str | None = None, other_data: bool = False) -> tuple[str, ...]:
    """What makes a result worth less than it looks.

    Args:
        looks: how often the model, or one that it comes from, was judged on this test range, this time included.
        hindsight: whether the universe was picked knowing how it would do.
        spread: how the result hangs on the first holdings (`Judged.spread`).
        other_data: whether the model was trained on other data than it is judged on.
    """
    said = [] if spread is None else [spread]
    if other_data:
        said.append("The model was trained on other data: their fingerprint is not that of this market.")
    if looks > 1:
        said.append(
            f"This test range was looked at {looks} times: what was changed in between may have been fitted to it."
        )
    if hindsight:
        said.append("The universe was picked with hindsight: compare with equal weight of the same assets only.")
    return tuple(said)


def beyond(path: Path, strategy: str, other: str) -> Interval:
    """Annual return of one strategy beyond another's, with its 95 % confidence interval."""
    mine, theirs = (path.growth[:, path.column(name)].cpu().numpy() for name in (strategy, other))
    return return_difference_interval(mine, theirs, path.sessions_per_year)


def side_of(gap: Interval) -> Side:
    """'above' or 'below' for a difference that matters and whose interval excludes zero; otherwise nothing is claimed."""
    if not all(map(math.isfinite, (gap.value, gap.low, gap.high))):
        return "not available"
    if gap.low <= 0 <= gap.high or abs(gap.value) < MATTERS:
        return "not distinguishable"
    return "above" if gap.value > 0 else "below"


def told_verdict(gap: Interval, detectable: float) -> str:
    """The verdict in words.

    Args:
        gap: annual return beyond equal weight.
        detectable: smallest difference that the sessions could have shown, see `Evaluation.detectable`.
    """
    side = side_of(gap)
    if side == "not available":
        return "not judged beside equal weight, because the figures are not available"
    if gap.value == gap.low == gap.high == 0:
        return "equal weight: it makes the same trades"
    value, low, high = (f"{100 * x:+.1f}" for x in (gap.value, gap.low, gap.high))
    measured = f"{value} % per year beside it, 95 % confidence interval {low} to {high}"
    if side != "not distinguishable":
        return f"{side} equal weight ({measured}); one path proves little"
    seen = f"; these sessions could have shown ±{100 * detectable:.1f} %" if math.isfinite(detectable) else ""
    return f"not distinguishable from equal weight ({measured}{seen})"


def evaluate(env: Environment, policy: Network, rows: range) -> Evaluation:
    """Judge a policy over a range of rows, beside the baselines that are always there.

    Args:
        env: gives the market (features normalised), frictions and portfolio value.
        policy: the agent.
        rows: decision rows, at least two.

    Raises:
        NotFinite: a growth of the agent or a baseline, or an output of the policy, is not a finite number.
    """
    market = env.market
    decisions = decide(env, (policy,), rows)
    agent, hold = action_targets(market, rows, decisions.actions[:, 0])
    names, targets, baseline_hold = baseline_targets(Question(market, rows))
    targets, hold = torch.cat([agent.double(), targets], 1), torch.cat([hold, baseline_hold], 1)
    path = backtest(market, rows, targets, hold, env.frictions, env.portfolio_value, (AGENT, *names), liquidate=True)
    return summarised(market, decisions, path)


def summarised(market: MarketTensors, decisions: Decisions, path: Path) -> Evaluation:
    """The agent's figures beside those of the baselines that are always there.

    Args:
        market: of the decisions.
        decisions: the agent's.
        path: the agent and baselines; others are left out.

    Raises:
        NotFinite: see `evaluate`.
    """
    rows, actions = decisions.rows, decisions.actions[:, 0]
    path = path.only((AGENT, *(name for name in path.strategies if name in always())))
    if not path.is_finite:
        raise NotFinite(_what_is_not_finite(market, rows, path))
    if not decisions.finite:  # checked second: a market that is not finite makes the policy's outputs not finite, too
        raise PolicyNotFinite
    growth, growth_error = difference(path, AGENT, EQUAL_WEIGHT)
    gap, error = return_difference(path, AGENT, EQUAL_WEIGHT)
    trades = closed_trades(market.canonical_regimes(rows)[actions], path.growth[:, path.column(AGENT)])
    use = torch.bincount(actions, minlength=market.regimes.n_actions).double() / len(actions)
    return Evaluation(
        first=str(market.date_of(rows.start)),
        last=str(market.date_of(rows.stop - 1)),
        performances={name: performance(path, name) for name in path.strategies},
        growth_beyond_equal_weight=growth,
        standard_error=growth_error,
        return_beyond_equal_weight=gap,
        return_standard_error=error,
        regime_use=dict(zip(market.regimes.names, use.tolist(), strict=True)),
        trade_return=float(trades.mean()) if len(trades) else math.nan,
        win_rate=float((trades > 0).double().mean()) if len(trades) else math.nan,
        path=path,
    )


def _what_is_not_finite(market: MarketTensors, rows: range, path: Path) -> str:
    finite = torch.cat([path.growth, path.cash_growth[:, None]], 1).isfinite()
    step, strategy = torch.nonzero(~finite)[0].tolist()
    name = (*path.strategies, "the cash rate")[strategy].replace("_", " ")
    return f"the growth of {name} is not a finite number on {market.date_of(rows[step])}"


def closed_trades(actions: Int64[Tensor, " step"], growth: Float[Tensor, " step"]) -> Float[Tensor, " trade"]:
    """Simple net returns of the closed trades. A trade lasts from buying a regime until the move into another one.

    Cash is not a trade. A move between regimes with the same targets does not end a trade.

    Args:
        actions: regime of each session, by its canonical number (`MarketTensors.canonical_regimes`). HOLD continues the
            regime before.
        growth: log growth of each session, net of cost.
    """
    returns, regime, total = [], HOLD, 0.0
    for action, step_growth in zip(actions.tolist(), growth.tolist(), strict=True):
        if action not in (HOLD, regime):
            if regime not in (HOLD, FULL_CASH):
                returns.append(math.expm1(total))
            regime, total = action, 0.0
        total += step_growth
    return torch.tensor(returns, dtype=torch.float64)
