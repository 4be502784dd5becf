"""What changes in a run depends on the steps done alone; judging always pays costs in full."""

import pytest

from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.monitor.progress import Reporter
from tactician.training.loop import iterate
from tactician.training.schedules import annealed, training_environment
from tactician.training.setup import prepare_run
from tactician.training.state import first_train_state


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


def test_rates_and_entropy_bonus_fall_to_a_twentieth_and_stay_there(tiny):
    config = load_config(tiny, {"anneal_steps": 1000})
    setup = prepare_run(config, load_cached_market(config, "unused"))
    for steps, share in ((0, 1.0), (500, 0.5), (990, 0.05), (9000, 0.05)):
        hyper = annealed(setup, steps)
        assert (hyper.actor_lr, hyper.critic_lr) == pytest.approx((share * 3e-4, share * 9e-4))
        assert hyper.entropy_coef == pytest.approx(share * 0.01)
        assert hyper.clip == setup.hyper.clip


def test_the_update_learns_at_the_rates_it_is_given(tiny):
    config = load_config(tiny, {"anneal_steps": 400, "iterations": 2})
    setup = prepare_run(config, load_cached_market(config, "unused"))
    state = first_train_state(setup)
    rates = []
    for _ in range(2):
        state = iterate(setup, state, Reporter("quiet", silent=True))
        rates.append(state.learner.actor_optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([3e-4, 3e-4 * (1 - 256 / 400)])
