"""The judge: pieces in one ledger, seeds, costs, delays, starts and timing, against what can be worked out by hand."""

import importlib
import itertools
import math
from dataclasses import replace

import pytest
import torch

from tactician.evaluation import (
    AGENT,
    EQUAL_WEIGHT,
    NotFinite,
    Piece,
    PolicyNotFinite,
    Turn,
    action_targets,
    backtest,
    baselines_of,
    evaluate,
    hold_equal_weight,
    judge,
)
from tactician.evaluation.decisions import Start, all_starts, starting_weights
from tactician.evaluation.inference import Interval
from tactician.evaluation.judge import DELAYS, MULTIPLIERS
from tactician.portfolio.frictions import Frictions
from tests.evaluation.agents import CASH, EQUAL, HOLD, MOMENTUM, Told, environment, network, planned
from tests.markets import random_market

pytestmark = pytest.mark.whole_judge

ROWS = range(200, 260)
FRICTIONS = Frictions.specification()


def judged(env, *policies, rows=ROWS, **piece):
    return judge([Turn(Piece(rows, **piece), env, policies or (network(),))])


def random_plan(n=300, seed=0, choices=(HOLD, CASH, EQUAL, MOMENTUM)):
    drawn = torch.randint(len(choices), (n,), generator=torch.Generator().manual_seed(seed))
    return torch.tensor(choices)[drawn]


def followed(plan, **more):
    """An environment in which `Told` follows a plan."""
    return environment(planned(random_market(300, listing=False), plan), **more)


def close(a, b, tolerance=1e-12):
    assert a.shape == b.shape and float((a - b).abs().max()) <= tolerance


def test_the_regimes_are_what_their_numbers_say():
    names = random_market().regimes.names
    assert [names[k] for k in (HOLD, CASH, EQUAL, MOMENTUM)] == ["HOLD", "FULL_CASH", "EQUAL_WEIGHT", "MOMENTUM"]


# Pieces in one ledger


def test_two_turns_of_one_policy_are_one_turn():
    env, policy = environment(), network(2)
    halves = [Turn(Piece(rows), env, (policy,)) for rows in (range(200, 230), range(230, 260))]
    whole, parts = judged(env, policy), judge(halves)
    assert len(whole.decisions.actions.unique()) > 2  # else the test could not fail
    assert parts.rows == whole.rows and torch.equal(parts.decisions.actions, whole.decisions.actions)
    for name in ("growth", "costs", "turnover", "weights"):
        close(getattr(parts.path, name), getattr(whole.path, name))
    close(parts.decisions.observations, whole.decisions.observations)
    close(parts.by_start.growth, whole.by_start.growth)
    for k in DELAYS:
        close(parts.by_delay[k].growth, whole.by_delay[k].growth)
    assert parts.timing == whole.timing


def test_a_seam_costs_nothing_extra_and_separate_ledgers_would():
    """The first policy buys and the second one holds: the shares go from one to the other without a trade."""
    env = followed(torch.where(torch.arange(300) == 200, EQUAL, HOLD))
    halves = [Turn(Piece(rows), env, (Told(),)) for rows in (range(200, 230), range(230, 260))]
    found = judge(halves).path.only((AGENT,))
    assert found.turnover[1:-1].count_nonzero() == 0 and found.costs[1:-1].count_nonzero() == 0
    close(found.costs, judged(env, Told()).path.only((AGENT,)).costs)
    alone = [judge([turn]).path.only((AGENT,)) for turn in halves]
    assert float(alone[0].costs[-1].sum()) > 0.003  # alone it sells what the seam hands over
    assert float(alone[1].costs.sum()) == 0 and float(found.growth[30:-1].std()) > 0.001  # and the second never buys


def test_each_turn_decides_with_its_own_policy_and_its_own_normaliser():
    calm = followed(torch.full((300,), CASH))
    # The same market, its first feature seen four units higher: the second policy reads FULL_CASH as MOMENTUM.
    features = calm.market.features.clone()
    features[:, 0] += MOMENTUM - CASH
    other = replace(calm, market=replace(calm.market, features=features))
    turns = [Turn(Piece(range(200, 230)), calm, (Told(),)), Turn(Piece(range(230, 260)), other, (Told(),))]
    assert judge(turns).decisions.actions[:, 0].tolist() == 30 * [CASH] + 30 * [MOMENTUM]


@torch.no_grad()
def test_seeds_are_followed_all_the_way_and_the_agent_as_far_as_its_turn_says():
    plain, policy = environment(), network(2)
    half = replace(plain, market=plain.market.with_strength(0.5))
    nothing = replace(plain, market=plain.market.with_strength(0.0))
    idle = hold_equal_weight(64, plain.market.regimes.names)
    seeds = (network(2), network(3))
    first, second = Piece(range(200, 230)), Piece(range(230, 260))
    found = judge([Turn(first, half, (policy,), seeds), Turn(second, nothing, (idle,), seeds)])
    close(
        found.path.only(("seed:1",)).growth,
        judge([Turn(piece, plain, (seeds[1],)) for piece in (first, second)]).path.only((AGENT,)).growth,
    )
    # By hand: halfway between equal weight and the regime's own target, then equal weight.
    weights = found.path.only((AGENT,)).weights[:, 0]
    traded = found.decisions.actions[:30, 0] != HOLD
    own, _ = action_targets(plain.market, first.rows, found.decisions.actions[:30, 0])
    equal = starting_weights(plain, first.rows, (Start("EQUAL_WEIGHT", equal=True),)).double()
    close(weights[:30][traded], (0.5 * own[:, 0] + 0.5 * equal)[traded], 1e-6)
    close(weights[30:], equal.expand(30, -1), 1e-6)
    assert traded.sum() > 5 and len(found.decisions.actions[:30].unique()) > 2
    assert [len(remembered) for remembered in found.memories] == [1, 1]
    assert found.memories[0][0].shape[1:] != found.memories[1][0].shape[1:]


def test_turns_that_do_not_join_up_are_refused():
    env = environment()
    with pytest.raises(ValueError, match="do not join up"):
        judge([Turn(Piece(range(200, 230)), env, (network(),)), Turn(Piece(range(231, 260)), env, (network(),))])


# One policy, several, and all baselines


def test_the_result_is_that_of_evaluate():
    env, policy = environment(length=8), network(1)
    ours, theirs = judged(env, policy).result, evaluate(env, policy, ROWS)
    assert ours.as_dict() == theirs.as_dict()
    assert ours.path.strategies == (AGENT, "equal_weight", "cash", "buy_and_hold")


@torch.no_grad()
def test_each_seed_has_the_path_that_it_has_alone_and_the_agent_is_their_mean():
    env, policies = environment(), (network(1), network(2), network(3))
    found = judged(env, *policies)
    assert found.seeds == ("seed:0", "seed:1", "seed:2")
    assert found.path.strategies[:4] == (AGENT, *found.seeds)
    assert [(s.label, s.group) for s in found.strategies[:2]] == [("Agent", "agent"), ("Seed 0", "seed")]
    for name, policy in zip(found.seeds, policies, strict=True):
        close(found.path.only((name,)).growth, judged(env, policy).path.only((AGENT,)).growth)
    assert not torch.equal(found.path.growth[:, 1], found.path.growth[:, 2])
    # By hand: the mean of their probabilities over what the ensemble saw. Without memory nothing else counts.
    seen = found.decisions.observations
    fresh = policies[0].initial_state(len(seen))
    each = [policy(seen[None], fresh)[0][0].softmax(-1) for policy in policies]
    mean = torch.stack(each).mean(0)
    close(found.decisions.probabilities[:, 0], mean, 1e-5)
    assert torch.equal(found.decisions.actions[:, 0], mean.argmax(-1))
    assert judged(env, policies[0]).seeds == ()


def test_every_baseline_is_there_or_says_why_not():
    env = followed(random_plan())
    found = judge([Turn(Piece(ROWS, validation=range(150, 199), train=range(1, 149)), env, (Told(),))])
    assert [s.name for s in found.strategies] == [AGENT, *baselines_of(env.market)]
    assert found.path.strategies == tuple(s.name for s in found.strategies if not s.missing)
    assert found.path.is_finite and found.path.weights is not None
    close(found.path.weights.sum(-1), torch.ones(found.path.growth.shape).double())
    known = {s.name: s for s in found.strategies}
    assert not known["best_constant"].missing and not known["random_regimes"].missing
    assert any("one draw" in note for note in found.notes)
    # A constant regime is what an agent that chooses it every day earns.
    always = judged(followed(torch.full((300,), EQUAL)), Told()).path.only((AGENT,)).growth
    close(found.path.only(("regime:EQUAL_WEIGHT",)).growth, always)
    # Without a validation range nobody could have chosen the best constant.
    without = {s.name: s.missing for s in judged(env, Told()).strategies}
    assert "no validation range" in without["best_constant"]


# Costs, delays, starts


def test_costs_scale_with_their_factor():
    found = judged(followed(random_plan()), Told())
    assert tuple(found.by_cost) == MULTIPLIERS
    targets, hold = action_targets(found.market, ROWS, found.decisions.actions[:, 0])
    for factor, path in found.by_cost.items():
        assert path.strategies == (AGENT, EQUAL_WEIGHT)
        dearer = Frictions(0.0002 * factor, 0.0005 * factor, 0.01 * factor)
        close(path.growth[:, :1], backtest(found.market, ROWS, targets, hold, dearer, liquidate=True).growth)
    assert float(found.by_cost[0].costs.abs().sum()) == 0
    close(found.by_cost[1].growth, found.path.only((AGENT, EQUAL_WEIGHT)).growth)
    paid = {factor: float(path.costs[:, 0].sum()) for factor, path in found.by_cost.items()}
    assert paid[2] == pytest.approx(2 * paid[1], rel=0.02) and paid[5] == pytest.approx(5 * paid[1], rel=0.05)
    grown = [path.growth.sum(0) for path in found.by_cost.values()]
    assert all(bool((dearer < cheaper).all()) for cheaper, dearer in itertools.pairwise(grown))


def test_without_costs_a_late_agent_earns_the_return_of_what_it_had_decided_then():
    plan = random_plan(choices=(CASH, EQUAL))
    found = judged(followed(plan, frictions=Frictions.zero()), Told())
    assert tuple(found.by_delay) == DELAYS
    cash, mean = torch.log1p(found.market.cash_return.double()), torch.log1p(found.market.returns.double().mean(-1))
    for k, path in found.by_delay.items():
        expected = [mean[t] if t - k in ROWS and plan[t - k] == EQUAL else cash[t] for t in ROWS]
        close(path.growth[:, 0], torch.stack(expected))
        close(path.growth[:, 1], mean[ROWS.start : ROWS.stop])
        assert path.strategies == (AGENT, EQUAL_WEIGHT)


def test_a_late_agent_pays_for_its_shifted_trades_and_equal_weight_is_not_late():
    found = judged(followed(random_plan()), Told())
    targets, hold = action_targets(found.market, ROWS, found.decisions.actions[:, 0])
    now = found.path.only((AGENT, EQUAL_WEIGHT))
    close(found.by_delay[0].growth, now.growth)
    for k in DELAYS[1:]:
        waits, late = torch.ones_like(hold), torch.zeros_like(targets)
        for t in range(k, len(ROWS)):
            waits[t], late[t] = hold[t - k], targets[t - k]
        expected = backtest(found.market, ROWS, late, waits, FRICTIONS, liquidate=True)
        for name in ("growth", "turnover", "costs"):
            close(getattr(found.by_delay[k].only((AGENT,)), name), getattr(expected, name))
        close(found.by_delay[k].growth[:, 1], now.growth[:, 1])
        assert found.by_delay[k].turnover[:k, 0].count_nonzero() == 0
        assert not torch.equal(found.by_delay[k].growth[:, 0], now.growth[:, 0])


def test_starts_are_named_and_cash_is_the_headline():
    env = environment(length=8)
    found = judged(env, network(2))
    regimes = env.market.regimes
    held = [name for k, name in enumerate(regimes.names) if k not in (HOLD, CASH)]
    assert found.by_start.strategies == ("cash", *held, *(f"equal_weight from {n}" for n in ("cash", *held)))
    close(found.by_start.only(("cash",)).growth, found.path.only((AGENT,)).growth)
    close(found.by_start.only(("equal_weight from cash",)).growth, found.path.only((EQUAL_WEIGHT,)).growth)


def test_who_holds_keeps_its_start_and_has_not_paid_for_it():
    found = judged(followed(torch.full((300,), HOLD)), Told())
    shares = found.by_start.only(("EQUAL_WEIGHT",))
    assert shares.turnover[:-1].count_nonzero() == 0 and float(shares.turnover[-1]) == pytest.approx(1)
    # By hand: a fifth each at the close before the range, and from then on what the shares earn.
    wealth = torch.cumprod(1 + found.market.returns[ROWS.start - 1 : ROWS.stop].double(), 0).mean(-1)
    close(shares.growth[:-1, 0], torch.log(wealth[1:] / wealth[:-1])[:-1], 1e-7)
    cash = found.by_start.only(("cash",))
    assert cash.turnover.count_nonzero() == 0 and float(cash.growth.sum()) == pytest.approx(60 * math.log(1.0001))


def test_a_result_that_hangs_on_the_start_says_so():
    """Whoever always holds earns what it began with. Whoever buys the same on the first day does not."""
    holds = judged(followed(torch.full((300,), HOLD)), Told())
    assert holds.spread is not None and holds.spread.startswith("The result hangs on the start: beside equal weight")
    growth = {name: float(holds.by_start.growth[:, k].sum()) for k, name in enumerate(holds.by_start.strategies)}
    annual = {name: math.expm1(x * 252 / len(ROWS)) for name, x in growth.items()}
    assert holds.starts["cash"].value == pytest.approx(annual["cash"] - annual["equal_weight from cash"])
    worst = min(holds.starts, key=lambda name: holds.starts[name].value)
    assert f"{100 * holds.starts[worst].value:+.1f} % per year from {worst}" in holds.spread
    assert judged(followed(torch.full((300,), CASH)), Told()).starts["cash"].value == pytest.approx(
        annual["cash"] - annual["equal_weight from cash"]
    )


@pytest.mark.parametrize(("other", "said"), [((0.0, -0.01, 0.01), True), ((-0.011, -0.02, -0.006), False)])
def test_a_verdict_that_another_start_would_change_says_so(other, said):
    found = judged(followed(torch.full((300,), CASH)), Told())
    found.__dict__["starts"] = {"cash": Interval(-0.01, -0.02, -0.005), "QUALITY": Interval(*other)}
    assert (found.spread is not None) == said  # both are within 2 % per year
    assert not said or found.spread.endswith("From 1 of 2 starts the verdict is another.")


def test_equal_weight_is_a_start_also_where_it_is_no_regime_of_the_table():
    market = random_market(300, listing=False)
    env = environment(market)
    assert [s.name for s in all_starts(env)].count("EQUAL_WEIGHT") == 1
    renamed = [replace(r, name=r.name.replace("EQUAL_WEIGHT", "EVEN")) for r in market.regimes.regimes]
    env = environment(replace(market, regimes=replace(market.regimes, regimes=tuple(renamed))))
    starts = all_starts(env)
    assert [s.name for s in starts][:2] == ["cash", "EQUAL_WEIGHT"]
    weights = starting_weights(env, range(200, 230), starts)
    even = [s.name for s in starts].index("EVEN")
    assert torch.allclose(weights[1], weights[even])


def test_few_sessions_say_nothing_of_timing():
    few = judge([Turn(Piece(range(200, 230)), environment(random_market(300, listing=False)), (Told(),))])
    assert math.isnan(few.timing)


# Timing


def foresight(blocks=10):
    """Equal weight in the spans of sessions in which it will gain, and cash in the others."""
    market = random_market(300, listing=False)
    gains = market.returns[200:260].mean(-1).view(-1, blocks).sum(1) > 0
    plan = torch.full((300,), CASH)
    plan[200:260] = torch.where(gains, EQUAL, CASH).repeat_interleave(blocks)
    assert 1 < int(gains.sum()) < len(gains) - 1
    return plan


def test_timing_of_foresight_is_no_luck_and_of_a_constant_is_nothing(monkeypatch):
    monkeypatch.setattr(importlib.import_module("tactician.evaluation.judge"), "_PERMUTATIONS", 99)
    assert judged(followed(foresight(1)), Told()).timing <= 0.03
    assert judged(followed(torch.full((300,), EQUAL)), Told()).timing == 1.0
    assert judged(followed(torch.full((300,), CASH)), Told()).timing == 1.0
    blind = [judged(followed(random_plan(seed=seed)), Told()).timing for seed in range(5)]
    assert max(blind) > 0.3 and min(blind) > 0.01


def test_the_permuted_paths_are_the_same_however_many_fit_into_memory(monkeypatch):
    module = importlib.import_module("tactician.evaluation.judge")
    monkeypatch.setattr(module, "_PERMUTATIONS", 23)
    env = followed(random_plan())
    whole = judged(env, Told()).timing
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    assert judged(env, Told()).timing == whole


# What is not finite is no result


@pytest.mark.parametrize("value", [math.nan, math.inf, -2.0])
def test_a_broken_market_has_no_result(value):
    env = environment()
    returns = env.market.returns.clone()
    returns[230] = value
    broken = replace(env, market=replace(env.market, returns=returns))
    with pytest.raises(NotFinite, match="is not a finite number on "):
        judged(broken, Told())


def test_a_broken_policy_has_no_result():
    policy = network()
    with torch.no_grad():
        next(policy.parameters()).fill_(math.nan)
    with pytest.raises(PolicyNotFinite):
        judged(environment(), policy)
