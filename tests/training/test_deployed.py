"""What was trained beside what is judged: the policy that draws its regimes, and the one that takes the most probable."""

import math

import pytest
import torch

import tactician.training.deployed as module
from tactician.portfolio.frictions import Frictions
from tactician.training.deployed import Deployed, Lived, deployed_gap
from tests.evaluation.agents import CASH, EQUAL, Told, environment, planned
from tests.markets import random_market


class Undecided(Told):
    """Equal weight or cash, each with half the probability; equal weight is the first of the two most probable."""

    def heads(self, features, portfolio):
        logits = torch.full((*features.shape[:-1], self.n_actions), -50.0)
        logits[..., CASH], logits[..., EQUAL] = 0.0, 1e-4
        return logits, logits[..., 0]


def free(market, length=12):
    return environment(market, length, frictions=Frictions.zero(), first_holdings="cash", rows=range(1, 200))


def test_a_policy_that_is_sure_has_no_gap():
    drawn = torch.randint(1, 12, (300,), generator=torch.Generator().manual_seed(0))
    env = environment(planned(random_market(300, listing=False), drawn), 12, rows=range(1, 200))
    found = deployed_gap(env, Told(sure=1e4), seed=3)
    assert found.deployed == found.sampled and found.gap == 0
    assert found.deployed.turnover > 10
    told = found.as_dict()
    assert told["deployed"] == {
        "growth": found.deployed.growth,
        "turnover": found.deployed.turnover,
        "beyond_equal_weight": found.deployed.beyond_equal_weight,
    }
    assert told["gap"] == 0


def test_a_policy_that_is_sure_earns_what_a_loop_over_its_days_earns(monkeypatch):
    """One episode as long as the training range: every window lives through the same days."""
    market = random_market(300, listing=False)
    plan = torch.where(torch.rand(300, generator=torch.Generator().manual_seed(1)) < 0.5, EQUAL, CASH)
    env = free(planned(market, plan), length=199)
    found = deployed_gap(env, Told(), seed=0).deployed
    growth, turnover, invested = 0.0, 0.0, False
    for t in range(1, 200):
        was, invested = invested, int(plan[t]) == EQUAL
        mean = float(market.returns[t].double().mean())
        growth += math.log1p(mean if invested else 0.0001)
        if was != invested:
            turnover += 1
        elif was:  # the drift since yesterday is traded back
            grown = 1 + market.returns[t - 1].double()
            turnover += float((grown / grown.sum() - 1 / 5).abs().sum())
    assert found.growth == pytest.approx(growth / 199 * 252, rel=1e-4)
    assert found.turnover == pytest.approx(turnover / 199 * 252, rel=1e-3)


def test_an_undecided_policy_draws_both_and_is_judged_by_one():
    market = random_market(300, listing=False)
    env = free(market, length=199)
    found = deployed_gap(env, Undecided(), seed=0)
    # By hand: in expectation half of the days earn the mean of the market, and the other half cash.
    daily = torch.log1p(market.returns[1:200].double().mean(-1))
    both = 0.5 * (daily + math.log1p(0.0001))
    spread = float(daily.std()) * 0.5 / math.sqrt(199 * 256)  # of 256 windows that draw on their own
    assert found.deployed.growth == pytest.approx(float(daily.mean()) * 252, rel=1e-3)
    assert found.sampled.growth == pytest.approx(float(both.mean()) * 252, abs=5 * spread * 252)
    # It moves all of its money in half of the days; one that stays in equal weight trades back the drift.
    drift = found.deployed.turnover / 252
    assert found.sampled.turnover / 252 == pytest.approx(0.5 + 0.25 * drift, abs=0.02)
    expected = abs(found.sampled.growth - found.deployed.growth) / abs(found.deployed.growth)
    assert found.gap == pytest.approx(expected) and found.gap > 0.1


def test_the_seed_decides_what_is_drawn_and_nothing_else_does():
    env = free(random_market(300, listing=False))
    once, again, other = (deployed_gap(env, Undecided(), seed) for seed in (0, 0, 1))
    assert once == again and once.sampled != other.sampled


def test_a_uniform_policy_draws_every_regime_alike():
    places = torch.full((256, 12), 1 / 12)
    drawn = torch.stack([module._drawn(places, 0, torch.arange(256), k) for k in range(40)])
    shares = torch.bincount(drawn.flatten(), minlength=12) / drawn.numel()
    assert float((shares - 1 / 12).abs().max()) < 5 * math.sqrt(1 / 12 / drawn.numel())


def test_probabilities_that_round_below_one_still_draw_a_regime(monkeypatch):
    monkeypatch.setattr(module, "uniform", lambda *arguments: torch.tensor([0.9999999]))
    assert module._drawn(torch.tensor([[0.5, 0.4999]]), 0, torch.zeros(1), 0).tolist() == [1]


def test_a_gap_beside_no_growth_is_not_available():
    assert math.isnan(Deployed(Lived(0.0005, 0.0), Lived(0.1, 3.0)).gap)
    assert Deployed(Lived(-0.1, 0.0), Lived(0.1, 3.0)).gap == pytest.approx(2)
