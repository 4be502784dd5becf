"""While costs warm up, training pays a share of them that depends on the steps done alone; judging always pays in full."""

import pytest

from tactician.config import load_config
from tactician.training.loop import training_environment
from tactician.training.setup import load_cached_market, prepare_run


def test_costs_rise_in_proportion_to_the_steps_and_then_stay(tiny):
    config = load_config(tiny, {"cost_warmup": 1000})
    setup = prepare_run(config, load_cached_market(config, "unused"))
    for steps, share in ((0, 0.0), (250, 0.25), (1000, 1.0), (5000, 1.0)):
        frictions = training_environment(setup, steps).frictions
        assert frictions.spread == pytest.approx(share * 0.0002)
        assert frictions.impact == pytest.approx(share * 0.01)
    assert setup.environment.frictions.spread == 0.0002


def test_without_a_warm_up_the_environment_is_the_setups_own(tiny):
    config = load_config(tiny, {"cost_warmup": 0})
    setup = prepare_run(config, load_cached_market(config, "unused"))
    assert training_environment(setup, 0) is setup.environment
