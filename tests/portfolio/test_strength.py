"""Regimes that go only a part of the way from equal weight to their own targets."""

from dataclasses import replace

import pytest
import torch

from tactician.portfolio.regimes import REGIME_TABLES, names_shown
from tests.markets import random_market

TABLES = list(REGIME_TABLES)


def test_targets_are_the_mix_worked_out_by_hand():
    """Two assets of four held at 3 to 1 by momentum, with 30 % cash; a quarter of the way from equal weight."""
    market = random_market(300, 4, listing=False)
    ranks = torch.zeros(1, 4, 4, dtype=torch.float64)
    ranks[0, :, 0] = torch.tensor([0.9, 0.5, -0.2, -0.8])  # the first factor is momentum
    table = replace(market.regimes, strength=0.25)
    action = table.names.index("SAFE_MOMENTUM")
    # Own: 0.7 · (3/8, 3/8, 1/8, 1/8), cash 0.3. Equal weight: 1/4 each.
    own, equal = torch.tensor([0.2625, 0.2625, 0.0875, 0.0875, 0.3]), torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0])
    got = table.target(action, ranks, torch.ones(1, 4, dtype=torch.bool))[0]
    assert torch.allclose(got, (0.25 * own + 0.75 * equal).double(), atol=1e-7)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_rows_sum_to_one_and_holding_stays_holding(kind, strength):
    weights = random_market(60, regimes=kind).with_strength(strength).regime_weights
    assert (weights >= 0).all() and (weights[:, 0] == 0).all()
    assert torch.allclose(weights[:, 1:].sum(-1), torch.ones(()), atol=1e-6)


@pytest.mark.parametrize("kind", TABLES)
def test_all_the_way_is_bit_equal_to_a_table_without_a_strength(kind):
    market = random_market(60, regimes=kind)
    assert market.with_strength(1.0) is market
    back = market.with_strength(0.0).with_strength(1.0)
    assert torch.equal(back.regime_weights, market.regime_weights) and back.regimes == market.regimes
    assert back.regimes.names == market.regimes.names


@pytest.mark.parametrize("kind", TABLES)
def test_at_zero_every_regime_but_hold_is_equal_weight_to_the_last_bit(kind):
    market = random_market(60, regimes=kind).with_strength(0.0)
    equal = market.tradable.float() / market.tradable.sum(-1, keepdim=True)
    for action in range(1, market.regimes.n_actions):
        assert torch.equal(market.regime_weights[:, action, :-1], equal)
        assert (market.regime_weights[:, action, -1] == 0).all()
        assert market.regimes.description(action) == "Equal weight of all assets"


def test_without_a_tradable_asset_everything_is_cash():
    table = replace(random_market().regimes, strength=0.5)
    weights = table.weights(torch.zeros(1, 5, 4), torch.zeros(1, 5, dtype=torch.bool))
    assert (weights[0, 1:, -1] == 1).all() and (weights[0, :, :-1] == 0).all()


@pytest.mark.parametrize("kind", ["static", "expanded"])
def test_the_chosen_regime_of_a_table_without_equal_weight_is_called_so(kind):
    names = random_market(60, regimes=kind).regimes.names
    shown = names_shown(names, 0.0)
    assert "EQUAL_WEIGHT" not in names and shown == (*names[:-1], "EQUAL_WEIGHT")
    assert names_shown(names, 0.4) == names_shown(names, 1.0) == names


def test_a_regime_that_is_followed_in_part_says_how_far():
    table = random_market().with_strength(0.6).regimes
    assert table.description(1) == "100% cash, for 60 %; the rest in equal weight"
    assert table.description(0) == "Keep current allocation"
