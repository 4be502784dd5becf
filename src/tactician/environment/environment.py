"""The environment: a market, many portfolios, and pure functions from state to state.

Environments are arranged as windows × portfolios. All P portfolios of a window live through the same days. Portfolio p of
window w is environment n = w·P + p, and ``n_envs = n_windows · P``.

Timing of one step at row t (session t):

1. The agent has seen `observe`, which uses sessions ≤ t − 1. It shows the market's features, and the portfolio after the
   trade at close t − 1, at the prices of that close.
2. Those holdings earn close t − 1 → close t. Holdings in delisted assets turn into cash. The action's target weights are
   traded at close t, in the assets that have a bar. Costs are paid out of cash.
3. Everything earns close t → close t + 1. The reward is 100 · ln(V after 3 / V before the trade): log growth net of cost,
   in percent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tactician.environment.fused import uses_kernels
from tactician.environment.market_tensors import MarketTensors
from tactician.environment.noise import Stream, uniform
from tactician.errors import UserError
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import Trade, grow, rebalance, settle

HOLD = 0
"""Every regime table begins with HOLD."""

FULL_CASH = 1
"""The second regime of every table. A portfolio in cash has no open trade."""

PER_WINDOW = ("window", "episode", "age", "day")
"""Tensors of an `EnvState` with one entry per window. The others have one per environment."""


@dataclass(frozen=True)
class Environment:
    """The constant part of the environments. Everything that changes is in `EnvState`."""

    market: MarketTensors
    """Its features are already normalised (`observation.normalise`)."""
    frictions: Frictions
    rows: range | tuple[range, ...]
    """Decision rows that episodes may use, in one stretch or several. All rewards of an episode lie inside one of them."""
    episode_length: int = 256
    portfolios_per_window: int = 1
    portfolio_value: float = 1.0
    """Currency value of 1.0 in the holdings. It matters only to impact on traded volume."""
    first_holdings: str = "random"
    random_slippage: bool = True
    """Draw slippage (training) or charge its mean (evaluation)."""
    seed: int = 0
    markets: tuple[range, ...] = ()
    """Rows of each of several markets that lie one after another in ``market`` (`many_markets`); none means one market."""
    cost_multipliers: tuple[float, float] = (1.0, 1.0)
    """Least and largest factor of all costs. Each window draws one per episode, log-uniformly; (1, 1) draws none."""
    fused: bool = False
    """On a GPU: compute a step and an observation by kernels of our own."""

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        longest = max(map(len, self.stretches))
        if longest < self.episode_length:
            raise UserError(
                f"The range has {longest} decision sessions, too few for one episode of {self.episode_length}; "
                "widen the range (start, train_until) or lower episode_length."
            )
        if self.markets:
            # An episode's first decision drifts through the row before it, and its last value is read in the row after it.
            inside = [[m.start < part.start and part.stop < m.stop for m in self.markets] for part in self.stretches]
            if any(sum(places) != 1 for places in inside):
                raise ValueError("a stretch must lie inside one market, with a row of the same before and after it")
        if min(part.start for part in self.stretches) < 1:
            raise ValueError("row 0 has no session before it to earn; ranges begin at row 1")
        try:
            self.frictions.scaled(max(self.cost_multipliers))
        except UserError as error:
            raise UserError(f"With cost_multipliers of up to {max(self.cost_multipliers):g}, {error}") from None
        if self.frictions.impact_adv > 0:
            self.market.require_traded_values()
        # Computed here and cached, because it waits for the device, and a step must not wait.
        _ = self.market.always_fillable

    @property
    def stretches(self) -> tuple[range, ...]:
        """The stretches of ``rows``. One that is shorter than an episode has none."""
        return (self.rows,) if isinstance(self.rows, range) else self.rows


@dataclass(frozen=True)
class EnvState:
    """W windows × P portfolios, N = W·P; A risky assets and cash."""

    window: Int64[Tensor, " window"]
    """Global number of the window; its random numbers depend on it."""
    episode: Int64[Tensor, " window"]
    """Episodes begun before this one."""
    age: Int64[Tensor, " window"]
    """Steps taken in this episode."""
    day: Int64[Tensor, " window"]
    """Row of the next decision."""
    holdings: Float[Tensor, "env asset+1"]
    """Holdings after the trade at the close before ``day``, valued at that close. An episode starts with a total of 1."""
    regime: Int64[Tensor, " env"]
    """The regime of the last trade; 0 (HOLD) before the first."""
    since_trade: Int64[Tensor, " env"]
    """Sessions since the last trade into another regime."""
    trade_growth: Float[Tensor, " env"]
    """Log growth since the agent's trade began, net of cost."""
    in_trade: Bool[Tensor, " env"]
    """Whether the agent itself bought its holdings. The first holdings of an episode do not count, nor does cash."""

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Outcome:
    """Rewards, costs and trades of one step, for each of N environments."""

    reward: Float[Tensor, " env"]
    """100 · log growth of wealth, net of cost."""
    costs: Float[Tensor, "env component"]
    """Spread, slippage, impact, commission, as fractions of the value before the trade."""
    turnover: Float[Tensor, " env"]
    """Traded value over value before the trade, risky assets only, from drifted holdings."""
    trade_closed: Bool[Tensor, " env"]
    """Whether the step ended a trade of the agent by moving to another regime."""
    trade_return: Float[Tensor, " env"]
    """Simple net return of the trade that ended; 0 if none did."""


_Tensors = TypeVar("_Tensors", EnvState, Outcome)


def first_state(env: Environment, windows: Int64[Tensor, " window"], stagger: int = 0) -> EnvState:
    """Begin the first episode of every window.

    Args:
        env: the environment.
        windows: global numbers of the W windows.
        stagger: length of the rollouts, if they are shorter than an episode. Then there are k = episode_length/stagger
            phases, and window w begins at age (w mod k)·stagger, so every rollout sees every phase.
    """
    zeros = torch.zeros_like(windows)
    state = _begin_episode(env, windows, zeros)
    if stagger and stagger < env.episode_length:
        state = replace(state, age=(windows % (env.episode_length // stagger)) * stagger)
    return state


def step(env: Environment, state: EnvState, action: Int64[Tensor, " env"]) -> tuple[EnvState, Outcome]:
    """Trade at the close of each window's day, and earn the returns of the following session.

    Args:
        env: the environment.
        state: before the step; not changed.
        action: regime index of each environment.

    Returns:
        The state one session later and the outcome. Episodes are never reset here: see `restart_finished`.
    """
    if uses_kernels(env):
        from tactician.environment.fused_step import fused_step

        return fused_step(env, state, action)
    return step_eager(env, state, action)


def step_eager(env: Environment, state: EnvState, action: Int64[Tensor, " env"]) -> tuple[EnvState, Outcome]:
    """`step` in torch's own operations, on any device. The kernel is held to it."""
    # Nothing in a step connects two windows, so they can go in blocks.
    p = env.portfolios_per_window
    parts = [
        _step(env, _part(env, state, some), action[some.start * p : some.stop * p])
        for some in blocks(env, len(state.day), state.holdings.shape[1])
    ]
    states, outcomes = zip(*parts, strict=True)
    return _joined(states), _joined(outcomes)


def _step(env: Environment, state: EnvState, action: Int64[Tensor, " env"]) -> tuple[EnvState, Outcome]:
    # The order is: drift to the close, delistings, the trade and its costs, growth to the next close. The agent decided on
    # data of the session before, so the trade starts from drifted holdings that it has not seen.
    market, per_window = env.market, env.portfolios_per_window
    day = state.day.repeat_interleave(per_window) if per_window > 1 else state.day
    before = grow(state.holdings, market.returns[day - 1], market.cash_return[day - 1])
    if not market.always_fillable:
        before = settle(before, market.delisted[day])
    # The value is taken before the costs, so that they are part of this step's reward. The next step begins with the value
    # at the end of this one. So the rewards of an episode add up to 100·ln of the growth of wealth.
    value = before.sum(-1)
    hold = action == HOLD
    targets = market.regime_weights[day, action]
    trade = _trade(env, state, day, before, targets, hold)
    # This growth enters the reward alone. The state keeps the holdings at close t, and the next step lets them grow.
    after = grow(trade.holdings, market.returns[day], market.cash_return[day])
    growth = torch.log(after.sum(-1) / value)
    # Two regimes with equal targets are one position, so a move between them does not count as a trade. Only this row's targets
    # count: whether they will differ later, as after a listing, nobody knows yet.
    switched = ~hold & (targets != market.regime_weights[day, state.regime]).any(-1)
    closed = switched & state.in_trade
    bought = ~hold & (switched | ~state.in_trade)  # also the regime of the first holdings, if chosen
    new_state = replace(
        state,
        age=state.age + 1,
        day=state.day + 1,
        holdings=trade.holdings,
        regime=torch.where(hold, state.regime, action),
        since_trade=torch.where(switched, 0, state.since_trade + 1),
        trade_growth=torch.where(bought, 0.0, state.trade_growth) + growth,
        in_trade=torch.where(bought, action != FULL_CASH, state.in_trade),
    )
    outcome = Outcome(
        reward=100 * growth,
        costs=trade.costs / value[:, None],
        turnover=trade.turnover,
        trade_closed=closed,
        trade_return=torch.where(closed, torch.expm1(state.trade_growth), 0.0),
    )
    return new_state, outcome


def _trade(
    env: Environment, state: EnvState, day: Tensor, before: Tensor, targets: Tensor, hold: Bool[Tensor, " env"]
) -> Trade:
    """Trade from the drifted holdings to the action's targets, at the close of each environment's day."""
    market, impact_adv, multiple = env.market, env.frictions.impact_adv > 0, cost_multiple(env, state)
    return rebalance(
        before,
        targets,
        env.frictions,
        hold=hold,
        fillable=None if market.always_fillable else market.fillable[day],
        slippage=_draw_slippage(env, state) if env.random_slippage else None,
        vol_daily=market.vol_daily[day] if impact_adv else None,
        adv=market.dollar_volume[day] / env.portfolio_value if impact_adv else None,
        multiple=None if multiple is None else multiple.repeat_interleave(env.portfolios_per_window),
        iterations=3,  # reaches the precision of float32
    )


def restart_finished(env: Environment, state: EnvState) -> tuple[EnvState, Bool[Tensor, " env"]]:
    """Begin a new episode in every window whose episode is over.

    The rollout calls it at the end of a sequence, after it has read the value of the last state. So a reset never falls
    inside a sequence.

    Returns:
        The state, and for each environment whether it was restarted.
    """
    # A new episode is drawn for every window and kept where it is due. Selecting the windows would wait for the device.
    done = state.age >= env.episode_length
    fresh = _begin_episode(env, state.window, state.episode + 1)
    done_env = done.repeat_interleave(env.portfolios_per_window)
    merged = {}
    for name, old in state.state_dict().items():
        mask = done if name in PER_WINDOW else done_env
        merged[name] = torch.where(mask if old.dim() == 1 else mask[:, None], getattr(fresh, name), old)
    return EnvState(**merged), done_env


def narrow(env: Environment, state: EnvState, n_windows: int) -> EnvState:
    """The first windows of a state, with their portfolios."""
    return _part(env, state, slice(0, n_windows))


def blocks(env: Environment, n_windows: int, numbers: int) -> list[slice]:
    """Consecutive windows that are computed at once, so that intermediate results stay in a processor's cache.

    The temporary tensors of thousands of portfolios would not fit there. Worse, an allocator gives such large ones back to
    the operating system after each operation, and every page of the next one is a fault (docs/performance.md).

    Args:
        env: the environment.
        n_windows: number of windows.
        numbers: size of the largest intermediate result, per portfolio.
    """
    # A block is an intermediate result of 1 MiB, a common size of a core's second cache. A GPU is filled by large tensors
    # only; there the bound of 256 MiB is one of memory.
    most = 2**18 if env.market.device.type == "cpu" else 2**26
    size = max(1, most // (numbers * env.portfolios_per_window))
    return [slice(k, min(k + size, n_windows)) for k in range(0, max(n_windows, 1), size)]


def _part(env: Environment, state: EnvState, windows: slice) -> EnvState:
    """Some consecutive windows of a state, with their portfolios."""
    p = env.portfolios_per_window
    envs = slice(windows.start * p, windows.stop * p)
    return EnvState(**{k: v[windows if k in PER_WINDOW else envs] for k, v in state.state_dict().items()})


def _joined(parts: Sequence[_Tensors]) -> _Tensors:
    """Blocks of windows, one after the other: states or outcomes."""
    if len(parts) == 1:
        return parts[0]
    names = [f.name for f in fields(parts[0])]
    return type(parts[0])(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def portfolio_index(env: Environment, state: EnvState) -> Int64[Tensor, " env"]:
    """Global number of each portfolio: w·P + p."""
    p = env.portfolios_per_window
    return (state.window[:, None] * p + torch.arange(p, device=state.window.device)).flatten()


def _begin_episode(env: Environment, window: Tensor, episode: Tensor) -> EnvState:
    """Begin episode ``episode`` of each window: on a random day, in cash, in equal weight or with a random regime's weights."""
    start = _first_day(env, uniform(env.seed, Stream.EPISODE_START, window, episode))
    p = env.portfolios_per_window
    n = len(window) * p
    device = window.device
    market = env.market
    if env.first_holdings == "cash":
        holdings = torch.zeros(n, market.returns.shape[1] + 1, device=device)
        holdings[:, -1] = 1
        regime = torch.zeros(n, dtype=torch.int64, device=device)
    else:
        # Each portfolio of a window draws its own start, so that they differ from the first day: what deployment begins with
        # (cash, or equal weight, without a regime that was chosen), or a regime, so that the agent learns to leave each.
        slot = torch.arange(p, device=device)
        draw = uniform(env.seed, Stream.FIRST_HOLDINGS, window[:, None], episode[:, None], slot).flatten()
        pick = (draw * (market.regimes.n_actions + 1)).long()
        regime = (pick - 1).clamp(min=0)
        day = start.repeat_interleave(p)
        unchosen = torch.where((pick == 0)[:, None], *_unchosen(market, day))
        holdings = torch.where((regime == 0)[:, None], unchosen, market.regime_weights[day, regime])
    return EnvState(
        window=window,
        episode=episode,
        age=torch.zeros_like(window),
        day=start,
        holdings=holdings,
        regime=regime,
        since_trade=torch.zeros_like(regime),
        trade_growth=torch.zeros(n, device=device),
        in_trade=torch.zeros(n, dtype=torch.bool, device=device),
    )


def _unchosen(market: MarketTensors, day: Int64[Tensor, " env"]) -> tuple[Float[Tensor, "env asset+1"], Tensor]:
    """All in cash, and equal weight of the tradable assets (cash if there are none)."""
    tradable = market.tradable[day].to(market.regime_weights.dtype)
    count = tradable.sum(-1, keepdim=True)
    none = torch.zeros_like(tradable)
    cash = torch.cat([none, torch.ones_like(count)], -1)
    return cash, torch.cat([tradable / count.clamp(min=1), (count == 0).to(tradable.dtype)], -1)


def _first_day(env: Environment, place: Float[Tensor, " window"]) -> Int64[Tensor, " window"]:
    """First rows of episodes, at places in (0, 1) among all rows at which a whole episode fits into a stretch."""
    # Uniform numbers are below 1, and the rounded product stays below the number of rows. So an episode ends inside.
    choices = [max(0, len(part) - env.episode_length + 1) for part in env.stretches]
    pick = (place * sum(choices)).long()
    start, before = torch.zeros_like(pick), 0
    # Plain numbers instead of a table: a table on the host would have to be copied, which waits for the device.
    for part, count in zip(env.stretches, choices, strict=True):
        start = torch.where(pick >= before, part.start + pick - before, start)
        before += count
    return start


def cost_multiple(env: Environment, state: EnvState) -> Float[Tensor, " window"] | None:
    """The factor of all costs in each window's episode: low·(high/low)^u with u uniform in (0, 1); None if none is drawn.

    It depends on seed, window and episode alone, so it stays the same through an episode and for all portfolios of a window.
    """
    low, high = env.cost_multipliers
    if low == high == 1:
        return None
    place = uniform(env.seed, Stream.COST_MULTIPLE, state.window, state.episode)
    return torch.exp(math.log(low) + place * (math.log(high) - math.log(low)))


def earliest_row(env: Environment, day: Int64[Tensor, " window"]) -> Int64[Tensor, " window"]:
    """The first row that may be watched before a decision: row 1 of the market to which each window's day belongs."""
    first = torch.ones_like(day)
    for rows in env.markets[1:]:
        first = torch.where(day >= rows.start, rows.start + 1, first)
    return first


def _draw_slippage(env: Environment, state: EnvState) -> Float[Tensor, "env asset"]:
    index = portfolio_index(env, state)
    p = env.portfolios_per_window
    # The counter runs through all episodes of a window, so a repeated day has another slippage.
    moment = (state.episode * env.episode_length + state.age).repeat_interleave(p)
    asset = torch.arange(env.market.returns.shape[1], device=index.device)
    return env.frictions.slippage_max * uniform(env.seed, Stream.SLIPPAGE, index[:, None], moment[:, None], asset)
