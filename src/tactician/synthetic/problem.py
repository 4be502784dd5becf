"""A market whose best policy is known: its tensors, its costs, and the action of the optimum in every situation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from tactician.environment import (
    FEATURE_NAMES,
    FULL_CASH,
    HOLD,
    Environment,
    EnvState,
    MarketTensors,
    first_state,
    step,
)
from tactician.market import FACTORS
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import rebalance
from tactician.portfolio.regimes import GroupSplit, Regime, RegimeTable

CASH = FULL_CASH

WARM_UP = 64
"""Sessions at the start of a judged window that do not count: a filter or a recurrent state must first find its bearings."""

Choose = Callable[[EnvState], Int64[Tensor, " env"]]
"""A policy as the environment meets it: one action for each environment."""


def regime_held(state: EnvState) -> Int64[Tensor, " env"]:
    """Where the portfolios stand, if their drift between trades does not matter."""
    return state.regime


@dataclass(frozen=True)
class Problem:
    """A market, what trading in it costs, and its optimum.

    Markets are exogenous, so all that a policy can know about them is indexed by the row; together with where the
    portfolio stands that is the whole situation. The optimum is therefore a table.
    """

    name: str
    market: MarketTensors
    """D rows; features that a policy sees first, zeros behind them."""
    frictions: Frictions
    n_train: int
    """Rows before this one are for training; the rest, made by the same law, is for judging."""
    best_actions: Int[Tensor, "day position"]
    """The optimum's action by row and position: the regime held (HOLD stands for none: cash), unless `position` differs."""
    growth: float
    """Log growth per session of the optimum, by the solver that found it; independent of the simulation."""
    never_trades: bool = False
    """Whether the optimum is to keep what is held: then turnover is the measure, not a share of a gain."""
    position: Callable[[EnvState], Int64[Tensor, " env"]] = regime_held
    """Where each portfolio stands, as a column of the table."""

    def optimum(self, state: EnvState) -> Int64[Tensor, " env"]:
        """The optimum's action in each environment of a state."""
        day = state.day.repeat_interleave(len(state.regime) // len(state.day))
        # The table stays where it is: what is looked up is small, and it is not.
        return self.best_actions[day.cpu(), self.position(state).cpu()].long().to(day.device)

    def environment(self, rows: range, episode_length: int = 256) -> Environment:
        """The market as the environment that training uses, with its features as they are."""
        return Environment(self.market, self.frictions, rows, episode_length=episode_length)


@dataclass(frozen=True)
class Played:
    """What a policy did over the judged rows, beyond each window's warm-up."""

    growth: float
    """Mean log growth per session, net of costs."""
    turnover: float
    """Mean traded value per session over portfolio value."""
    agreement: float
    """Share of sessions in which it ended up in the regime that the optimum would have chosen."""


def play(problem: Problem, choose: Choose, env: Environment | None = None, window: int = 512) -> Played:
    """Let a policy live through the judged rows, cut into windows that run side by side, each from cash.

    Args:
        problem: the market and its optimum.
        choose: called at each step with the state of one environment per window.
        env: the environment to use, if the policy needs normalised features.
        window: sessions of a window, the warm-up included.
    """
    env = env or problem.environment(range(1, problem.market.n_days))
    n = (problem.market.n_days - problem.n_train) // window
    rows = range(problem.n_train, problem.n_train + n * window)
    single = replace(
        env, rows=rows, episode_length=window, portfolios_per_window=1, first_holdings="cash", random_slippage=False
    )
    windows = torch.arange(n, device=env.market.device)
    state = replace(first_state(single, windows), day=rows.start + windows * window)
    growth, turnover, same = [], [], []
    for t in range(window):
        action = choose(state)
        wanted = problem.optimum(state)
        held = state.regime
        state, outcome = step(single, state, action)
        if t >= WARM_UP:
            growth.append(outcome.reward.double().mean() / 100)
            turnover.append(outcome.turnover.double().mean())
            same.append((state.regime == torch.where(wanted == HOLD, held, wanted)).double().mean())
    means = [float(torch.stack(x).mean()) for x in (growth, turnover, same)]
    return Played(*means)


def constant(action: int) -> Choose:
    """The policy that always chooses the same regime."""
    return lambda state: torch.full_like(state.regime, action)


def best_constant(problem: Problem) -> tuple[int, Played]:
    """The regime that does best if chosen every day, and what it does: what a policy is worth that learnt nothing of time."""
    played = {k: play(problem, constant(k)) for k in range(problem.market.regimes.n_actions)}
    best = max(played, key=lambda k: played[k].growth)
    return best, played[best]


def fixed_regimes(targets: Sequence[tuple[str, tuple[int, ...], float]]) -> RegimeTable:
    """HOLD, FULL_CASH and regimes of constant weights.

    Args:
        targets: name, positions of the assets that are held in equal parts, and the share of cash.
    """
    base = (Regime("HOLD", "hold", "Keep current allocation"), Regime("FULL_CASH", "cash", "100% cash", cash=1.0))
    made = tuple(
        Regime(name, "group", f"{100 * (1 - cash):.0f}% in {name}", cash, GroupSplit(tuple((k,) for k in assets)))
        for name, assets, cash in targets
    )
    return RegimeTable("fixed", base + made)


def make_market(
    name: str,
    returns: Float[Tensor, "day asset"],
    signals: Float[Tensor, "day signal"],
    regimes: RegimeTable,
    ranks: Float[Tensor, "asset factor"] | None = None,
) -> MarketTensors:
    """Market tensors from returns and what is seen before them; cash earns nothing.

    Args:
        name: kept in the fingerprint.
        returns: from close t to close t + 1.
        signals: what may be known for the decision at t; the first features, in their own units.
        regimes: the actions.
        ranks: factor ranks of the assets, the same every day; None for an even spread, alike in every factor.
    """
    days, assets = returns.shape
    features = torch.zeros(days, len(FEATURE_NAMES))
    features[:, : signals.shape[1]] = signals.float()
    tradable = torch.ones(days, assets, dtype=torch.bool)
    if ranks is None:
        ranks = torch.linspace(1, -1, assets)[:, None].expand(assets, len(FACTORS)) if assets > 1 else torch.ones(1, 4)
    all_ranks = ranks.float().expand(days, *ranks.shape).contiguous()
    dates = torch.arange(days)
    return MarketTensors(
        dates=dates,
        end_dates=dates + 1,
        symbols=tuple(f"S{k}" for k in range(assets)),
        returns=returns.float(),
        cash_return=torch.zeros(days),
        features=features,
        regime_weights=regimes.weights(all_ranks, tradable),
        tradable=tradable,
        fillable=tradable,
        delisted=torch.zeros_like(tradable),
        factor_ranks=all_ranks,
        vol_daily=returns.std(0).float().expand(days, assets).contiguous(),
        dollar_volume=torch.full((days, assets), torch.nan),
        regimes=regimes,
        fingerprint=f"synthetic {name}",
        built_from={"source": name},
    )


def switching_costs(weights: Float[Tensor, "regime asset+1"], frictions: Frictions) -> Float[Tensor, "regime regime"]:
    """−ln(V after / V before) of the trade from each row's weights to each other's, by the ledger in float64."""
    count = len(weights)
    before = weights.double()[:, None].expand(count, count, -1)
    trade = rebalance(before.contiguous(), weights.double()[None].expand(count, count, -1), frictions)
    return -torch.log(trade.holdings.sum(-1))


def action_table(
    values: Float[Tensor, "day regime"], costs: Float[Tensor, "regime regime"]
) -> Int64[Tensor, "day regime"]:
    """The best action by row and regime held: the target of highest value net of the cost of getting there.

    Args:
        values: worth of being in each regime but HOLD after the trade of a row, the future included.
        costs: of each switch, by the same regimes.

    Returns:
        Over all regimes; staying is HOLD, and holding none counts as cash.
    """
    target = (values[:, None, :] - costs[None]).argmax(-1)
    target = torch.where(target == torch.arange(len(costs)), HOLD, target + 1)
    return torch.cat([target[:, CASH - 1 : CASH], target], 1)
