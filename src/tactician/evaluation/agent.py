"""Evaluation of the agent over one range: one deterministic pass, beside the baselines, through the same ledger."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment import FULL_CASH, HOLD, Environment, MarketTensors, first_state, observe, step
from tactician.errors import UserError
from tactician.evaluation.backtest import Path, action_targets, backtest
from tactician.evaluation.baselines import AGENT, EQUAL_WEIGHT, baseline_targets
from tactician.evaluation.question import Question
from tactician.evaluation.statistics import Performance, difference, performance, return_difference
from tactician.evaluation.table import performance_table
from tactician.monitor.tables import as_text, print_table
from tactician.policy import Network
from tactician.storage import plain

MATTERS = 0.001
"""A smaller difference in annual return does not matter to an investor: 0.1 % per year."""


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
    notes: tuple[str, ...] = ()
    """What makes the result worth less than it looks (`reservations`)."""

    def __repr__(self) -> str:
        """The report."""
        table = performance_table(self.performances, f"{self.first} to {self.last}")
        lines = (f"Verdict: the agent is {self.verdict}.", *self.notes)
        return as_text(lambda console: print_table(console, table)) + "".join(f"\n  {line}" for line in lines)

    @property
    def verdict(self) -> str:
        """The agent compared with equal weight, with the uncertainty. The text continues 'the agent is'."""
        said = _verdict(self.return_beyond_equal_weight, self.return_standard_error)
        return f"{said}; {self.caveat}" if self.caveat else said

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
            "verdict": self.verdict,
            "caveat": self.caveat,
            "regime_use": self.regime_use,
            "trade_return": self.trade_return,
            "win_rate": self.win_rate,
        }
        return {name: plain(value) for name, value in figures.items()}


def reservations(looks: int, hindsight: bool) -> tuple[str, ...]:
    """What makes a result worth less than it looks.

    Args:
        looks: how often the model, or one that it comes from, was judged on this test range, this time included.
        hindsight: whether the universe was picked knowing how it would do.
    """
    said = []
    if looks > 1:
        said.append(
            f"This test range was looked at {looks} times: what was changed in between may have been fitted to it."
        )
    if hindsight:
        said.append("The universe was picked with hindsight: compare with equal weight of the same assets only.")
    return tuple(said)


def _verdict(gap: float | None, error: float | None) -> str:
    """The verdict in words. It says above or below only for a difference that matters and exceeds two standard errors."""
    if gap is None or error is None or not (math.isfinite(gap) and math.isfinite(error)):
        return "not judged beside equal weight, because the figures are not available"
    certain = abs(gap) > 2 * error
    if abs(gap) < MATTERS and (certain or abs(gap) + 2 * error < MATTERS):
        measured = f"{100 * gap:+.2f} % ± {100 * error:.2f} % per year"
        return f"no different from equal weight in any way that matters ({measured}, one standard error)"
    measured = f"{100 * gap:+.1f} % ± {100 * error:.1f} % per year beside equal weight"
    if not certain:
        return f"not distinguishable from equal weight ({measured}, one standard error)"
    side = "above" if gap > 0 else "below"
    return f"{side} equal weight by more than two standard errors ({measured}); one path proves little"


@torch.no_grad()
def _choose(env: Environment, policy: Network, rows: range) -> tuple[Int64[Tensor, " step"], bool]:
    """Regimes that the deterministic policy (most probable action, no dropout) chooses in one pass, starting from cash.

    The recurrent state is carried through the whole range.

    Returns:
        The regimes, and whether all outputs of the policy were finite.
    """
    single = replace(
        env, rows=rows, episode_length=len(rows), portfolios_per_window=1, first_holdings="cash", random_slippage=False
    )
    state = first_state(single, torch.zeros(1, dtype=torch.int64, device=env.market.device))
    hidden = policy.initial_state(1)
    actions, finite = [], []
    for _ in rows:
        logits, _, hidden = policy(observe(single, state)[None], hidden)
        actions.append(logits[0].argmax(-1))
        finite.append(logits.isfinite().all())
        state, _ = step(single, state, actions[-1])
    return torch.cat(actions), bool(torch.stack(finite).all())


def evaluate(env: Environment, policy: Network, rows: range) -> Evaluation:
    """Judge a policy over a range of rows.

    Args:
        env: gives the market (features normalised), frictions and portfolio value.
        policy: the agent.
        rows: decision rows, at least two.

    Raises:
        NotFinite: a growth of the agent or a baseline, or an output of the policy, is not a finite number.
    """
    market = env.market
    actions, finite = _choose(env, policy, rows)
    agent, hold = action_targets(market, rows, actions)
    names, targets, baseline_hold = baseline_targets(Question(market, rows))
    targets, hold = torch.cat([agent.double(), targets], 1), torch.cat([hold, baseline_hold], 1)
    path = backtest(market, rows, targets, hold, env.frictions, env.portfolio_value, (AGENT, *names))
    if not path.is_finite:
        raise NotFinite(_what_is_not_finite(market, rows, path))
    if not finite:  # checked second, because a market that is not finite makes the policy's outputs not finite too
        raise PolicyNotFinite
    growth, growth_error = difference(path, AGENT, EQUAL_WEIGHT)
    gap, error = return_difference(path, AGENT, EQUAL_WEIGHT)
    trades = closed_trades(market.canonical_regimes[actions], path.growth[:, path.column(AGENT)])
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
