"""What changes in a run depends on its settings and the steps done alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tactician.cli import main
from tactician.config import Config, load_config
from tactician.environment import load_cached_market
from tactician.monitor.progress import Reporter
from tactician.training.checkpoint import read_checkpoint
from tactician.training.judging import validated
from tactician.training.loop import iterate
from tactician.training.schedules import annealed, decided, sharpness
from tactician.training.setup import hyperparameters, learning_rates, prepare_run
from tactician.training.state import first_train_state

RATE = 3e-4 * 256 / 16
"""Of the actor, by default, in the tiny configuration's network."""


def test_rates_and_entropy_bonus_fall_to_a_twentieth_and_stay_there(tiny):
    config = load_config(tiny, {"anneal_steps": 1000, "actor_lr": 3e-4, "critic_lr": 9e-4, "entropy_coef": 0.01})
    setup = prepare_run(config, load_cached_market(config, "unused"))
    for steps, share in ((0, 1.0), (500, 0.5), (990, 0.05), (9000, 0.05)):
        hyper = annealed(setup, steps)
        assert (hyper.actor_lr, hyper.critic_lr) == pytest.approx((share * 3e-4, share * 9e-4))
        assert hyper.entropy_coef == pytest.approx(share * 0.01)
        assert hyper.clip == setup.hyper.clip


def test_logits_grow_from_half_of_the_annealing_to_nine_tenths(tiny):
    config = load_config(tiny, {"anneal_steps": 1000, "sharpening": 16})
    setup = prepare_run(config, load_cached_market(config, "unused"))
    for steps, factor in ((0, 1), (500, 1), (600, 2), (700, 4), (800, 8), (900, 16), (9000, 16)):
        assert sharpness(setup, steps) == pytest.approx(factor)
    assert [decided(setup, steps) for steps in (0, 749, 750, 9000)] == [False, False, True, True]
    for never in ({"sharpening": 1.0}, {"anneal_steps": 0}):
        settled = prepare_run(config.model_copy(update=never), load_cached_market(config, "unused"))
        assert decided(settled, 0) and {sharpness(settled, steps) for steps in (0, 750, 9000)} == {1.0}


@pytest.mark.parametrize("network", ["recurrent", "market_memory"])
def test_sharpening_multiplies_the_logits_and_nothing_else(tiny, network):
    config = load_config(tiny, {"network": network})
    setup = prepare_run(config, load_cached_market(config, "unused"))
    policy = setup.make_policy()
    obs, hidden = torch.randn(3, 4, policy.obs_dim), policy.initial_state(4)
    logits, values, after = policy(obs, hidden)
    policy.sharpen(3.0)
    sharper, same, too = policy(obs, hidden)
    assert torch.allclose(sharper, 3 * logits, atol=1e-6) and torch.equal(values, same) and torch.equal(after, too)


def test_a_run_is_sharpened_by_the_same_whatever_its_iterations(tiny, monkeypatch):
    factors = []
    monkeypatch.setattr("tactician.policy.ActorCritic.sharpen", lambda self, factor: factors.append(factor))
    for n_envs in (8, 24):
        config = load_config(tiny, {"anneal_steps": 1536, "timesteps": 1536, "n_envs": n_envs, "sharpening": 16})
        setup = prepare_run(config, load_cached_market(config, "unused"))
        state = first_train_state(setup)
        factors.clear()
        while state.progress.timesteps < setup.total_timesteps:
            state = iterate(setup, state, Reporter("quiet", silent=True))
        assert np.prod(factors) == pytest.approx(16) and len(factors) >= 1


def test_learning_rates_follow_the_width(tiny):
    config = load_config(tiny, {"actor_lr": None, "critic_lr": None})
    for width, actor, critic in ((256, 3e-4, 9e-4), (64, 1.2e-3, 3.6e-3), (512, 1.5e-4, 4.5e-4)):
        own = config.model_copy(update={"hidden_dim": width})
        assert learning_rates(own) == pytest.approx({"actor_lr": actor, "critic_lr": critic})
        assert hyperparameters(own).actor_lr == pytest.approx(actor)
    said = config.model_copy(update={"critic_lr": 0.5})
    assert learning_rates(said)["critic_lr"] == 0.5
    setup = prepare_run(config.model_copy(update={"hidden_dim": 32}), load_cached_market(config, "unused"))
    assert setup.config.actor_lr == setup.hyper.actor_lr == pytest.approx(2.4e-3)


def test_a_model_from_before_the_policy_has_decided_gives_way_to_the_first_one_after(tiny):
    config = load_config(tiny, {"anneal_steps": 1024, "timesteps": 1024, "sharpening": 16})
    setup = prepare_run(config, load_cached_market(config, "unused"))
    state, quiet = first_train_state(setup), Reporter("quiet", silent=True)
    picked = []
    for _ in range(4):
        state, better = validated(setup, iterate(setup, state, quiet), quiet)
        # As if this model could not be beaten, so that only the rule can replace it.
        state = replace(state, progress=replace(state.progress, best_validation=9.0))
        picked.append(better)
    assert picked == [True, False, True, False]  # 256, 512, 768 and 1024 of 1024 steps


def test_the_update_learns_at_the_rates_it_is_given(tiny):
    config = load_config(tiny, {"anneal_steps": 400, "iterations": 2})
    setup = prepare_run(config, load_cached_market(config, "unused"))
    state = first_train_state(setup)
    rates = []
    for _ in range(2):
        state = iterate(setup, state, Reporter("quiet", silent=True))
        rates.append(state.learner.actor_optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([RATE, RATE * (1 - 256 / 400)])


@pytest.fixture
def by_default(tiny, tmp_path):
    """The tiny configuration without a word on annealing."""
    path = tmp_path / "by_default.yaml"
    settings = yaml.safe_load(tiny.read_text())
    del settings["anneal_steps"]
    path.write_text(yaml.safe_dump(settings))
    return path


def train(config: Path, folder: Path, *words: str) -> dict:
    assert main(["train", "--config", str(config), "--checkpoint-dir", str(folder), "-q", *words]) == 0
    return read_checkpoint(folder / "model_final.pt")


def weights(content: dict) -> torch.Tensor:
    return torch.cat([x.flatten() for x in content["model_state_dict"].values()])


def rates(config: Config, *steps: int) -> list[float]:
    setup = prepare_run(config, load_cached_market(config, "unused"))
    return [annealed(setup, done).actor_lr / RATE for done in steps]


def test_by_default_rates_fall_over_the_runs_duration_however_it_is_given(by_default):
    config = load_config(by_default)
    assert config.anneal_steps is None
    assert rates(config, 0, 300, 600, 900) == pytest.approx([1, 0.5, 0.05, 0.05])  # 600 timesteps
    longer = config.model_copy(update={"timesteps": None, "iterations": 4})  # 4 x 256
    assert rates(longer, 0, 512, 1024) == pytest.approx([1, 0.5, 0.05])
    assert rates(config.model_copy(update={"anneal_steps": 0}), 0, 900) == [1, 1]


def test_the_default_is_the_same_as_saying_the_duration(by_default, tmp_path):
    words = ("--timesteps", "1024")
    said = tmp_path / "said.yaml"
    said.write_text(by_default.read_text() + "anneal_steps: 1024\n")
    constant = tmp_path / "constant.yaml"
    constant.write_text(by_default.read_text() + "anneal_steps: 0\n")
    contents = [train(path, tmp_path / path.stem, *words) for path in (by_default, said, constant)]
    assert contents[0]["config"]["anneal_steps"] == 1024 and contents[0]["run"] == contents[1]["run"]
    assert torch.equal(weights(contents[0]), weights(contents[1]))
    assert not torch.equal(weights(contents[0]), weights(contents[2]))


def test_an_interrupted_run_goes_on_with_its_own_annealing(by_default, tmp_path):
    whole = train(by_default, tmp_path / "whole", "--iterations", "4", "--save-every", "1", "--keep-checkpoints", "4")
    middle = tmp_path / "whole" / "model_iteration_000002.pt"
    # With a new name of the file, and without one, where all settings are the checkpoint's.
    named = train(by_default, tmp_path / "named", "--iterations", "4", "--checkpoint", str(middle))
    assert named["run"] == whole["run"] and torch.equal(weights(named), weights(whole))
    assert main(["train", "--checkpoint", str(middle), "--checkpoint-dir", str(tmp_path / "bare"), "-q"]) == 0
    assert torch.equal(weights(read_checkpoint(tmp_path / "bare" / "model_final.pt")), weights(whole))


def test_a_prolonged_run_goes_on_at_the_lowest_rates_and_tells_no_change(by_default, tmp_path, capsys):
    first = train(by_default, tmp_path / "run", "--iterations", "2")
    words = ["--config", str(by_default), "--checkpoint-dir", str(tmp_path / "run"), "--resume", "--iterations", "4"]
    assert main(["train", *words]) == 0
    said = capsys.readouterr().out
    longer = read_checkpoint(tmp_path / "run" / "model_final.pt")
    assert "anneal_steps" not in said and longer["run"] == first["run"]
    assert longer["config"]["anneal_steps"] == first["config"]["anneal_steps"] == 512
    assert longer["actor_optimizer_state_dict"]["param_groups"][0]["lr"] == pytest.approx(0.05 * RATE)


def test_the_interface_in_python_keeps_the_annealing_of_a_run_too(by_default, tmp_path):
    import tactician

    config = load_config(by_default, {"timesteps": 512, "checkpoint_dir": tmp_path / "run"})
    tactician.train(config)
    summary = tactician.train(config.model_copy(update={"timesteps": 1024}), resume=True)
    assert summary.setup.config.anneal_steps == 512


def test_a_checkpoint_from_before_the_key_goes_on_at_constant_rates(by_default, tmp_path):
    from tactician.storage import save_tensors

    content = train(by_default, tmp_path / "run", "--iterations", "1")
    del content["config"]["anneal_steps"]
    save_tensors(content, tmp_path / "run" / "model_final.pt")
    longer = train(by_default, tmp_path / "run", "--iterations", "2", "--resume")
    assert longer["config"]["anneal_steps"] == 0 and longer["run"] == content["run"]
