"""The judge, of agents that are followed in part or not at all."""

import pytest
import torch

from tactician.evaluation import AGENT, EQUAL_WEIGHT, Piece, Turn, judge
from tactician.policy import EqualWeight
from tests.evaluation.agents import HOLD, MOMENTUM, Told, environment, planned
from tests.markets import random_market

pytestmark = pytest.mark.whole_judge

ROWS = range(200, 240)
MARKET = random_market(300, listing=False)
ALWAYS = planned(MARKET, torch.full((300,), MOMENTUM))


def followed(strength, market=ALWAYS):
    return environment(market.with_strength(strength))


def judged(env, policy):
    return judge([Turn(Piece(ROWS), env, (policy,))])


@pytest.mark.parametrize("kind", ["factor", "static", "expanded"])
def test_an_agent_that_has_found_nothing_has_exactly_the_path_of_equal_weight(kind):
    market = random_market(300, listing=True, regimes=kind)
    names = market.regimes.names
    action = names.index("EQUAL_WEIGHT") if kind == "factor" else len(names) - 1
    found = judged(followed(0.0, market), EqualWeight(64, len(names), action))
    agent, equal = (found.path.only((name,)) for name in (AGENT, EQUAL_WEIGHT))
    for name in ("growth", "costs", "turnover", "weights"):
        assert torch.equal(getattr(agent, name), getattr(equal, name)), name
    assert found.result.regime_use["EQUAL_WEIGHT"] == 1.0


def test_baselines_do_not_depend_on_how_far_the_agent_is_followed():
    whole, part, none = (judged(followed(s), Told()) for s in (1.0, 0.4, 0.0))
    for name in ("regime:MOMENTUM", "regime:FULL_CASH", EQUAL_WEIGHT, "buy_and_hold"):
        growth = [found.path.growth[:, found.path.column(name)] for found in (whole, part, none)]
        assert torch.equal(growth[0], growth[1]) and torch.equal(growth[0], growth[2]), name
    ahead = whole.path.growth[:, 0]
    assert torch.equal(ahead, whole.path.growth[:, whole.path.column("regime:MOMENTUM")])
    assert not torch.equal(part.path.growth[:, 0], ahead) and not torch.equal(none.path.growth[:, 0], ahead)


def test_each_turn_is_followed_as_far_as_its_own_agent():
    """Momentum for a tenth in the first half, and all the way in the second: each day's targets by hand."""
    halves = (range(200, 220), range(220, 240))
    turns = [Turn(Piece(rows), followed(s), (Told(),)) for rows, s in zip(halves, (0.1, 1.0), strict=True)]
    found = judge(turns)
    held = found.path.weights[:, 0]
    for rows, strength in zip(halves, (0.1, 1.0), strict=True):
        own = MARKET.regime_weights[rows.start : rows.stop, MOMENTUM].double()
        equal = torch.tensor([*[0.2] * 5, 0.0], dtype=torch.float64)
        days = slice(rows.start - 200, rows.stop - 200)
        assert torch.allclose(held[days], strength * own + (1 - strength) * equal, atol=2e-3)  # costs leave cash short
    assert float((held[0] - held[-1]).abs().max()) > 0.05  # else the test could not fail


def test_holding_is_holding_however_far_the_agent_is_followed():
    plan = torch.where(torch.arange(300) == 200, MOMENTUM, HOLD)
    found = judged(followed(0.5, planned(MARKET, plan)), Told())
    assert (found.path.turnover[1:-1, 0] == 0).all() and found.path.turnover[0, 0] > 0.9
