"""Many markets as one: each window lives in its own, and what is blank or appended changes nothing."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.environment import (
    Environment,
    MarketTensors,
    bootstrapped,
    earliest_row,
    first_state,
    join,
    market_bytes,
    observe,
    restart_finished,
    same_days,
    step,
    training_part,
)
from tactician.environment.many_markets import MEAN_BLOCK, stationary_blocks
from tactician.environment.noise import Stream, uniform
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market

TRAIN = range(1, 300)


def market_with_a_listing(n_days: int = 400) -> MarketTensors:
    """The last asset has no bar before row 100, and the first none from row 260 on."""
    market = random_market(n_days=n_days, seed=4)
    fillable, tradable, delisted = market.fillable.clone(), market.tradable.clone(), market.delisted.clone()
    fillable[:100, -1] = False
    fillable[260:, 0] = False
    delisted[260:, 0] = True
    tradable[265:, 0] = False
    weights = market.regimes.weights(market.factor_ranks, tradable)
    return replace(market, fillable=fillable, tradable=tradable, delisted=delisted, regime_weights=weights)


def tensors(market: MarketTensors) -> dict[str, torch.Tensor]:
    return {f.name: x for f in fields(market) if torch.is_tensor(x := getattr(market, f.name))}


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a, b) or (a.is_floating_point() and torch.equal(a.nan_to_num(nan=-9e9), b.nan_to_num(nan=-9e9)))


def live(env: Environment, n: int = 6, steps: int = 40, offset: int = 0) -> list[torch.Tensor]:
    """Observations, rewards and costs of some windows under fixed actions, the value after an episode included."""
    state, seen = first_state(env, torch.arange(n)), []
    for t in range(steps):
        seen.append(observe(env, state))
        action = (torch.arange(n * env.portfolios_per_window) + t) % env.market.regimes.n_actions
        state, outcome = step(env, state, action)
        seen += [outcome.reward, outcome.costs, state.day - offset]
        if int(state.age[0]) == env.episode_length:
            seen.append(observe(env, state))
            state = restart_finished(env, state)[0]
    return seen


def environment(market: MarketTensors, rows: range, stretches=(), markets=(), **settings) -> Environment:
    return Environment(market, Frictions(), stretches or rows, 16, portfolios_per_window=2, markets=markets, **settings)


def slow_bootstrap(n: int, length: int, seed: int, number: int) -> list[int]:
    """The definition, a place at a time."""
    places = []
    for row in torch.arange(length):
        ends = uniform(seed, Stream.BLOCK_END, number, row).item() < 1 / MEAN_BLOCK
        if not places or ends:
            places.append(int(uniform(seed, Stream.BLOCK_START, number, row).double() * n))
        else:
            places.append((places[-1] + 1) % n)
    return places


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 500), length=st.integers(1, 300), seed=st.integers(0, 2**40), number=st.integers(0, 50))
def test_the_blocks_are_those_of_the_definition(n, length, seed, number):
    assert stationary_blocks(n, length, seed, number).tolist() == slow_bootstrap(n, length, seed, number)


def test_the_blocks_have_the_mean_length_and_visit_every_place_alike():
    places = stationary_blocks(500, 400_000, 0, 0)
    joins = ((places[1:] - places[:-1]) % 500 != 1).sum()
    assert 400_000 / int(joins) == pytest.approx(MEAN_BLOCK, rel=0.03)
    visits = torch.bincount(places, minlength=500).double() / 800
    assert visits.min() > 0.6 and visits.max() < 1.5
    assert 20 <= MEAN_BLOCK <= 60


def test_another_number_or_seed_is_another_market():
    draws = {tuple(stationary_blocks(300, 300, *key).tolist()) for key in ((0, 0), (0, 1), (1, 0))}
    assert len(draws) == 3


def test_a_bootstrapped_row_is_a_whole_row_of_the_training_range():
    market = market_with_a_listing()
    part = bootstrapped(market, (TRAIN,), 7, 2)
    assert part.stretches == (range(1, len(TRAIN) + 1),) and part.market.n_days == len(TRAIN) + 2
    chosen = part.market.dates - market.dates[0]
    assert int(chosen.min()) >= TRAIN.start and int(chosen.max()) < TRAIN.stop
    for name, of_part in tensors(part.market).items():
        if name != "delisted":
            assert same(of_part, tensors(market)[name][chosen]), name


def test_no_row_outside_of_the_stretches_is_drawn():
    market, stretches = market_with_a_listing(), (range(1, 90), range(200, 300))
    chosen = bootstrapped(market, stretches, 0, 0).market.dates - market.dates[0]
    assert {int(row) for row in chosen} <= {row for part in stretches for row in part}


def test_an_asset_that_is_not_listed_yet_is_paid_out_and_not_locked_in():
    market = market_with_a_listing()
    part = bootstrapped(market, (TRAIN,), 0, 0)
    row = part.market.dates - market.dates[0]
    assert torch.equal(part.market.delisted[:, -1], row < 100)
    joined = join((training_part(market, (TRAIN,)), part))
    env = environment(joined.market, range(1, joined.market.n_days), joined.stretches[1], joined.markets)
    assert not joined.market.always_fillable
    state = first_state(env, torch.arange(64))
    for t in range(16):
        state, outcome = step(env, state, torch.full((128,), 4 + t % 3))
        unlisted = (joined.market.dates[state.day - 1] - market.dates[0] < 100).repeat_interleave(2)
        assert (state.holdings[unlisted, -2] == 0).all()
        assert outcome.reward.isfinite().all()


def test_the_part_for_training_holds_nothing_of_what_came_later():
    market = market_with_a_listing()
    poisoned = {}
    for name, x in tensors(market).items():
        # Row 300 sees session 299 only: its features and targets are known. Its own session is not.
        first = 301 if name in SEEN else 300
        bad = torch.nan if x.is_floating_point() else True if x.dtype == torch.bool else 99_999
        poisoned[name] = torch.cat([x[:first], torch.full_like(x[first:], bad)])
    parts = [training_part(each, (TRAIN,)) for each in (market, replace(market, **poisoned))]
    assert parts[0].market.n_days == TRAIN.stop + 1
    for name, x in tensors(parts[0].market).items():
        assert same(x, tensors(parts[1].market)[name]), name
        assert same(x[: TRAIN.stop], tensors(market)[name][: TRAIN.stop]), name
    copies = [bootstrapped(each, (TRAIN,), 0, 0).market for each in (market, replace(market, **poisoned))]
    assert all(same(x, tensors(copies[1])[name]) for name, x in tensors(copies[0]).items())


SEEN = ("dates", "features", "regime_weights", "tradable", "factor_ranks", "vol_daily", "dollar_volume")


def test_a_market_that_ends_with_its_training_range_can_be_trained_on():
    market = market_with_a_listing(300)
    part = training_part(market, (range(1, 300),))
    assert part.market.n_days == 301 and same(part.market.features[-1], market.features[-1])
    assert part.market.returns[299].equal(market.returns[299]) and not part.market.returns[300].any()


def test_a_window_of_an_appended_market_lives_as_in_the_market_alone():
    market, other = market_with_a_listing(), random_market(n_days=350, seed=9)
    parts = training_part(market, (TRAIN,)), training_part(other, (range(1, 320),))
    joined = join(parts)
    assert joined.markets == (range(0, 301), range(301, 622)) and joined.stretches[1] == (range(302, 621),)
    alone = environment(parts[1].market, range(1, 320))
    appended = environment(joined.market, range(1, joined.market.n_days), joined.stretches[1], joined.markets)
    appended = replace(appended, market=joined.market)
    # Trades of equal size have equal costs whether masks are used or not, up to rounding; what is seen is equal to the bit.
    for one, both in zip(live(alone), live(appended, offset=301), strict=True):
        torch.testing.assert_close(one, both, rtol=1e-5, atol=1e-5)
    state, shifted = first_state(alone, torch.arange(6)), first_state(appended, torch.arange(6))
    assert torch.equal(observe(alone, state), observe(appended, shifted))


@pytest.mark.parametrize("frictions", [Frictions(), Frictions(impact_adv=0.5, impact_linear=0.01)])
@pytest.mark.parametrize("n_assets", [3, 5, 8])
def test_columns_without_an_asset_leave_the_observation_as_it_is(n_assets, frictions):
    market = random_market(n_days=350, n_assets=n_assets, seed=5)
    wide = random_market(n_days=350, n_assets=11, seed=6)
    joined = join((training_part(wide, (TRAIN,)), training_part(market, (TRAIN,))))
    narrow = environment(market, TRAIN)
    padded = environment(joined.market, range(1, joined.market.n_days), joined.stretches[1], joined.markets)
    narrow, padded = replace(narrow, frictions=frictions), replace(padded, frictions=frictions)
    assert joined.market.always_fillable
    state = first_state(narrow, torch.arange(32))
    for t in range(16):
        blank = torch.zeros(64, 11 - n_assets)
        holdings = torch.cat([state.holdings[:, :-1], blank, state.holdings[:, -1:]], 1)
        shifted = replace(state, day=state.day + 301, holdings=holdings)
        one, other = observe(narrow, state), observe(padded, shifted)
        # Equal to the bit, but for the last bits of sums over assets, which are added in another order.
        assert torch.equal(one[:, :44], other[:, :44]) and torch.equal(one[:, 57:], other[:, 57:])
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
        action = torch.full((64,), t % 12)
        state, first = step(narrow, state, action)
        after, second = step(padded, shifted, action)
        torch.testing.assert_close(first.reward, second.reward, rtol=0, atol=1e-3)
        torch.testing.assert_close(first.costs, second.costs, rtol=0, atol=1e-6)
        assert (after.holdings[:, n_assets:-1] == 0).all()


def test_a_stretch_outside_of_its_market_is_refused():
    market = random_market()
    markets = (range(0, 200), range(200, 400))
    for stretches in ((range(150, 250),), (range(1, 200),), (range(200, 300),), ()):
        with pytest.raises(ValueError, match="a stretch must lie inside one market"):
            environment(market, range(1, 400), stretches, markets)
    environment(market, range(1, 400), (range(1, 199), range(201, 399)), markets)


def test_markets_of_other_regimes_cannot_be_joined():
    parts = [training_part(random_market(regimes=kind), (TRAIN,)) for kind in ("factor", "static")]
    with pytest.raises(ValueError, match="the same regimes"):
        join(parts)


def test_a_market_is_watched_from_its_own_first_row_on():
    market = random_market()
    env = environment(market, range(1, 400), (range(1, 199), range(201, 399)), (range(0, 200), range(200, 400)))
    assert earliest_row(env, torch.tensor([1, 199, 201, 398])).tolist() == [1, 1, 201, 201]
    assert earliest_row(environment(market, range(1, 400)), torch.tensor([5, 398])).tolist() == [1, 1]


def test_the_same_days_of_another_market_are_found_by_date():
    market, other = random_market(n_days=400), random_market(n_days=500)
    other = replace(other, dates=other.dates - 50, end_dates=other.end_dates - 50)
    rows = same_days(market, other, range(10, 100))
    assert rows == range(60, 150)
    assert torch.equal(other.dates[rows.start : rows.stop], market.dates[10:100])
    assert len(same_days(market, replace(other, dates=other.dates + 5000, end_dates=other.end_dates + 5000), rows)) == 0


def test_the_bytes_of_a_market_are_those_of_its_tensors():
    market = random_market(n_days=100, n_assets=2)
    # Per day: two dates, two returns, cash, 44 features, 12 regimes × 3, three masks × 2, 2 × 4 ranks, 2 + 2 numbers.
    assert market_bytes(market) == 100 * (16 + 8 + 4 + 176 + 144 + 6 + 32 + 16)
