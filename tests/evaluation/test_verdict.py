"""The verdict puts uncertainty first, and names a side only for a difference that matters."""

import math
from dataclasses import fields, replace

import pytest
import torch

from tactician.environment import Environment
from tactician.evaluation import (
    Evaluation,
    NotFinite,
    Path,
    Question,
    backtest,
    baseline_targets,
    evaluate,
)
from tactician.evaluation.agent import beyond, side_of, told_verdict
from tactician.evaluation.inference import Interval
from tactician.policy import ActorCritic
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market


def verdict(value: float, low: float, high: float, detectable: float = 0.05) -> str:
    return told_verdict(Interval(value, low, high), detectable)


def test_an_interval_that_holds_zero_claims_nothing_and_says_what_could_have_been_seen():
    for gap in ((0.05, -0.01, 0.11), (-0.05, -0.11, 0.01), (0.2, 0.0, 0.4)):
        said = verdict(*gap)
        assert (
            said.startswith("not distinguishable from equal weight")
            and "these sessions could have shown ±5.0 %" in said
        )
    assert "could have shown" not in verdict(0.05, -0.01, 0.11, math.nan)
    assert verdict(0.0, 0.0, 0.0).startswith("equal weight: it makes the same trades")


def test_an_interval_beyond_zero_names_the_side_and_hedges():
    good, bad = verdict(0.1, 0.04, 0.16), verdict(-0.1, -0.16, -0.04)
    assert good.startswith("above equal weight") and good.endswith("one path proves little")
    assert bad.startswith("below equal weight")
    assert "-10.0 % per year beside it, 95 % confidence interval -16.0 to -4.0" in bad


@pytest.mark.parametrize("gap", [0.0009, -0.0009, 1e-9])
def test_a_difference_below_a_tenth_of_a_percent_names_no_side_however_well_it_is_known(gap):
    assert verdict(gap, gap - 1e-10, gap + 1e-10).startswith("not distinguishable")
    assert verdict(0.0011, 0.001, 0.0012).startswith("above")


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_without_figures_there_is_no_verdict(broken):
    for gap in ((broken, 0.1, 0.2), (0.1, broken, 0.2), (0.1, 0.1, broken)):
        assert verdict(*gap) == "not judged beside equal weight, because the figures are not available"


def test_an_evaluation_without_a_difference_has_no_verdict():
    nothing = torch.zeros(2, 1)
    empty = dict.fromkeys(f.name for f in fields(Evaluation))
    path = Path(nothing, torch.zeros(2, 1, 4), nothing, torch.zeros(2))
    for gap in (None, math.nan):
        result = Evaluation(**{**empty, "path": path, "return_beyond_equal_weight": gap})
        assert result.verdict.startswith("not judged") and result.side == "not available"


def test_a_caveat_ends_every_verdict():
    env = environment()
    result = replace(evaluate(env, Always(3), env.rows), caveat="THE CAVEAT")
    assert result.verdict.endswith("; THE CAVEAT")


class Always(torch.nn.Module):
    """A policy that chooses one regime, and may put out what is no number."""

    def __init__(self, action: int, output: float = 1.0) -> None:
        super().__init__()
        self.action, self.output = action, output

    def initial_state(self, n: int) -> torch.Tensor:
        return torch.zeros(0, n, 1)

    def trunk(self, observation: torch.Tensor, hidden: torch.Tensor, masks=None):
        return observation, hidden

    def heads(self, features: torch.Tensor, portfolio: torch.Tensor):
        logits = torch.zeros(*features.shape[:-1], 12)
        logits[..., self.action] = self.output
        return logits, logits[..., 0]


def environment(n_days: int = 400, **changes) -> Environment:
    market = replace(random_market(n_days, listing=False), **changes)
    return Environment(market, Frictions.specification(), range(1, n_days), episode_length=16)


def test_equal_weight_every_day_cannot_be_told_from_equal_weight():
    env = environment(12 * 252 + 1)
    equal = env.market.regimes.names.index("EQUAL_WEIGHT")
    result = evaluate(env, Always(equal), env.rows)
    assert result.verdict.startswith("equal weight: it makes the same trades")


def test_a_rule_that_does_nothing_else_than_slip_is_below():
    # The same weights with one more thousandth of cost per session: 22 % per year, and hardly any noise.
    market = environment(600).market
    _, targets, hold = baseline_targets(Question(market, range(1, 600)))
    path = backtest(market, range(1, 600), targets, hold, Frictions.zero())
    growth = torch.stack([path.growth[:, 0] - 0.001, path.growth[:, 0]], 1)
    gap = beyond(replace(path, growth=growth, strategies=("slips", "does not")), "slips", "does not")
    assert side_of(gap) == "below" and gap.high < -0.1


@pytest.mark.parametrize("broken", [math.nan, math.inf, -1.5])
def test_returns_that_are_no_numbers_are_not_judged(broken):
    env = environment()
    returns = env.market.returns.clone()
    returns[350] = broken
    bad = replace(env, market=replace(env.market, returns=returns))
    with pytest.raises(NotFinite, match=r"the growth of .* is not a finite number on 19"):
        evaluate(bad, Always(3), range(300, 390))
    assert evaluate(bad, Always(3), range(300, 340)).verdict


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_outputs_that_are_no_numbers_are_not_acted_on(broken):
    env = environment()
    with pytest.raises(NotFinite, match="outputs of the policy are not finite"):
        evaluate(env, Always(3, broken), range(300, 310))


def test_without_a_closed_trade_there_is_no_win_rate():
    env = environment()
    result = evaluate(env, Always(3), env.rows)
    assert math.isnan(result.win_rate) and math.isnan(result.trade_return)
    assert result.regime_use[env.market.regimes.names[3]] == 1.0


def test_the_evaluation_of_a_real_policy_has_a_verdict_in_the_unit_of_its_table():
    env = environment()
    generator = torch.Generator().manual_seed(0)
    policy = ActorCritic(64, 12, 16, 1, 0.0, value_scale=1.0, generator=generator)
    result = evaluate(env, policy, range(100, 390))
    figures = result.performances
    gap = figures["agent"].annual_return - figures["equal_weight"].annual_return
    assert result.return_beyond_equal_weight == pytest.approx(gap, rel=1e-9)
    assert f"{100 * gap:+.1f} % per year beside it" in result.verdict
    low, high = result.interval.low, result.interval.high
    assert low < gap < high and f"interval {100 * low:+.1f} to {100 * high:+.1f}" in result.verdict
