"""The check of the environment's kernels: it passes right ones, and replaces wrong and failing ones by plain operations."""

from dataclasses import replace

import pytest
import torch

from tactician.environment import Environment, environment
from tactician.learning import settled
from tactician.learning.settled import settle_environment
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market


def make_env() -> Environment:
    market = random_market()
    return Environment(
        market, Frictions(), range(1, market.n_days), episode_length=32, portfolios_per_window=4, fused=True
    )


@pytest.fixture
def kernels(monkeypatch):
    """Let a step of a fused environment go through a function of the test, as if there were a GPU."""

    def use(step):
        monkeypatch.setattr(settled, "uses_kernels", lambda env: env.fused)
        monkeypatch.setattr(
            settled, "step", lambda env, *rest: (step if env.fused else environment.step_eager)(env, *rest)
        )

    return use


def test_without_a_gpu_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(settled, "_difference", None)
    env = make_env()
    assert settle_environment(env) == (replace(env, fused=False), None)


def test_what_the_kernels_do_not_compute_keeps_plain_operations_for_drawing_too():
    env, told = settle_environment(replace(make_env(), frictions=Frictions(impact_adv=1.0)))
    assert not env.fused and told is None


def test_right_kernels_are_used(kernels):
    kernels(environment.step_eager)
    env, told = settle_environment(make_env())
    assert env.fused and told is None


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_wrong_kernels_are_replaced_and_that_is_said(kernels, wrong):
    def step(*arguments):
        state, outcome = environment.step_eager(*arguments)
        return replace(state, holdings=state.holdings * wrong), outcome

    kernels(step)
    env, told = settle_environment(make_env())
    assert not env.fused and "differ by" in told and "plain operations are used instead" in told


def test_kernels_that_do_not_compile_are_replaced_and_that_is_said(kernels):
    def step(*_):
        raise RuntimeError("Failed to find C compiler.\nmore")

    kernels(step)
    env, told = settle_environment(make_env())
    assert not env.fused and "failed (Failed to find C compiler.)" in told


def test_a_kernel_that_draws_other_actions_is_replaced(kernels, monkeypatch):
    kernels(environment.step_eager)
    monkeypatch.setattr(settled, "sample_action", lambda logits, *_, fused: (logits.argmax(-1), None))
    env, told = settle_environment(make_env())
    assert not env.fused and "differ by" in told


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_this_gpus_kernels_are_right():
    env = make_env()
    env = replace(env, market=env.market.to("cuda"))
    assert settle_environment(env) == (env, None)
