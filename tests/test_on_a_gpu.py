"""On a GPU: the same market, the same noise, the same learning, and nothing asked of the device inside an iteration."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tactician.cli import main
from tactician.config import load_config
from tactician.environment import (
    Environment,
    EnvState,
    Stream,
    first_state,
    load_cached_market,
    mixed,
    observe,
    observe_portfolio,
    observe_portfolio_eager,
    observed_day,
    step,
    step_eager,
    uniform,
    uses_kernels,
)
from tactician.hardware.probe import Taken
from tactician.learning import collect_rollout, make_learner, make_precision, sample_action, sample_action_eager, update
from tactician.monitor.progress import Reporter
from tactician.policy import ActorCritic, MarketMemory, settle_recurrence, use_kernels
from tactician.portfolio.frictions import Frictions
from tactician.training.checkpoint import Keeper, read_checkpoint
from tactician.training.loop import _iterate_within_memory, iterate
from tactician.training.setup import prepare_run
from tactician.training.state import first_train_state
from tests.learning.test_ratio_is_one import HYPER
from tests.markets import random_market
from tests.training.test_resume_is_bit_exact import differences, state

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

QUIET = Reporter("quiet", silent=True)


def make_env(device: str, **changes) -> Environment:
    market = random_market()
    # With missing bars and an asset that ends, so that the ledger's masks are used.
    fillable, delisted = market.fillable.clone(), market.delisted.clone()
    fillable[::7, 0], fillable[350:, 1], delisted[350:, 1] = False, False, True
    market = replace(market, fillable=fillable, delisted=delisted).to(torch.device(device))
    return Environment(market, Frictions.specification(), rows=range(1, market.n_days), episode_length=32, **changes)


NETWORKS = [ActorCritic, MarketMemory]


def make_policy(device: str, dropout: float = 0.0, kind: type[ActorCritic] = ActorCritic) -> ActorCritic:
    generator = torch.Generator().manual_seed(0)
    policy = kind(64, 12, hidden_dim=64, n_gru_layers=2, dropout=dropout, generator=generator)
    with torch.no_grad():  # a policy with opinions: a near-uniform one would hide errors
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return policy.to(device)


def rollout_on(
    device: str, dropout: float = 0.0, n_envs: int = 16, precision=None, kernels: str = "fused", kind=ActorCritic
):
    per_window = 4 if kind is MarketMemory else 1
    fused = kernels == "fused"
    env, policy = make_env(device, portfolios_per_window=per_window, fused=fused), make_policy(device, dropout, kind)
    use_kernels(policy, kernels)
    precision = precision or make_precision(None, device)
    begin = first_state(env, torch.arange(n_envs // per_window, device=device))
    rollout, _, _ = collect_rollout(
        env,
        policy,
        begin,
        policy.initial_state(n_envs),
        n_steps=32,
        seed=0,
        iteration=0,
        precision=precision,
        recorded=fused,
    )
    return env, policy, rollout


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Any wait of the host for the device is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_noise_is_the_same_to_the_last_bit():
    index = torch.arange(10_000)
    assert torch.equal(uniform(3, Stream.ACTION, 5, index), uniform(3, Stream.ACTION, 5, index.cuda()).cpu())


def test_the_environment_goes_the_same_way():
    envs = [make_env(device, portfolios_per_window=4) for device in ("cpu", "cuda")]
    states = [first_state(env, torch.arange(8, device=env.market.device)) for env in envs]
    for t in range(32):
        seen = [observe(env, s) for env, s in zip(envs, states, strict=True)]
        torch.testing.assert_close(seen[1].cpu(), seen[0], atol=1e-4, rtol=1e-4)
        action = (12 * uniform(0, Stream.ACTION, t, torch.arange(32))).long()
        moved = [step(env, s, action.to(env.market.device)) for env, s in zip(envs, states, strict=True)]
        states = [s for s, _ in moved]
        torch.testing.assert_close(moved[1][1].reward.cpu(), moved[0][1].reward, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(states[1].holdings.cpu(), states[0].holdings, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("n_assets", "portfolios"), [(5, 1), (5, 4), (30, 8), (300, 4)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_kernels_do_what_the_eager_functions_do(n_assets, portfolios, masked):
    market = random_market(n_assets=n_assets)
    if masked:
        fillable, delisted = market.fillable.clone(), market.delisted.clone()
        fillable[::3, 0], fillable[1::2, 2:4], fillable[200:, 1], delisted[200:, 1] = False, False, False, True
        market = replace(market, fillable=fillable, delisted=delisted)
    env = Environment(
        market.to(torch.device("cuda")),
        Frictions(commission=0.0001, impact_linear=0.01),
        rows=range(1, market.n_days),
        episode_length=32,
        portfolios_per_window=portfolios,
        cost_multipliers=(0.5, 4.0),
        fused=True,
    )
    assert uses_kernels(env)
    state = first_state(env, torch.arange(1000 // portfolios, device="cuda"))  # no power of two
    index = torch.arange(1000, device="cuda")
    for t in range(16):
        day = observed_day(env, state)
        torch.testing.assert_close(
            observe_portfolio(env, state, day), observe_portfolio_eager(env, state, day), rtol=1e-5, atol=5e-6
        )
        action = (12 * uniform(0, Stream.ACTION, t, index)).long()
        (after, outcome), (expected, told) = step(env, state, action), step_eager(env, state, action)
        for found, there in ((after, expected), (outcome, told)):
            for name, value in vars(found).items():
                # Cash is what is left of a sum over all assets, so its rounding grows with them, as in the ledger.
                atol = {"reward": 2e-4, "holdings": 2e-7 * (n_assets + 20)}.get(name, 5e-6)
                torch.testing.assert_close(
                    value, vars(there)[name], rtol=1e-5, atol=atol, msg=lambda m, k=name: f"{k}: {m}"
                )
        hold = action == 0
        assert (
            torch.equal(after.holdings[hold], step_eager(env, state, torch.zeros_like(action))[0].holdings[hold])
            or masked
        )
        assert (after.holdings >= 0).all()
        state = after


def test_the_kernel_draws_the_eager_actions():
    index = torch.arange(100_003, device="cuda")
    logits = 3 * torch.randn(len(index), 12, generator=torch.Generator().manual_seed(0)).cuda()
    noise = uniform(3, Stream.ACTION, 1, 2, index)
    (action, log_prob), (expected, _) = (
        sample_action(logits, mixed(3, Stream.ACTION, 1, 2), index, fused=True),
        sample_action_eager(logits, noise),
    )
    # A number within the rounding of an edge may fall to either side.
    assert (action != expected).float().mean() < 1e-4
    there = torch.log_softmax(logits, -1).gather(-1, action[:, None])[:, 0]
    torch.testing.assert_close(log_prob, there, rtol=1e-5, atol=2e-6)


def test_a_graph_of_a_step_can_be_replayed_with_other_noise():
    env = make_env("cuda", portfolios_per_window=4, fused=True)
    begin = first_state(env, torch.arange(64, device="cuda"))
    index, logits = torch.arange(256, device="cuda"), torch.randn(256, 12, device="cuda")
    state = EnvState(**{name: value.clone() for name, value in vars(begin).items()})
    number = torch.zeros(1, dtype=torch.int64, device="cuda")

    def live() -> tuple[torch.Tensor, torch.Tensor]:
        seen = observe_portfolio(env, state, observed_day(env, state))
        action, _ = sample_action(logits, number, index, fused=True)
        after, outcome = step(env, state, action)
        for name, value in vars(after).items():
            getattr(state, name).copy_(value)
        return seen, outcome.reward

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        live()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        seen, reward = live()
    for name, value in vars(begin).items():
        getattr(state, name).copy_(value)
    expected = begin
    for t in range(8):
        number.fill_(mixed(0, Stream.ACTION, 5, t))
        graph.replay()
        there = observe_portfolio(env, expected, observed_day(env, expected))
        action, _ = sample_action(logits, mixed(0, Stream.ACTION, 5, t), index, fused=True)
        expected, outcome = step(env, expected, action)
        assert torch.equal(seen, there) and torch.equal(reward, outcome.reward)
    assert all(torch.equal(value, vars(expected)[name]) for name, value in vars(state).items())


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_update_moves_the_policy_as_on_a_cpu(monkeypatch, kind):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # its 10 bits would hide errors
    moved = []
    for device in ("cpu", "cuda"):
        _, policy, rollout = rollout_on("cpu", kind=kind)  # one rollout for both, since a rounding can change an action
        policy = policy.to(device)
        there = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in vars(rollout).items()}
        rollout = replace(rollout, **{**there, "market": rollout.market.to(torch.device(device))})
        metrics = update(make_learner(policy, HYPER), rollout, HYPER, seed=0, iteration=0)
        moved.append((policy.cpu().state_dict(), {k: float(v) for k, v in metrics.items()}))
    (one, told), (other, told_too) = moved
    assert told == pytest.approx(told_too, rel=1e-2, abs=1e-4)
    first = make_policy("cpu", kind=kind).state_dict()
    for name in one:
        # Adam's first steps have the size of the learning rate whatever the gradient's: tiny gradients are noise.
        assert (one[name] - other[name]).norm() <= 0.1 * (one[name] - first[name]).norm() + 1e-6, name


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kernels", ["fused", "library", "plain"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_update_sees_the_policy_that_acted(dtype, kernels, kind):
    precision = make_precision(dtype, "cuda")
    _, policy, rollout = rollout_on("cuda", dropout=0.1, n_envs=64, precision=precision, kernels=kernels, kind=kind)
    hyper = replace(HYPER, batch_size=10_000, ppo_epochs=1, critic_epochs=0)
    learner = make_learner(policy, hyper, precision)
    for _ in range(20):  # float16's scaler begins too high on purpose. Dropped updates leave the policy as it is
        metrics = update(learner, rollout, hyper, seed=0, iteration=0)
        if float(metrics["dropped_updates"]) == 0:
            break
    # KL is about half the mean squared error of the log-probabilities: at the format's precision, and no more.
    assert float(metrics["kl"]) < {None: 1e-6, torch.bfloat16: 1e-3, torch.float16: 1e-5}[dtype]
    assert float(metrics["clip_fraction"]) < (1e-9 if dtype is None else 1e-3)
    assert float(metrics["dropped_updates"]) == 0


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_recordings_compute_what_plain_calls_compute(dtype, kind):
    found = []
    for recorded in (False, True):
        precision = make_precision(dtype, "cuda")
        per_window = 4 if kind is MarketMemory else 1
        env, policy = make_env("cuda", portfolios_per_window=per_window, fused=True), make_policy("cuda", 0.1, kind)
        use_kernels(policy, "fused")
        learner, hyper = make_learner(policy, HYPER, precision, recorded=recorded), replace(HYPER, batch_size=128)
        state = first_state(env, torch.arange(16 // per_window, device="cuda"))
        hidden = policy.initial_state(16)
        for iteration in range(2):
            rollout, state, hidden = collect_rollout(
                env,
                policy,
                state,
                hidden,
                n_steps=32,
                seed=0,
                iteration=iteration,
                precision=precision,
                recorded=recorded,
            )
            metrics = update(learner, rollout, hyper, seed=0, iteration=iteration)
        found.append((rollout, metrics, {k: v.clone() for k, v in policy.state_dict().items()}))
    (plain, told, weights), (again, told_too, weights_too) = found
    assert torch.equal(plain.day, again.day) and (plain.actions == again.actions).float().mean() > 0.99
    assert {k: float(v) for k, v in told.items()} == pytest.approx(
        {k: float(v) for k, v in told_too.items()}, rel=0.05, abs=0.01
    )
    for name, weight in weights.items():
        assert (weight - weights_too[name]).norm() <= 0.02 * weight.norm() + 1e-6, name


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("fused", [False, True])
def test_a_rollout_never_waits_for_the_device(dropout, fused):
    rollout_on("cuda", dropout, kernels="fused" if fused else "library")  # libraries load
    env, policy = make_env("cuda", fused=fused), make_policy("cuda", dropout)
    begin, hidden = first_state(env, torch.arange(16, device="cuda")), policy.initial_state(16)
    with no_synchronisation():
        collect_rollout(env, policy, begin, hidden, n_steps=64, sequence_length=16, seed=0, iteration=0)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", NETWORKS)
def test_an_update_never_waits_for_the_device(dtype, masked, kind):
    precision = make_precision(dtype, "cuda")
    _, policy, rollout = rollout_on("cuda", precision=precision, kind=kind)
    learner = make_learner(policy, HYPER, precision)
    valid = torch.ones(32, 16, dtype=torch.bool, device="cuda") if masked else None
    update(learner, rollout, HYPER, seed=0, iteration=0, valid=valid)
    with no_synchronisation():
        update(learner, rollout, HYPER, seed=0, iteration=1, valid=valid)


def test_the_guard_against_what_is_not_finite_does_not_wait_either():
    _, policy, rollout = rollout_on("cuda")
    learner = make_learner(policy, HYPER)
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    spoilt = replace(rollout, log_probs=torch.full_like(rollout.log_probs, math.nan))
    hyper = replace(HYPER, critic_epochs=0)
    update(learner, spoilt, hyper, seed=0, iteration=0)
    with no_synchronisation():
        metrics = update(learner, spoilt, hyper, seed=0, iteration=1)
    assert float(metrics["dropped_updates"]) > 0
    assert all(torch.equal(v, before[k]) for k, v in policy.state_dict().items())


def test_the_recurrent_kernels_agree_with_their_definition_at_the_specified_size():
    policy = ActorCritic(64, 12, hidden_dim=256, n_gru_layers=2).cuda()
    for dtype in (None, torch.bfloat16, torch.float16):
        assert settle_recurrence(policy, dtype, fused=True) == ("fused" if dtype else "library", None)
        assert settle_recurrence(policy, dtype) == ("library", None)


def run(config: Path, folder: Path, *words: str) -> int:
    return main(
        ["train", "--config", str(config), "--checkpoint-dir", str(folder), "--quiet", "--device", "cuda", *words]
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--dropout", "0.2"),
        ("--amp",),
        ("--amp", "--amp-dtype", "fp16"),
        ("market_memory",),
        ("market_memory", "--amp"),
        ("--no-fused",),
        ("--no-fused", "--amp"),
        ("market_memory", "--no-fused", "--amp"),
    ],
)
def test_n_and_resume_and_n_equal_2n_on_a_gpu_too(tiny, tmp_path, words):
    if words[:1] == ("market_memory",):
        keys = yaml.safe_load(tiny.read_text()) | {
            "network": words[0],
            "portfolios_per_window": 4,
            "baseline": "window",
        }
        tiny, words = tmp_path / "tiny.yaml", words[1:]
        tiny.write_text(yaml.safe_dump(keys))
    words = (*words, "--n-steps", "8", "--n-gru-layers", "2", "--n-envs", "64")
    assert run(tiny, tmp_path / "whole", *words, "--iterations", "6") == 0
    assert run(tiny, tmp_path / "halves", *words, "--iterations", "3") == 0
    assert run(tiny, tmp_path / "halves", *words, "--iterations", "6", "--resume") == 0
    whole, halves = (state(tmp_path / name / "model_final.pt") for name in ("whole", "halves"))
    for found in (whole, halves):
        found["metrics"].pop("gpu_reserved_gb")  # what torch holds depends on what ran before
    assert whole["progress"]["iteration"] == 6
    assert differences(whole, halves) == []


def test_a_run_of_a_gpu_goes_on_on_a_cpu_and_back(tiny, tmp_path):
    assert run(tiny, tmp_path, "--iterations", "2") == 0
    assert run(tiny, tmp_path, "--iterations", "3", "--resume", "--device", "cpu") == 0
    assert run(tiny, tmp_path, "--iterations", "4", "--resume") == 0
    assert read_checkpoint(tmp_path / "model_final.pt")["progress"]["iteration"] == 4


def test_memory_that_really_runs_out_halves_the_environments(tiny, tmp_path, capsys):
    sizes = {"n_envs": 32_768, "n_steps": 256, "batch_size": 65_536, "ppo_epochs": 1, "timesteps": 10**9}
    config = load_config(tiny, {**sizes, "device": "cuda"})
    setup = prepare_run(config, load_cached_market(config, ""))
    assert setup.sizes.n_envs == 32_768
    first = first_train_state(setup)
    torch.cuda.empty_cache()
    share = (torch.cuda.memory_reserved() + 0.6 * setup.memory.predicted(setup.sizes)) / torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        halved, after = _iterate_within_memory(setup, first, Keeper(tmp_path, 3), Reporter())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert halved.n_envs < 32_768 and after.progress.iteration == 1
    assert after.progress.timesteps == halved.n_envs * 256
    assert "Memory ran out (CUDA out of memory" in capsys.readouterr().out


@pytest.mark.parametrize("amp", [False, True])
def test_the_memory_plan_is_near_what_is_taken(tiny, amp):
    config = load_config(
        tiny,
        {"device": "cuda", "n_envs": 16_384, "n_steps": 128, "hidden_dim": 128, "batch_size": 65_536, "amp": amp}
        | {"timesteps": 10**9},
    )
    setup = prepare_run(config, load_cached_market(config, ""))
    torch.cuda.empty_cache()  # what earlier tests have left behind
    taken = Taken(setup.device)
    iterate(setup, first_train_state(setup), QUIET)
    assert setup.memory.predicted(setup.sizes) == pytest.approx(taken.peak(), rel=0.25)
