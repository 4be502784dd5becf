"""The kernels of the environment against its eager functions; without a GPU in Triton's interpreter."""

from dataclasses import replace

import pytest
import torch

from tactician.environment import (
    Environment,
    EnvState,
    Outcome,
    Stream,
    cost_multiple,
    first_state,
    mixed,
    observe_portfolio_eager,
    observed_day,
    restart_finished,
    step_eager,
    uniform,
    uniform_after,
)
from tactician.environment.fused import supported
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
parts = pytest.importorskip("tactician.environment.fused_parts")
fused_step = pytest.importorskip("tactician.environment.fused_step").fused_step
fused_observe_portfolio = pytest.importorskip("tactician.environment.fused_observation").fused_observe_portfolio

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

EVERY_COST = Frictions(commission=0.0003, impact_linear=0.02)
MARKETS = {
    "complete": {},
    "masked": {"masked": True},
    "two groups": {"n_assets": 11, "masked": True},  # of lanes
    "wide": {"n_assets": 70},
}
SETTINGS = {
    "free": {"frictions": Frictions.zero(), "random_slippage": False},
    "specified": {"frictions": Frictions.specification()},
    "mean slippage": {"frictions": EVERY_COST, "random_slippage": False, "cost_multipliers": (0.5, 5.0)},
    "all": {"frictions": EVERY_COST, "cost_multipliers": (0.5, 5.0)},
    "linear impact": {"frictions": Frictions(impact=0.0, impact_linear=0.1)},
}


def make_env(n_assets: int = 5, masked: bool = False, portfolios: int = 4, **changes) -> Environment:
    market = random_market(n_assets=n_assets, vol=0.03)
    if masked:
        # Half of the orders cannot be filled, and two assets end in the middle of the episodes.
        fillable, delisted = market.fillable.clone(), market.delisted.clone()
        fillable[torch.rand(fillable.shape, generator=torch.Generator().manual_seed(1)) < 0.5] = False
        delisted[200:, 0], delisted[300:, 2] = True, True
        fillable &= ~delisted
        fillable[::9] = False  # everything is locked
        market = replace(market, fillable=fillable, delisted=delisted)
    changes = {"frictions": Frictions.specification()} | changes
    return Environment(
        market.to(DEVICE),
        rows=range(1, market.n_days),
        episode_length=16,
        portfolios_per_window=portfolios,
        seed=3,
        **changes,
    )


def actions(env: Environment, state: EnvState, t: int) -> torch.Tensor:
    """Random ones, of which a third holds and some repeat the last regime."""
    n = len(state.regime)
    index = torch.arange(n, device=DEVICE)
    drawn = (env.market.regime_weights.shape[1] * uniform(0, Stream.ACTION, t, 0, index)).long()
    kind = uniform(0, Stream.ACTION, t, 1, index)
    return torch.where(kind < 0.3, 0, torch.where(kind < 0.4, state.regime, drawn))


def assert_same_step(found: tuple[EnvState, Outcome], expected: tuple[EnvState, Outcome]) -> None:
    for one, other in zip(found, expected, strict=True):
        for name, value in vars(one).items():
            # A reward is 100 · the logarithm of a number near 1, which has the rounding of 1.
            atol = 1e-4 if name == "reward" else 2e-6
            torch.testing.assert_close(
                value, vars(other)[name], rtol=1e-5, atol=atol, msg=lambda m, k=name: f"{k}: {m}"
            )


CASES = [
    ("complete", "free", 1),
    ("complete", "specified", 4),
    ("complete", "all", 4),
    ("complete", "linear impact", 1),
    ("masked", "free", 4),
    ("masked", "specified", 1),
    ("masked", "mean slippage", 4),
    ("masked", "all", 1),
    ("two groups", "all", 4),
    ("wide", "specified", 1),
]


@pytest.mark.parametrize(("kind", "setting", "portfolios"), CASES)
def test_steps_and_observations_are_those_of_the_eager_functions(kind, setting, portfolios):
    env = make_env(portfolios=portfolios, **MARKETS[kind], **SETTINGS[setting])
    assert supported(env) and env.market.always_fillable == ("masked" not in MARKETS[kind])
    # These numbers of environments do not fill their last tile.
    n_envs = 10 if kind == "wide" else 20
    windows = torch.arange(5, 5 + n_envs // portfolios, device=DEVICE)
    state = first_state(env, windows, stagger=4)
    # As in the middle of a run: later episodes, open trades with gains and losses.
    growth = torch.linspace(-1, 1, n_envs, device=DEVICE)
    state = replace(state, episode=state.episode + windows % 3, trade_growth=growth, in_trade=growth.abs() > 0.1)
    for t in range(4):
        day = observed_day(env, state)
        seen, expected = fused_observe_portfolio(env, state, day), observe_portfolio_eager(env, state, day)
        torch.testing.assert_close(seen, expected, rtol=1e-5, atol=2e-6)
        action = actions(env, state, t)
        moved = fused_step(env, state, action)
        assert_same_step(moved, step_eager(env, state, action))
        assert (moved[0].holdings >= 0).all()
        state, _ = restart_finished(env, moved[0])  # some windows are at the end of their episode


def test_hold_returns_the_drifted_holdings_to_the_last_bit():
    for masked in (False, True):
        env = make_env(masked=masked, frictions=EVERY_COST)
        state = first_state(env, torch.arange(4, device=DEVICE))
        state = replace(state, day=torch.full_like(state.day, 150))  # before an asset ends: that would be a sum
        hold = torch.zeros(16, dtype=torch.int64, device=DEVICE)
        after, outcome = fused_step(env, state, hold)
        expected, _ = step_eager(env, state, hold)
        assert torch.equal(after.holdings, expected.holdings)
        assert not outcome.costs.any() and not outcome.turnover.any()


def test_locked_assets_stay_to_the_last_bit_and_money_is_conserved():
    env = make_env(masked=True, frictions=EVERY_COST, cost_multipliers=(1.0, 5.0))
    state = first_state(env, torch.arange(8, device=DEVICE))
    for t in range(2):
        action = actions(env, state, t)
        held, _ = fused_step(env, state, torch.zeros_like(action))
        moved, outcome = fused_step(env, state, action)
        day = state.day.repeat_interleave(4)
        locked = ~env.market.fillable[day]
        assert torch.equal(moved.holdings[:, :-1][locked], held.holdings[:, :-1][locked])
        value = held.holdings.double().sum(-1)
        paid = outcome.costs.double().sum(-1) * value
        torch.testing.assert_close(moved.holdings.double().sum(-1) + paid, value, rtol=1e-6, atol=0)
        assert (moved.holdings[:, -1] >= 0).all()
        state = moved


def test_a_portfolio_that_only_sells_what_it_can_is_never_in_debt():
    # All into the one asset that can be filled: the buys shrink to what cash and sells can pay.
    env = make_env(masked=True, random_slippage=False, frictions=EVERY_COST)
    state = first_state(env, torch.arange(4, device=DEVICE))
    fully = torch.zeros_like(state.holdings)
    fully[:, :-1] = 1 / (fully.shape[1] - 1)
    state = replace(state, holdings=fully)
    short = 0
    for action in range(2, 8):
        chosen = torch.full_like(state.regime, action)
        moved = fused_step(env, state, chosen)
        assert_same_step(moved, step_eager(env, state, chosen))
        cash = moved[0].holdings[:, -1]
        assert (cash >= 0).all()
        short += int((cash < 1e-5).sum())
    assert short > 5  # the case was there


def test_cash_is_never_negative_when_everything_is_locked():
    env = make_env(n_assets=11, masked=True, frictions=EVERY_COST)
    state = first_state(env, torch.arange(32, device=DEVICE))
    weights = torch.rand(128, 12, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    weights[:, -1] = 0
    state = replace(state, day=torch.full_like(state.day, 9), holdings=weights / weights.sum(-1, keepdim=True))
    moved, outcome = fused_step(env, state, torch.full_like(state.regime, 2))
    assert not outcome.turnover.any() and not moved.holdings[:, -1].any()


@triton.jit
def _draw(out, counter, number, rows: tl.constexpr):
    place = tl.arange(0, rows)
    tl.store(out + place, parts.as_uniform(parts.absorb(number, tl.load(counter + place))))


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 7, -5])
def test_random_numbers_are_the_same_to_the_last_bit(seed):
    counter = torch.cat([torch.arange(-64, 64), 2**62 - torch.arange(64), -(2**63) + torch.arange(64)]).to(DEVICE)
    for leading in ((), (3,), (9, 2**33)):
        number, out = mixed(seed, Stream.ACTION, *leading), torch.empty(256, device=DEVICE)
        _draw[(1,)](out, counter, number, rows=256)
        expected = uniform(seed, Stream.ACTION, *leading, counter)
        assert torch.equal(out, expected)
        assert torch.equal(uniform_after(number, counter), expected)
        assert torch.equal(uniform_after(torch.tensor([number], device=DEVICE), counter), expected)


@triton.jit
def _multiple(out, window, episode, number, low, span, rows: tl.constexpr):
    place = tl.arange(0, rows)
    w, e = tl.load(window + place), tl.load(episode + place)
    tl.store(out + place, parts.cost_multiple(w, e, number, low, span))


def test_multiples_of_the_costs_are_those_of_the_eager_function():
    env = make_env(cost_multipliers=(0.25, 4.0))
    state = first_state(env, torch.arange(64, device=DEVICE))
    low, high = (torch.tensor(x).log().item() for x in env.cost_multipliers)
    out = torch.empty(64, device=DEVICE)
    number = mixed(env.seed, Stream.COST_MULTIPLE)
    _multiple[(1,)](out, state.window, state.episode, number, low, high - low, rows=64)
    torch.testing.assert_close(out, cost_multiple(env, state), rtol=2e-6, atol=0)


def test_impact_on_volume_is_left_to_the_eager_functions():
    assert not supported(make_env(frictions=Frictions(impact_adv=1.0)))


@pytest.mark.parametrize("n_assets", [1, 2, 3, 8, 30, 65, 300, 503, 2000])
def test_tiles_cover_their_assets_with_powers_of_two(n_assets):
    shape = parts.tile(n_assets)
    assert shape.groups * shape.lanes >= n_assets
    assert all(x & (x - 1) == 0 for x in shape)
    assert shape.warps <= parts.WARPS and shape.rows * shape.lanes >= shape.warps
