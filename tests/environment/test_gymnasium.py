"""Other trainers live in the same environment: what they see and earn is what the pure functions give."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch

import tactician
from tactician.environment import OBS_DIM, Environment, first_state, observe, restart_finished, step
from tactician.environment.gymnasium import PortfolioEnv, PortfolioVectorEnv, stable_baselines
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market

LENGTH = 12


@pytest.fixture(scope="module")
def env():
    market = random_market()
    rows = range(1, market.n_days)
    return Environment(market, Frictions.specification(), rows, episode_length=LENGTH, portfolios_per_window=2, seed=3)


def actions(n_steps, n_envs):
    return np.random.default_rng(0).integers(0, 12, (n_steps, n_envs))


def lived(env, chosen):
    """A plain loop over the functions: observations, rewards and ends."""
    state = first_state(env, torch.arange(chosen.shape[1] // env.portfolios_per_window))
    seen, rewards, final = [observe(env, state).numpy()], [], []
    for action in chosen:
        state, outcome = step(env, state, torch.from_numpy(action))
        rewards.append(outcome.reward.numpy())
        final.append(observe(env, state).numpy())
        state, _ = restart_finished(env, state)
        seen.append(observe(env, state).numpy())
    return seen, rewards, final


def test_it_passes_gymnasiums_own_check(env):
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|render_mode|spec).*")
        check_env(PortfolioEnv(env), skip_render_check=True)


def test_it_passes_stable_baselines_check(env):
    from stable_baselines3.common.env_checker import check_env

    check_env(PortfolioEnv(env), warn=False)


def test_one_portfolio_earns_what_the_functions_give(env):
    from dataclasses import replace

    chosen = actions(LENGTH, 1)
    seen, rewards, final = lived(replace(env, portfolios_per_window=1), chosen)
    one = PortfolioEnv(env)
    obs, _ = one.reset()
    assert np.array_equal(obs, seen[0][0])
    for k, action in enumerate(chosen[:, 0]):
        obs, reward, terminated, truncated, info = one.step(action)
        assert reward == rewards[k][0] and not terminated and truncated == (k == LENGTH - 1)
        assert np.array_equal(obs, final[k][0]) and set(info) == {"row", "cost", "turnover", "regime"}
    obs, _ = one.reset()
    assert np.array_equal(obs, seen[-1][0])  # the next episode
    assert np.array_equal(one.reset(seed=3)[0], seen[0][0]) and not np.array_equal(one.reset(seed=4)[0], seen[0][0])


def test_many_portfolios_begin_anew_in_the_step_that_ends_their_episode(env):
    chosen = actions(2 * LENGTH + 3, 4)
    seen, rewards, final = lived(env, chosen)
    many = PortfolioVectorEnv(env, 4)
    assert np.array_equal(many.reset()[0], seen[0]) and many.action_space.shape == (4,)
    for k, action in enumerate(chosen):
        obs, reward, terminated, truncated, info = many.step(action)
        assert np.array_equal(obs, seen[k + 1]) and np.array_equal(reward, rewards[k].astype(np.float64))
        over = (k + 1) % LENGTH == 0
        assert truncated.all() == truncated.any() == over and not terminated.any()
        assert ("final_obs" in info) == over
        if over:
            assert np.array_equal(info["final_obs"], final[k]) and not np.array_equal(info["final_obs"], obs)


def test_stable_baselines_sees_the_same_and_is_told_of_the_truncation(env):
    chosen = actions(LENGTH, 4)
    seen, rewards, final = lived(env, chosen)
    vec = stable_baselines(env, 4)
    assert np.array_equal(vec.reset(), seen[0])
    for k, action in enumerate(chosen):
        obs, reward, done, infos = vec.step(action)
        assert (
            np.array_equal(obs, seen[k + 1]) and np.array_equal(reward, rewards[k]) and done.all() == (k == LENGTH - 1)
        )
    for k, info in enumerate(infos):
        assert np.array_equal(info["terminal_observation"], final[-1][k]) and info["TimeLimit.truncated"]
    vec.seed(3)
    assert np.array_equal(vec.reset(), seen[0])
    vec.seed(4)
    assert not np.array_equal(vec.reset(), seen[0])


def test_what_makes_no_sense_is_refused(env):
    one = PortfolioEnv(env)
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        one.step(0)
    one.reset()
    with pytest.raises(ValueError, match="actions are 0 to 11"):
        one.step(12)
    with pytest.raises(ValueError, match="n_envs is 3: it must be a multiple of 2"):
        PortfolioVectorEnv(env, 3)


def test_a_users_own_script_trains(tiny):
    from sb3_contrib import RecurrentPPO

    config = tactician.load_config(tiny)
    envs = tactician.make_gym(config, kind="sb3", n_envs=4)
    model = RecurrentPPO("MlpLstmPolicy", envs, n_steps=16, batch_size=32, n_epochs=1, device="cpu", seed=0)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(128)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_portfolio_lives_in_the_range_that_was_asked_for(tiny, split):
    config = tactician.load_config(tiny)
    market = tactician.load_market(config)
    one = tactician.make_gym(config, split=split)
    one.reset(seed=0)
    rows = [one.step(1)[4]["row"] for _ in range(config.episode_length)]
    first, last = ({"train": None, "validation": config.train_until, "test": config.validation_until}[split]), rows[-1]
    dates = [market.date_of(row) for row in rows]
    assert first is None or min(dates) >= first
    assert (
        split == "test"
        or market.date_of(last) <= {"train": config.train_until, "validation": config.validation_until}[split]
    )
    assert one.observation_space.shape == (OBS_DIM,)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "tensor"}, "kind cannot be 'tensor'; give 'env', 'vector' or 'sb3'"),
        ({"split": "all"}, "split cannot be 'all'"),
        ({"n_envs": 2}, "kind 'env' is one portfolio"),
        ({"kind": "vector", "n_envs": 0}, r"n_envs \(0\) must be a multiple of portfolios_per_window"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_a_sentence(tiny, wrong, said):
    with pytest.raises(tactician.UserError, match=said):
        tactician.make_gym(tactician.load_config(tiny), **wrong)


def test_without_the_library_the_remedy_is_named(tiny, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "tactician.environment.gymnasium", raising=False)
    monkeypatch.delattr("tactician.environment.gymnasium", raising=False)
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(tactician.UserError, match=r"pip install 'tactician\[gym\]' brings it"):
        tactician.make_gym(tactician.load_config(tiny))
