"""Every book that a portfolio can hold, and what every action is worth in it, exactly, on recorded days.

An action other than HOLD sets the book to its regime's target, and HOLD lets it drift. No action changes a price. So a
portfolio is known by the regime it was set to and by its age: the sessions since. On a recorded path that is a lattice of
(K − 1) · A states per day, with K actions and A ages, and the policy gradient needs neither samples nor a critic:

    Q_t(x, k) = r_t(x, k) + γ · V_{t+1}(next(x, k))        V_t(x) = Σ_k π(k | t, x) · Q_t(x, k)
    p_{t+1}(y) = Σ_{x, k: next(x, k) = y} p_t(x) · π(k | t, x)

Its inputs are exogenous (Sinclair et al. 2023, "Hindsight learning for MDPs with exogenous inputs"): a recorded path can be
replayed with any action. Values are those of the policy on that path, never of a plan that knew it.

State x is the number (regime − 1) · A + age. Three things are not exact. A book at the last age stays at that age: HOLD sets
it anew one session later, for free. All orders are filled, also where the asset has no bar on the day of the trade. And the
entry for the sessions since the last trade is the age, although setting a regime anew does not restart it.

The product has no learner of this kind: docs/learning.md says why. The lattice measures the noise of gradients.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tactician.environment import Environment, EnvState, observe_portfolio
from tactician.environment.environment import blocks
from tactician.portfolio.ledger import grow, rebalance, settle

Days = Int64[Tensor, " day"]


def next_states(n_actions: int, ages: int) -> Int64[Tensor, "state action"]:
    """The state that each action leads to; HOLD is the first action."""
    regimes = n_actions - 1
    state = torch.arange(regimes * ages)
    older = state + (state % ages < ages - 1).long()
    fresh = (torch.arange(regimes) * ages).expand(len(state), -1)
    return torch.cat([older[:, None], fresh], 1)


def books(env: Environment, day: Days, ages: int) -> Float[Tensor, "day state asset+1"]:
    """Holdings before the decision of each day, valued at the last close that it knows. They were set with a total of 1.

    Age 0 was set at that close. A book that would be older than the market was set in row 0.
    """
    market, found = env.market, []
    for age in range(ages):
        held = market.regime_weights[(day - 1 - age).clamp(min=0), 1:]
        for ago in range(age, 0, -1):
            row = day - 1 - ago
            grown = _to_close(env, held, row.clamp(min=0))
            held = torch.where((row >= 0)[:, None, None], grown, held)
        found.append(held)
    return torch.stack(found, 2).flatten(1, 2)


def portfolio_entries(
    env: Environment, day: Days, held: Float[Tensor, "day state asset+1"], ages: int
) -> Float[Tensor, "day state 20"]:
    """The portfolio's entries of the observation in every state."""
    n_days, n_states = held.shape[:2]
    state = torch.arange(n_states, device=day.device).repeat(n_days)
    nothing, nobody = torch.zeros_like(day), torch.zeros_like(state)
    there = EnvState(
        window=nothing,
        episode=nothing,
        age=nothing,
        day=day,
        holdings=held.flatten(0, 1),
        regime=1 + state // ages,
        since_trade=state % ages,
        trade_growth=nobody.float(),
        in_trade=nobody.bool(),
    )
    as_window = replace(env, portfolios_per_window=n_states)  # all books of a day see the same market
    return observe_portfolio(as_window, there, day.repeat_interleave(n_states)).view(n_days, n_states, -1)


def rewards(env: Environment, day: Days, held: Float[Tensor, "day state asset+1"]) -> Float[Tensor, "day state action"]:
    """100 · log growth of wealth, net of cost, of every action in every state. Slippage is taken at its mean."""
    n_states, n_moves = held.shape[1], env.market.regime_weights[0, 1:].numel()
    some = blocks(replace(env, portfolios_per_window=n_states), len(day), n_moves)
    return torch.cat([_rewards(env, day[part], held[part]) for part in some])


def _rewards(env: Environment, day: Days, held: Tensor) -> Tensor:
    market = env.market
    before = _to_close(env, held, day - 1)
    before = before / before.sum(-1, keepdim=True)
    targets = market.regime_weights[day, 1:]
    # After the trade the book has the target's weights, so its growth is the target's, whatever was held before.
    every = (len(day), before.shape[1], targets.shape[1], targets.shape[-1])
    trade = rebalance(before[:, :, None].expand(every), targets[:, None].expand(every), env.frictions, iterations=3)
    left = torch.log(trade.holdings.sum(-1))
    moving = left + _growth(env, targets, day)[:, None]
    return 100 * torch.cat([_growth(env, before, day)[..., None], moving], -1)


def values(
    reward: Float[Tensor, "day window state action"],
    policy: Float[Tensor, "day window state action"],
    beyond: Float[Tensor, "window state"],
    gamma: float,
) -> tuple[Float[Tensor, "day window state action"], Float[Tensor, "day window state"]]:
    """Q and V of a policy on recorded days, by backward induction.

    Args:
        reward: of every action in every state.
        policy: probabilities of the actions.
        beyond: V after the last day.
        gamma: discount per day.
    """
    n_actions = reward.shape[-1]
    reached = next_states(n_actions, reward.shape[-2] // (n_actions - 1)).to(reward.device).flatten()
    q, v = torch.empty_like(reward), torch.empty_like(reward[..., 0])
    for t in range(len(reward) - 1, -1, -1):
        q[t] = reward[t] + gamma * beyond[:, reached].view_as(reward[t])
        v[t] = beyond = (policy[t] * q[t]).sum(-1)
    return q, v


def occupancy(
    policy: Float[Tensor, "day window state action"], first: Float[Tensor, "window state"]
) -> Float[Tensor, "day window state"]:
    """The probability of each state before each day's decision, forward from those of the first day."""
    n_actions = policy.shape[-1]
    reached = next_states(n_actions, policy.shape[-2] // (n_actions - 1)).to(policy.device).flatten()
    now, found = first, []
    for chosen in policy:
        found.append(now)
        now = torch.zeros_like(now).index_add_(1, reached, (now[..., None] * chosen).flatten(1))
    return torch.stack(found)


def fresh_books(n_windows: int, n_actions: int, ages: int, like: Tensor) -> Float[Tensor, "window state"]:
    """Occupancy of windows that begin with the book of a random regime, just set, as episodes do."""
    first = like.new_zeros(n_windows, (n_actions - 1) * ages)
    first[:, ::ages] = 1 / (n_actions - 1)
    return first


def _grow(env: Environment, held: Tensor, row: Days) -> Tensor:
    """Holdings of each day, one session later."""
    market = env.market
    cash = market.cash_return[row][:, None].expand(held.shape[:2])
    return grow(held, market.returns[row][:, None].expand(*held.shape[:2], -1), cash)


def _to_close(env: Environment, held: Tensor, row: Days) -> Tensor:
    """Holdings of each day before the next session's trade, when those in delisted assets have become cash."""
    grown = _grow(env, held, row)
    return grown if env.market.always_fillable else settle(grown, env.market.delisted[row + 1][:, None])


def _growth(env: Environment, held: Float[Tensor, "day book asset+1"], row: Days) -> Float[Tensor, "day book"]:
    """Log growth of a value of 1 in the session after the trade."""
    return torch.log(_grow(env, held, row).sum(-1))
