"""The lattice that measures gradients: its books against portfolios that live one by one, its gradient against differences."""

import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.environment import FEATURE_NAMES, OBS_DIM, PORTFOLIO_NAMES, Environment, EnvState, observe, step
from tactician.learning import begin_memory, sample_action_eager
from tactician.policy import MarketMemory
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MARKET = len(FEATURE_NAMES)
SINCE_TRADE = PORTFOLIO_NAMES.index("since_trade")
SAME = [k for k in range(len(PORTFOLIO_NAMES)) if k != SINCE_TRADE]
"""The portfolio's entries that the lattice has as the environment has them; in the other one it shows the age."""


@pytest.fixture(scope="module")
def noise():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import gradient_noise

        yield gradient_noise
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def lattice(noise):
    return noise.exact


def doubled(market):
    """The same market in double precision."""
    wide = {
        f.name: x.double()
        for f in fields(market)
        if torch.is_tensor(x := getattr(market, f.name)) and x.is_floating_point()
    }
    return replace(market, **wide)


def environment(market=None, **changes):
    market = market or doubled(random_market(60, listing=False))
    given = {"rows": range(1, market.n_days), "episode_length": 8, "random_slippage": False, **changes}
    return Environment(market, Frictions.specification(), **given)


def ended_market(row=30):
    """The second asset has its last bar before a row's session; targets know it one row later."""
    market = random_market(60, listing=False)
    tradable, fillable, returns = market.tradable.clone(), market.fillable.clone(), market.returns.clone()
    tradable[row + 1 :, 1] = fillable[row:, 1] = False
    returns[row - 1 :, 1] = 0.0
    delisted = ~fillable
    weights = market.regimes.weights(market.factor_ranks, tradable)
    # The cash that the holding becomes earns interest, so it shows from when on it is cash.
    return doubled(
        replace(
            market,
            tradable=tradable,
            fillable=fillable,
            delisted=delisted,
            returns=returns,
            regime_weights=weights,
            cash_return=torch.full((60,), 0.01),
        )
    )


def portfolio(env, day, regime, holdings):
    """One portfolio that was just set to a regime, before the decision of a day."""
    one = torch.ones(1, dtype=torch.int64)
    return EnvState(
        window=0 * one,
        episode=0 * one,
        age=0 * one,
        day=day * one,
        holdings=holdings[None],
        regime=regime * one,
        since_trade=0 * one,
        trade_growth=torch.zeros(1),
        in_trade=torch.zeros(1, dtype=torch.bool),
    )


def one_by_one(env, day, ages):
    """Holdings, what is observed of them, and the reward of every action, for one portfolio after the other."""
    n_actions, held, seen, earned = env.market.regimes.n_actions, [], [], []
    for regime in range(1, n_actions):
        for age in range(ages):
            set_at = max(day - 1 - age, 0)
            state = portfolio(env, set_at + 1, regime, env.market.regime_weights[set_at, regime])
            while int(state.day) < day:
                state, _ = step(env, state, torch.tensor([0]))
            held.append(state.holdings[0])
            seen.append(observe(env, state)[0, MARKET:])
            earned.append(torch.cat([step(env, state, torch.tensor([k]))[1].reward for k in range(n_actions)]))
    return torch.stack(held), torch.stack(seen), torch.stack(earned)


@pytest.mark.parametrize(
    ("make", "days"),
    [
        (lambda: doubled(random_market(60, listing=False)), [1, 2, 3, 25, 59]),
        # An order in the asset that has ended is not filled, and the lattice fills all. So there is no day 30 here.
        (ended_market, [28, 29, 31, 32, 33, 34]),
    ],
)
def test_books_entries_and_rewards_are_those_of_portfolios_that_live_one_by_one(lattice, make, days):
    env, ages = environment(make()), 4
    day = torch.tensor(days)
    held = lattice.books(env, day, ages)
    entries = lattice.portfolio_entries(env, day, held, ages)
    rewards = lattice.rewards(env, day, held)
    for k, today in enumerate(days):
        theirs, seen, earned = one_by_one(env, today, ages)
        assert torch.allclose(held[k], theirs, atol=1e-12), today
        assert torch.allclose(entries[k][:, SAME], seen[:, SAME], atol=1e-9), today
        assert torch.allclose(rewards[k], earned, atol=1e-5), today


def test_next_states_by_hand(lattice):
    # Two regimes of three ages: states 0, 1, 2 and 3, 4, 5. HOLD ages a book, and the last age stays.
    assert lattice.next_states(3, 3).tolist() == [[1, 0, 3], [2, 0, 3], [2, 0, 3], [4, 0, 3], [5, 0, 3], [5, 0, 3]]
    assert lattice.next_states(3, 1).tolist() == [[0, 0, 1], [1, 0, 1]]


def test_an_episode_begins_with_the_book_of_any_regime_just_set(lattice):
    first = lattice.fresh_books(2, 4, 3, torch.zeros((), dtype=torch.float64))
    assert first.tolist() == [[pytest.approx(1 / 3), 0, 0] * 3] * 2


def random_policy(days, windows, regimes, ages, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    states = regimes * ages
    chosen = (2 * normal(days, windows, states, regimes + 1)).softmax(-1)
    return normal(days, windows, states, regimes + 1), chosen, normal(windows, states)


def reached(state, action, ages):
    """The state that an action leads to, by the definition."""
    if action > 0:
        return (action - 1) * ages
    return state + 1 if state % ages < ages - 1 else state


SIZES = {
    "days": st.integers(1, 4),
    "windows": st.integers(1, 2),
    "regimes": st.integers(1, 3),
    "ages": st.integers(1, 3),
    "seed": st.integers(0, 99),
}


@settings(max_examples=25, deadline=None)
@given(**SIZES, gamma=st.sampled_from([0.0, 0.7, 1.0]))
def test_values_are_those_of_a_plain_recursion(lattice, days, windows, regimes, ages, seed, gamma):
    reward, chosen, beyond = random_policy(days, windows, regimes, ages, seed)
    q, v = lattice.values(reward, chosen, beyond, gamma)

    def value(t, w, x):
        if t == days:
            return float(beyond[w, x])
        return sum(float(chosen[t, w, x, k]) * worth(t, w, x, k) for k in range(regimes + 1))

    def worth(t, w, x, k):
        return float(reward[t, w, x, k]) + gamma * value(t + 1, w, reached(x, k, ages))

    for w in range(windows):
        for x in range(regimes * ages):
            assert float(v[0, w, x]) == pytest.approx(value(0, w, x), abs=1e-12)
            for k in range(regimes + 1):
                assert float(q[0, w, x, k]) == pytest.approx(worth(0, w, x, k), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(**SIZES)
def test_occupancy_is_that_of_a_walk_through_all_books(lattice, days, windows, regimes, ages, seed):
    _, chosen, beyond = random_policy(days, windows, regimes, ages, seed)
    first = beyond.softmax(-1)
    found = lattice.occupancy(chosen, first)
    assert torch.allclose(found.sum(-1), torch.ones(days, windows, dtype=torch.float64), atol=1e-12)
    for w in range(windows):
        now = {x: float(first[w, x]) for x in range(regimes * ages)}
        for t in range(days):
            assert found[t, w].tolist() == pytest.approx([now.get(x, 0.0) for x in range(regimes * ages)], abs=1e-12)
            after = {}
            for x, p in now.items():
                for k in range(regimes + 1):
                    y = reached(x, k, ages)
                    after[y] = after.get(y, 0.0) + p * float(chosen[t, w, x, k])
            now = after


@settings(max_examples=25, deadline=None)
@given(**SIZES)
def test_what_is_earned_is_the_same_counted_forwards_and_backwards(lattice, days, windows, regimes, ages, seed):
    """Σ p₀·V₀ by backward induction is Σ over days of the rewards, weighted by occupancy and policy."""
    reward, chosen, beyond = random_policy(days, windows, regimes, ages, seed)
    first = beyond.softmax(-1)
    _, v = lattice.values(reward, chosen, torch.zeros_like(beyond), 1.0)
    forwards = (lattice.occupancy(chosen, first)[..., None] * chosen * reward).sum((0, 2, 3))
    assert torch.allclose(forwards, (first * v[0]).sum(-1), atol=1e-12)


def opinionated(seed, n_actions=12):
    """A network whose probabilities differ from book to book, and which does not read the sessions since the last trade."""
    generator = torch.Generator().manual_seed(seed)
    policy = MarketMemory(OBS_DIM, n_actions, hidden_dim=8, n_gru_layers=1, dropout=0.0, generator=generator)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        for head in (policy.policy_head, policy.value_head):
            head[0].weight[:, SINCE_TRADE - len(PORTFOLIO_NAMES)] = 0
    return policy


def small(market=None, **changes):
    return environment(market or random_market(60, n_assets=3, listing=False, vol=0.02), **changes)


def windows(noise, env, policy, first, gamma=1.0):
    """Windows of the measurement, without a configuration."""
    setup = SimpleNamespace(environment=env, config=SimpleNamespace(gamma=gamma))
    return noise.Windows(setup, policy, torch.tensor(first))


def expected(noise, window, beyond):
    """What the windows' policy is worth to an episode that begins, by backward induction; the sum over windows."""
    _, v = noise.exact.values(window.reward, window.policy, beyond, 1.0)
    return float((window.first * v[0]).sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_the_exact_gradient_is_that_of_what_the_policy_earns(noise, monkeypatch, seed):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # all in double precision
    monkeypatch.setattr(noise, "DAYS", 6)
    monkeypatch.setattr(noise, "AGES", 3)
    env, policy, first = small(doubled(small().market)), opinionated(seed).double(), [20, 41]
    # The memory that a window begins with, and the critic's word on what comes after it, stay what they are.
    begun = begin_memory(env, policy, torch.tensor(first))
    monkeypatch.setattr(noise, "begin_memory", lambda *_: begun)
    window, parameters = windows(noise, env, policy, first), policy.actor_parameters()
    gradient = window.gradient(window.lattice(), parameters)
    beyond = window.critic[-1]
    assert gradient.dtype == beyond.dtype == torch.float64
    generator = torch.Generator().manual_seed(seed)
    for _ in range(4):
        direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        found = []
        for by in (1e-6, -1e-6):  # small, so that no ReLU has its kink in between
            moved = torch.nn.utils.parameters_to_vector(parameters).detach()
            torch.nn.utils.vector_to_parameters(moved + by * direction, parameters)
            found.append(expected(noise, windows(noise, env, policy, first), beyond))
            torch.nn.utils.vector_to_parameters(moved, parameters)
        assert (found[0] - found[1]) / 2e-6 == pytest.approx(float(gradient @ direction), rel=1e-6)


def test_what_the_lattice_expects_is_what_portfolios_earn_on_average(noise, monkeypatch):
    """A hundred thousand portfolios live through the window in the real environment, each with its own luck."""
    n, days, ages, start = 100_000, 8, 9, 30  # no book reaches the last age
    monkeypatch.setattr(noise, "DAYS", days)
    monkeypatch.setattr(noise, "AGES", ages)
    env, policy = small(random_slippage=True, portfolios_per_window=n), opinionated(0)
    window = windows(noise, env, policy, [start])
    worth = expected(noise, window, torch.zeros_like(window.first))

    generator = torch.Generator().manual_seed(0)
    regime = torch.randint(1, 12, (n,), generator=generator)
    one, none = torch.ones(1, dtype=torch.int64), torch.zeros(n, dtype=torch.int64)
    state = EnvState(
        window=0 * one,
        episode=0 * one,
        age=0 * one,
        day=start * one,
        holdings=env.market.regime_weights[start - 1, regime],
        regime=regime,
        since_trade=none,
        trade_growth=none.float(),
        in_trade=none.bool(),
    )
    hidden, age, earned = begin_memory(env, policy, torch.tensor([start])), none, torch.zeros(n)
    for t in range(days):
        with torch.no_grad():
            logits, _, hidden = policy(observe(env, state)[None], hidden)
        action, log_prob = sample_action_eager(logits[0], torch.rand(n, generator=generator))
        book = (state.regime - 1) * ages + age
        assert torch.allclose(log_prob.exp(), window.policy[t, 0, book, action], atol=1e-4)
        state, outcome = step(env, state, action)
        age = torch.where(action == 0, age + 1, 0)
        earned += outcome.reward
    error = float(earned.std()) / n**0.5
    assert 0 < error < 0.02 < abs(worth)
    assert float(earned.mean()) == pytest.approx(worth, abs=4 * error)


@pytest.mark.parametrize(
    ("all_actions", "portfolios", "times"), [(False, 1, 32_000), (False, 8, 2000), (True, 8, 2000)]
)
def test_the_estimators_mean_is_the_exact_gradient(noise, monkeypatch, all_actions, portfolios, times):
    """With λ = 1, where the critic has no bias."""
    for name, value in {"DAYS": 3, "AGES": 2, "LAMBDA": 1.0}.items():
        monkeypatch.setattr(noise, name, value)
    policy = opinionated(0)
    window, generator = windows(noise, small(), policy, [30]), torch.Generator().manual_seed(0)
    mean = sum(window.sampled(portfolios, generator, all_actions) for _ in range(times)) / times
    found, exact = (window.gradient(weights, policy.actor_parameters()) for weights in (mean, window.lattice()))
    assert torch.cosine_similarity(found, exact, 0) > 0.95
    assert float(found @ exact / exact.square().sum()) == pytest.approx(1, abs=0.1)
