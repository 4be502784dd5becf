"""The agent over one range: a single deterministic pass, beside the baselines, through the same ledger."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment import HOLD, Environment, first_state, observe, step
from tactician.evaluation.backtest import (
    Path,
    Performance,
    action_targets,
    backtest,
    baseline_targets,
    difference,
    performance,
)
from tactician.policy import ActorCritic


@dataclass(frozen=True)
class Evaluation:
    """The agent and the baselines over one range."""

    first: str
    last: str
    performances: dict[str, Performance]
    """'agent', 'equal_weight', 'cash', 'buy_and_hold'."""
    growth_beyond_equal_weight: float
    """Annual log growth of the agent beyond equal weight."""
    standard_error: float
    """Of that difference."""
    regime_use: dict[str, float]
    """Share of sessions that the agent chose each regime."""
    trade_return: float
    """Mean simple net return of the agent's closed trades; 0 without one."""
    win_rate: float
    """Share of them with a gain; 0 without one."""
    path: Path
    """Strategies in the order of ``performances``."""

    @property
    def verdict(self) -> str:
        """One sentence, uncertainty first."""
        gap, error = self.growth_beyond_equal_weight, self.standard_error
        measured = f"{100 * gap:+.1f} % ± {100 * error:.1f} % a year beside equal weight"
        if abs(gap) <= 2 * error:
            return f"not distinguishable from equal weight ({measured}, one standard error)"
        side = "above" if gap > 0 else "below"
        return f"{side} equal weight by more than two standard errors ({measured}); one path proves little"

    def as_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return {
            "first_session": self.first,
            "last_session": self.last,
            **{name: figures.as_dict() for name, figures in self.performances.items()},
            "growth_beyond_equal_weight": self.growth_beyond_equal_weight,
            "growth_beyond_equal_weight_standard_error": self.standard_error,
            "verdict": self.verdict,
            "regime_use": self.regime_use,
            "trade_return": self.trade_return,
            "win_rate": self.win_rate,
        }


@torch.no_grad()
def act(env: Environment, policy: ActorCritic, rows: range) -> Int64[Tensor, " step"]:
    """The regimes that the deterministic policy (most probable action, no dropout) chooses in one pass from cash.

    The recurrent state runs on through the whole range.
    """
    single = replace(
        env, rows=rows, episode_length=len(rows), portfolios_per_window=1, first_holdings="cash", random_slippage=False
    )
    state = first_state(single, torch.zeros(1, dtype=torch.int64, device=env.market.device))
    hidden = policy.initial_state(1)
    actions = []
    for _ in rows:
        logits, _, hidden = policy(observe(single, state)[None], hidden)
        actions.append(logits[0].argmax(-1))
        state, _ = step(single, state, actions[-1])
    return torch.cat(actions)


def evaluate(env: Environment, policy: ActorCritic, rows: range) -> Evaluation:
    """Judge a policy over a range of rows.

    Args:
        env: gives the market (features normalised), frictions and portfolio value.
        policy: the agent.
        rows: decision rows; at least two.
    """
    market = env.market
    actions = act(env, policy, rows)
    agent, hold = action_targets(market, rows, actions)
    names, targets, baseline_hold = baseline_targets(market, rows)
    path = backtest(
        market,
        rows,
        torch.cat([agent.double(), targets], 1),
        torch.cat([hold, baseline_hold], 1),
        env.frictions,
        env.portfolio_value,
    )
    gap, error = difference(path, 0, 1)
    trades = closed_trades(actions, path.growth[:, 0])
    use = torch.bincount(actions, minlength=market.regimes.n_actions).double() / len(actions)
    return Evaluation(
        first=str(market.date_of(rows.start)),
        last=str(market.date_of(rows.stop - 1)),
        performances={name: performance(path, k) for k, name in enumerate(("agent", *names))},
        growth_beyond_equal_weight=gap,
        standard_error=error,
        regime_use=dict(zip(market.regimes.names, use.tolist(), strict=True)),
        trade_return=float(trades.mean()) if len(trades) else 0.0,
        win_rate=float((trades > 0).double().mean()) if len(trades) else 0.0,
        path=path,
    )


def closed_trades(actions: Int64[Tensor, " step"], growth: Float[Tensor, " step"]) -> Float[Tensor, " trade"]:
    """Simple net returns of the trades that ended: from a move into a regime until before the move into another one.

    Args:
        actions: regime of each session; HOLD goes on with the regime before.
        growth: log growth of each session, net of cost.
    """
    returns, regime, total = [], HOLD, 0.0
    for action, step_growth in zip(actions.tolist(), growth.tolist(), strict=True):
        if action not in (HOLD, regime):
            if regime != HOLD:
                returns.append(math.expm1(total))
            regime, total = action, 0.0
        total += step_growth
    return torch.tensor(returns, dtype=torch.float64)
