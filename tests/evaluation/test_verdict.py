"""The verdict puts uncertainty first, and names a side only for a difference that matters."""

import math
from dataclasses import replace

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
    return_difference,
)
from tactician.policy import ActorCritic
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market


def evaluation(gap: float | None, error: float | None, caveat: str | None = None) -> Evaluation:
    nothing = torch.zeros(2, 1)
    return Evaluation(
        first="2019-01-02",
        last="2022-12-28",
        performances={},
        growth_beyond_equal_weight=0.0,
        standard_error=0.0,
        return_beyond_equal_weight=gap,
        return_standard_error=error,
        regime_use={},
        trade_return=math.nan,
        win_rate=math.nan,
        path=Path(nothing, torch.zeros(2, 1, 4), nothing, torch.zeros(2)),
        caveat=caveat,
    )


@pytest.mark.parametrize(("gap", "error"), [(0.05, 0.03), (-0.05, 0.03), (0.06, 0.03), (0.0005, 0.03), (0.0, 0.02)])
def test_within_two_standard_errors_nothing_is_claimed(gap, error):
    assert evaluation(gap, error).verdict.startswith("not distinguishable from equal weight")


def test_beyond_two_standard_errors_the_side_is_named_and_hedged():
    good, bad = evaluation(0.10, 0.03), evaluation(-0.10, 0.03)
    assert good.verdict.startswith("above") and "one path proves little" in good.verdict
    assert bad.verdict.startswith("below") and "-10.0 % ± 3.0 % per year" in bad.verdict


@pytest.mark.parametrize(("gap", "error"), [(0.0009, 0.0001), (-0.0009, 0.0001), (0.0, 0.0), (1e-9, 1e-8)])
def test_a_difference_below_a_tenth_of_a_percent_is_none_however_well_it_is_known(gap, error):
    assert evaluation(gap, error).verdict.startswith("no different from equal weight in any way that matters")
    assert evaluation(0.0011, 0.0001).verdict.startswith("above")


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, None])
def test_without_figures_there_is_no_verdict(broken):
    for said in (evaluation(broken, 0.01).verdict, evaluation(0.1, broken).verdict):
        assert said == "not judged beside equal weight, because the figures are not available"


def test_a_caveat_ends_every_verdict():
    for gap, error in ((0.1, 0.01), (0.0, 0.0), (0.01, 0.1), (math.nan, 0.1)):
        assert evaluation(gap, error, "THE CAVEAT").verdict.endswith("; THE CAVEAT")


class Always(torch.nn.Module):
    """A policy that chooses one regime, and may put out what is no number."""

    def __init__(self, action: int, output: float = 1.0) -> None:
        super().__init__()
        self.action, self.output = action, output

    def initial_state(self, n: int) -> torch.Tensor:
        return torch.zeros(0, n, 1)

    def forward(self, observation: torch.Tensor, hidden: torch.Tensor, masks=None):
        logits = torch.zeros(*observation.shape[:2], 12)
        logits[..., self.action] = self.output
        return logits, logits[..., 0], hidden


def environment(n_days: int = 400, **changes) -> Environment:
    market = replace(random_market(n_days, listing=False), **changes)
    return Environment(market, Frictions.specification(), range(1, n_days), episode_length=16)


def test_equal_weight_every_day_is_told_as_no_different_from_equal_weight():
    env = environment(12 * 252 + 1)
    equal = env.market.regimes.names.index("EQUAL_WEIGHT")
    result = evaluate(env, Always(equal), env.rows)
    assert result.verdict.startswith("no different from equal weight in any way that matters")


def test_a_rule_that_does_nothing_else_than_slip_is_below():
    # The same weights with one more thousandth of cost per session: 22 % per year, and hardly any noise.
    market = environment(600).market
    _, targets, hold = baseline_targets(Question(market, range(1, 600)))
    path = backtest(market, range(1, 600), targets, hold, Frictions.zero())
    growth = torch.stack([path.growth[:, 0] - 0.001, path.growth[:, 0]], 1)
    gap, error = return_difference(replace(path, growth=growth), 0, 1)
    assert evaluation(gap, error).verdict.startswith("below equal weight by more than two standard errors")


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
    assert f"{100 * gap:+.1f} % ±" in result.verdict
