"""How noisy is a policy gradient? Five estimators of the same gradient, with the same half-trained policy and its critic.

    python benchmarks/gradient_noise.py [--windows 256] [--markets regimes embedded] [--steps 300000]

Each estimator makes one gradient per window of 64 days. Its noise is the trace of the gradients' covariance, and the signal is
the squared length of the exact estimator's mean. Noise over signal is the number of windows whose mean gradient has a
signal-to-noise ratio of 1. All five move through the same lattice, so that they estimate the same quantity. Seconds are of
the CPU, for one rollout and one pass of an update, per window; give it one thread (OMP_NUM_THREADS=1).

The embedded market needs its cache (`tactician build-cache --config embedded_sp500`), else it is left out.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lattice as exact
import torch
from command_line import cached_market, run
from torch import Tensor

from tactician.config import load_config
from tactician.environment import assemble, first_state
from tactician.errors import UserError
from tactician.learning import (
    begin_memory,
    collect_rollout,
    generalised_advantages,
    leave_one_out,
    make_learner,
    update,
)
from tactician.monitor.progress import Reporter
from tactician.policy import MarketMemory
from tactician.studies.learnability import problem_setup
from tactician.synthetic import PROBLEMS
from tactician.training.loop import iterate
from tactician.training.setup import Setup, prepare_run
from tactician.training.state import first_train_state

RESULTS = Path(__file__).parent / "results" / "gradient_noise.json"
PICTURE = Path(__file__).parent.parent / "docs" / "gradient_noise.png"
DAYS, AGES, LAMBDA = 64, 4, 0.95
SEED = 200
"""Of market and training: no other figure of the documentation has it."""

NETWORK = {
    "network": "market_memory",
    "hidden_dim": 64,
    "encoder_layers": 2,
    "n_gru_layers": 1,
    "dropout": 0.0,
    "entropy_coef": 0.1,
    "weight_decay": 0.0,
    "device": "cpu",
}
"""All that the figures of the documentation hang on, whatever the defaults are."""

ESTIMATORS = {
    "PPO, critic": 1,
    "PPO, window of 8": 8,
    "PPO, window of 64": 64,
    "all actions, 8 portfolios": 8,
    "lattice": 0,
}
"""With the portfolios that each samples per window."""


def setup_of(market: str, steps: int) -> Setup:
    """A run of PPO with market memory."""
    if market == "embedded":
        config = load_config("embedded_sp500", {**NETWORK, "timesteps": steps, "seed": SEED})
        return prepare_run(config, cached_market("embedded_sp500"))
    return problem_setup(PROBLEMS[market](SEED), {**NETWORK, "timesteps": steps, "seed": SEED})


def half_trained(setup: Setup, steps: int) -> MarketMemory:
    """The policy after so many environment steps, of a run that is planned for twice as many."""
    state = first_train_state(setup)
    while state.progress.timesteps < steps:
        state = iterate(setup, state, Reporter("quiet", silent=True))
    assert isinstance(state.learner.policy, MarketMemory)
    return state.learner.policy


class Windows:
    """Windows of `DAYS` sessions, with policy and critic in all of their books."""

    def __init__(self, setup: Setup, policy: MarketMemory, first: Tensor) -> None:
        env, n_windows = setup.environment, len(first)
        day = first + torch.arange(DAYS + 1)[:, None]
        held = exact.books(env, day.flatten(), AGES)
        entries = exact.portfolio_entries(env, day.flatten(), held, AGES).unflatten(0, day.shape)
        hidden = begin_memory(env, policy, day[0])
        nobody = entries.new_zeros(*day.shape, entries.shape[-1])
        remembered, _ = policy.trunk(assemble(env.market, day, nobody), hidden)
        seen = remembered[:, :, None], entries
        self.log_policy = torch.log_softmax(policy.heads(*(x[:-1] for x in seen))[0], -1)
        """[day, window, state, action], with its graph."""
        with torch.no_grad():
            self.policy = self.log_policy.exp()
            self.critic = policy.values(*seen)
            rewards = exact.rewards(env, day[:-1].flatten(), held[: DAYS * n_windows])
            self.reward = rewards.unflatten(0, (DAYS, n_windows))
        self.gamma = setup.config.gamma
        self.reached = exact.next_states(self.reward.shape[-1], AGES)
        self.first = exact.fresh_books(n_windows, self.reward.shape[-1], AGES, self.policy)

    def lattice(self) -> Tensor:
        """Weights of log π in the exact gradient: p · π · (Q − V)."""
        q, v = exact.values(self.reward, self.policy, self.critic[-1], self.gamma)
        there = exact.occupancy(self.policy, self.first)
        return there[..., None] * self.policy * (q - v[..., None])

    def sampled(self, portfolios: int, generator: torch.Generator, all_actions: bool = False) -> Tensor:
        """Weights of log π in the mean over one window's portfolios of Σ_t A_t ∇ log π(a_t | s_t)."""
        policy, critic, reward = self.policy[:, 0], self.critic[:, 0], self.reward[:, 0]
        state = torch.multinomial(self.first[0], portfolios, replacement=True, generator=generator)
        states, actions, rewards = [], [], []
        for t in range(DAYS):
            action = torch.multinomial(policy[t, state], 1, generator=generator)[:, 0]
            states.append(state)
            actions.append(action)
            rewards.append(reward[t, state, action])
            state = self.reached[state, action]
        there, did, earned = torch.stack([*states, state]), torch.stack(actions), torch.stack(rewards)
        day = torch.arange(DAYS + 1)[:, None]
        value = critic[day, there]
        goes_on = torch.ones_like(earned, dtype=torch.bool)
        advantages = generalised_advantages(earned, value[:-1], value[1:], goes_on, self.gamma, LAMBDA)
        weights = torch.zeros_like(reward)
        if all_actions:
            # One step is exact for every action. What the trace of the sampled action adds to its own step stays sampled.
            worth = reward[day[:-1], there[:-1]] + self.gamma * critic[day[1:, :, None], self.reached[there[:-1]]]
            chances = policy[day[:-1], there[:-1]]
            better = worth - (chances * worth).sum(-1, keepdim=True)
            weights.index_put_((day[:-1].expand_as(did), there[:-1]), chances * better, accumulate=True)
            advantages = advantages - (earned + self.gamma * value[1:] - value[:-1])
        elif portfolios > 1:
            advantages = leave_one_out(advantages, portfolios)
        weights.index_put_((day[:-1].expand_as(did), there[:-1], did), advantages, accumulate=True)
        return weights[:, None] / portfolios

    def gradient(self, weights: Tensor, parameters: list[torch.nn.Parameter]) -> Tensor:
        """The gradient Σ weight · ∇ log π, as one vector."""
        parts = torch.autograd.grad((weights * self.log_policy).sum(), parameters, retain_graph=True, allow_unused=True)
        return torch.cat(
            [p.new_zeros(p.numel()) if g is None else g.flatten() for p, g in zip(parameters, parts, strict=True)]
        )


def gradients(setup: Setup, policy: MarketMemory, windows: int) -> dict[str, Tensor]:
    """Per estimator the gradients of windows, [window, parameter]; the windows are the same for all."""
    generator = torch.Generator().manual_seed(SEED)
    rows, parameters = setup.environment.rows, policy.actor_parameters()
    starts = torch.randint(rows.start + 1, rows.stop - DAYS - 1, (windows,), generator=generator)
    found: dict[str, list[Tensor]] = {name: [] for name in ESTIMATORS}
    for first in starts.tolist():
        window = Windows(setup, policy, torch.tensor([first]))
        for name, portfolios in ESTIMATORS.items():
            weights = (
                window.sampled(portfolios, generator, all_actions=name.startswith("all"))
                if portfolios
                else window.lattice()
            )
            found[name].append(window.gradient(weights, parameters))
    return {name: torch.stack(each) for name, each in found.items()}


def noise(each: Tensor) -> float:
    """Trace of the covariance of the rows."""
    return float((each - each.mean(0)).double().square().sum() / (len(each) - 1))


def signal(each: Tensor) -> float:
    """Squared length of the rows' expectation, without the bias of their noise."""
    return float(each.mean(0).double().square().sum()) - noise(each) / len(each)


def seconds_of_sampling(setup: Setup, policy: MarketMemory, portfolios: int, windows: int) -> float:
    """A rollout, and one pass of PPO's update over it that leaves the policy as it is."""
    env = replace(setup.environment, portfolios_per_window=portfolios)
    hyper = replace(
        setup.hyper,
        portfolios_per_window=portfolios,
        baseline="window" if portfolios > 1 else "critic",
        batch_size=10**9,
        ppo_epochs=1,
        critic_epochs=0,
        actor_lr=0.0,
        critic_lr=0.0,
    )
    learner, state = make_learner(policy, hyper), first_state(env, torch.arange(windows))
    begun, hidden = time.process_time(), begin_memory(env, policy, state.day)
    rollout, _, _ = collect_rollout(env, policy, state, hidden, n_steps=DAYS, seed=0, iteration=0)
    update(learner, rollout, hyper, seed=0, iteration=0)
    return time.process_time() - begun


def seconds_of_lattice(setup: Setup, policy: MarketMemory, windows: int) -> float:
    """The exact gradient of as many windows at once."""
    first = setup.environment.rows.start + 100 + DAYS * torch.arange(windows)
    begun = time.process_time()
    made = Windows(setup, policy, first)
    made.gradient(made.lattice(), policy.actor_parameters())
    return time.process_time() - begun


def seconds_per_window(
    setup: Setup, policy: MarketMemory, portfolios: int, windows: int = 32, repeats: int = 3
) -> float:
    """The median of several; the first, which warms up, is dropped. 0 portfolios is the lattice."""
    took = [
        seconds_of_sampling(setup, policy, portfolios, windows)
        if portfolios
        else seconds_of_lattice(setup, policy, windows)
        for _ in range(repeats + 1)
    ]
    return sorted(took[1:])[repeats // 2] / windows


def measure(market: str, windows: int, steps: int) -> list[dict[str, Any]]:
    """The table of a market."""
    setup = setup_of(market, 2 * steps)
    policy = half_trained(setup, steps)
    each = gradients(setup, policy, windows)
    true, reference = signal(each["lattice"]), each["lattice"].mean(0)
    rows = []
    for name, portfolios in ESTIMATORS.items():
        needed = noise(each[name]) / true
        seconds = seconds_per_window(setup, policy, portfolios)
        rows.append(
            {
                "market": market,
                "estimator": name,
                "windows": needed,
                "milliseconds_per_window": 1000 * seconds,
                "seconds": needed * seconds,
                "cosine": float(torch.cosine_similarity(each[name].mean(0), reference, 0)),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Windows and seconds that a signal-to-noise ratio of 1 takes, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    markets = list(dict.fromkeys(row["market"] for row in rows))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    place: Callable[[int, int], float] = lambda k, m: k + 0.8 * (m + 0.5) / len(markets) - 0.4  # noqa: E731
    for axis, key, label in zip(
        axes, ("windows", "seconds"), ("windows of 64 days", "seconds, one thread"), strict=True
    ):
        for m, market in enumerate(markets):
            mine = [row for row in rows if row["market"] == market]
            at = [place(k, m) for k in range(len(mine))]
            axis.barh(at, [row[key] for row in mine], 0.8 / len(markets), label=market, color=("#2563a8", "#d98a29")[m])
            for y, row in zip(at, mine, strict=True):
                shown = f"{row[key]:,.0f}" if row[key] >= 10 else f"{row[key]:.2g}"
                axis.annotate(shown, (row[key], y), (3, 0), textcoords="offset points", va="center", fontsize=8)
        axis.set(xscale="log", xlabel=f"{label}, for a gradient with SNR 1")
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(ESTIMATORS)), list(ESTIMATORS))
    axes[0].invert_yaxis()
    axes[1].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=256)
    parser.add_argument("--markets", nargs="+", choices=("embedded", *PROBLEMS), default=("regimes", "embedded"))
    parser.add_argument("--steps", type=int, default=300_000, help="of PPO before the measurement")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for market in args.markets:
        try:
            rows += measure(market, args.windows, args.steps)
        except UserError as error:
            print(f"{market} is left out: {error}")
    args.out.write_text(
        json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}, indent=1) + "\n"
    )
    draw(rows, args.picture)


if __name__ == "__main__":
    run(main)
