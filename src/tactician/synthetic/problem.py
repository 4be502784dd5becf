"""A market with a known best policy: its tensors, its costs, and the optimum's action in every situation."""

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
from tactician.errors import UserError
from tactician.market import FACTORS
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import rebalance
from tactician.portfolio.regimes import GroupSplit, Regime, RegimeTable

CASH = FULL_CASH

WARM_UP = 64
"""Sessions at the start of a judged window that do not count, because a filter or a recurrent state needs time to adapt."""

Choose = Callable[[EnvState], Int64[Tensor, " env"]]
"""A policy as a function: it returns one action per environment."""


def regime_held(state: EnvState) -> Int64[Tensor, " env"]:
    """Position of the portfolios, if their drift between trades does not matter."""
    return state.regime


@dataclass(frozen=True)
class Problem:
    """A market, its trading costs, and its optimum.

    The market is exogenous, so the row determines everything that a policy can know about it. Row and position of the
    portfolio are the whole situation. Therefore the optimum is a table.
    """

    name: str
    market: MarketTensors
    """D rows. The first features are the signals that a policy sees; the others are zero."""
    frictions: Frictions
    n_train: int
    """Rows before this one are for training."""
    judged: range
    """Rows for judging, from the same law."""
    best_actions: Int[Tensor, "day position"]
    """The optimum's action by row and position. By default the position is the regime held; HOLD means cash."""
    growth: float
    """Log growth per session of the optimum, from the solver; independent of the simulation."""
    never_trades: bool = False
    """Whether the optimum never trades. Then turnover is the measure instead of a share of the gain."""
    position: Callable[[EnvState], Int64[Tensor, " env"]] = regime_held
    """Position of each portfolio, as a column of the table."""

    def optimum(self, state: EnvState) -> Int64[Tensor, " env"]:
        """The optimum's action in each environment of a state."""
        day = state.day.repeat_interleave(len(state.regime) // len(state.day))
        # The table is large and stays on the CPU. Only the small result moves to the device.
        return self.best_actions[day.cpu(), self.position(state).cpu()].long().to(day.device)

    def with_training_rows(self, rows: int) -> "Problem":
        """The same market with only its first rows for training. It is judged on the same rows as before.

        Raises:
            UserError: the market has fewer rows for training.
        """
        if rows > self.n_train:
            raise UserError(
                f"The market '{self.name}' has {self.n_train:,} rows for training, not {rows:,}; lower --rows."
            )
        return replace(self, n_train=rows)

    def environment(self, rows: range, episode_length: int = 256) -> Environment:
        """The market as a training environment, with features that are not normalised."""
        return Environment(self.market, self.frictions, rows, episode_length=episode_length)


@dataclass(frozen=True)
class Played:
    """Figures of a policy over some rows, without the warm-up of each window."""

    growth: float
    """Mean log growth per session, net of costs."""
    turnover: float
    """Mean traded value per session over portfolio value."""
    agreement: float
    """Share of sessions after which it held the regime that the optimum would have chosen."""


def play(
    problem: Problem, choose: Choose, env: Environment | None = None, window: int = 512, rows: range | None = None
) -> Played:
    """Run a policy over some rows, cut into windows that run side by side. Each window starts in cash.

    Args:
        problem: the market and its optimum.
        choose: called at each step with the state of one environment per window.
        env: the environment to use, if the policy needs normalised features.
        window: sessions per window, the warm-up included.
        rows: decision rows; default: the judged ones. The rest of a division by ``window`` is left out.
    """
    env = env or problem.environment(range(1, problem.market.n_days))
    rows = rows or problem.judged
    n = len(rows) // window
    rows = rows[: n * window]
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
    """The regime that does best if chosen every day, and its figures: the best result of a policy that ignores time."""
    played = {k: play(problem, constant(k)) for k in range(problem.market.regimes.n_actions)}
    best = max(played, key=lambda k: played[k].growth)
    return best, played[best]


def fixed_regimes(targets: Sequence[tuple[str, tuple[int, ...], float]]) -> RegimeTable:
    """HOLD, FULL_CASH and regimes of constant weights.

    Args:
        targets: per regime its name, the positions of the assets held in equal parts, and the share of cash.
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
    """Market tensors from returns and signals. Cash earns nothing.

    Args:
        name: kept in the fingerprint.
        returns: from close t to close t + 1.
        signals: known for the decision at t; they become the first features, in their own units.
        regimes: the actions.
        ranks: factor ranks of the assets, the same every day; None for evenly spread ranks, the same in every factor.
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
    """−ln(V after / V before) of the trade from each regime's weights to each other's, by the ledger in float64."""
    count = len(weights)
    before = weights.double()[:, None].expand(count, count, -1)
    trade = rebalance(before.contiguous(), weights.double()[None].expand(count, count, -1), frictions)
    return -torch.log(trade.holdings.sum(-1))


def action_table(
    values: Float[Tensor, "day regime"], costs: Float[Tensor, "regime regime"]
) -> Int64[Tensor, "day regime"]:
    """The best action by row and regime held: the target with the highest value net of the cost of the switch.

    Args:
        values: value of each regime except HOLD after the trade of a row, the future included.
        costs: cost of each switch between the same regimes.

    Returns:
        Actions for all held regimes. Staying is HOLD, and holding no regime counts as cash.
    """
    target = (values[:, None, :] - costs[None]).argmax(-1)
    target = torch.where(target == torch.arange(len(costs)), HOLD, target + 1)
    return torch.cat([target[:, CASH - 1 : CASH], target], 1)
