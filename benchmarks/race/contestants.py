"""Trainers that run in the race: each trains on the same environment, one iteration at a time, and can be asked what to do.

All have the network's size, market, costs, regimes and horizon from one setup. A peer gets its own best settings for a CPU.
skrl and TorchRL take tensors, so they step the environment's functions directly. Peers are imported when they are made.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tactician.environment import OBS_DIM, EnvState, first_state, observe, restart_finished, step
from tactician.monitor.progress import Reporter
from tactician.policy.actor_critic import HEAD_DIM, dense
from tactician.studies.learnability import deterministic
from tactician.synthetic import Choose
from tactician.training.loop import iterate
from tactician.training.setup import Setup
from tactician.training.state import first_train_state


class Ours:
    """Tactician's own loop, whatever network the setup names."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.state = setup, first_train_state(setup)

    def train(self) -> int:
        """One iteration; the environment steps that it made."""
        before = self.state.progress.timesteps
        self.state = iterate(self.setup, self.state, Reporter("quiet", silent=True))
        return self.state.progress.timesteps - before

    def choose(self) -> Choose:
        """The most probable regime."""
        return deterministic(self.setup.environment, self.state.learner.policy)


class StableBaselines:
    """sb3-contrib's RecurrentPPO: an LSTM as wide and as deep, heads of 128, four epochs, the same discount and λ."""

    def __init__(self, setup: Setup, rate: float = 1e-3) -> None:
        from sb3_contrib import RecurrentPPO

        from tactician.environment.gymnasium import stable_baselines

        config = setup.config
        self.setup = setup
        self.model = RecurrentPPO(
            "MlpLstmPolicy",
            stable_baselines(setup.environment, setup.n_envs),
            learning_rate=rate,
            n_steps=config.n_steps,
            batch_size=config.batch_size,
            n_epochs=config.ppo_epochs,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            ent_coef=config.entropy_coef,
            seed=config.seed,
            device=setup.device,
            policy_kwargs={
                "lstm_hidden_size": config.hidden_dim,
                "n_lstm_layers": config.n_gru_layers,
                "shared_lstm": True,
                "enable_critic_lstm": False,
                "net_arch": {"pi": [128], "vf": [128]},
            },
        )
        self._begun = False

    def train(self) -> int:
        """One iteration; the environment steps that it made."""
        steps = self.setup.config.n_steps * self.setup.n_envs
        self.model.learn(steps, reset_num_timesteps=not self._begun)
        self._begun = True
        return steps

    def choose(self) -> Choose:
        """The most probable regime, with the recurrent state kept from call to call."""
        env = replace(self.setup.environment, portfolios_per_window=1)
        memory: Any = None

        def choose(state: EnvState) -> torch.Tensor:
            nonlocal memory
            begun = np.full(len(state.day), memory is None)
            seen = observe(env, state).cpu().numpy()
            action, memory = self.model.predict(seen, memory, begun, deterministic=True)
            return torch.from_numpy(action).long()

        return choose


class Portfolios:
    """A setup's simulated portfolios for trainers that take tensors. Their episodes begin as in our own training.

    Raises:
        ValueError: an episode would end inside a rollout.
    """

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        if config.episode_length % config.n_steps:
            raise ValueError(f"n_steps is {config.n_steps}: it must divide episode_length, {config.episode_length}")
        self.env, self.n_envs = setup.environment, setup.n_envs
        self.n_actions = self.env.market.regimes.n_actions
        self.state = first_state(self.env, torch.arange(len(setup.windows)), stagger=config.n_steps)

    def observe(self) -> Tensor:
        """What the portfolios see now."""
        return observe(self.env, self.state)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One session. Returns observations, rewards and whether episodes are over; nothing is reset."""
        self.state, outcome = step(self.env, self.state, action)
        over = (self.state.age >= self.env.episode_length).repeat_interleave(self.env.portfolios_per_window)
        return self.observe(), outcome.reward, over

    def restart(self) -> Tensor:
        """Begin a new episode wherever one is over. Returns the observations of all."""
        self.state, _ = restart_finished(self.env, self.state)
        return self.observe()


def peer_encoder(width: int) -> nn.Sequential:
    """Our encoder, for peers whose users write the network."""
    return _orthogonal(nn.Sequential(*dense(OBS_DIM, width), *dense(width, width)), 2**0.5)


def peer_head(width: int, outputs: int, gain: float) -> nn.Sequential:
    """One of our heads."""
    return _orthogonal(nn.Sequential(*dense(width, HEAD_DIM), nn.Linear(HEAD_DIM, outputs)), gain)


def _orthogonal(layers: nn.Sequential, last_gain: float) -> nn.Sequential:
    """Orthogonal weights, as sb3-contrib and we begin with: √2 where a ReLU follows, another gain at the last layer."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for layer in linear:
        nn.init.orthogonal_(layer.weight, last_gain if layer is linear[-1] else 2**0.5)
        nn.init.zeros_(layer.bias)
    return layers


class Skrl:
    """skrl's PPO_RNN with one shared model: our encoder, torch's GRU, heads of 128. Two of its ways are left as they are.

    It keeps the minibatches of an iteration for all epochs, in the environments' order. From the second rollout on, skrl 2.1.1
    stores each recurrent state one step late. So replayed log-probabilities differ in a sequence's first steps, by up to 0.2.
    In one run with the right states it learnt no faster.

    The rate was chosen of 3e-4, 1e-3 and 3e-3, on seed 100 with hidden 64. Shares after 10 s of "observable": 0.84, 1.00, 1.00.
    After 40 s of "hidden": 0.97, 0.95, 0.96. There the last fell to 0.85 in between.
    """

    def __init__(self, setup: Setup, rate: float = 1e-3) -> None:
        from skrl.agents.torch.ppo import PPO_CFG, PPO_RNN
        from skrl.memories.torch import RandomMemory
        from skrl.resources.preprocessors.torch import RunningStandardScaler
        from skrl.trainers.torch import StepTrainer, StepTrainerCfg

        torch.manual_seed(setup.config.seed)
        config, self.setup = setup.config, setup
        env = _skrl_env(Portfolios(setup))
        self.model = _skrl_model(setup, env)
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
        agent = PPO_RNN(
            models={"policy": self.model, "value": self.model},
            memory=RandomMemory(memory_size=config.n_steps, num_envs=setup.n_envs, device="cpu"),
            device="cpu",
            cfg=PPO_CFG(
                rollouts=config.n_steps,
                learning_epochs=config.ppo_epochs,
                mini_batches=max(setup.n_envs * config.n_steps // config.batch_size, 1),
                discount_factor=config.gamma,
                gae_lambda=config.gae_lambda,
                learning_rate=rate,
                grad_norm_clip=config.max_grad_norm,
                ratio_clip=config.clip,
                # A value moves by more than 0.2 in many iterations. The others do not clip it either.
                value_clip=0.0,
                entropy_loss_scale=config.entropy_coef,
                value_loss_scale=config.value_coef,
                time_limit_bootstrap=True,
                # As in all of skrl's examples. Observations have unit size already, values do not.
                value_preprocessor=RunningStandardScaler,
                value_preprocessor_kwargs={"size": 1, "device": "cpu"},
                experiment={"write_interval": 0, "checkpoint_interval": 0},
            ),
            **spaces,
        )
        quiet = StepTrainerCfg(
            timesteps=10**9, headless=True, disable_progressbar=True, close_environment_at_exit=False
        )
        self.trainer = StepTrainer(env=env, agents=agent, cfg=quiet)

    def train(self) -> int:
        """One iteration; the environment steps that it made."""
        for _ in range(self.setup.config.n_steps):
            self.trainer.train()
        return self.setup.config.n_steps * self.setup.n_envs

    def choose(self) -> Choose:
        """The most probable regime, with the recurrent state kept from call to call."""
        env, model, memory = replace(self.setup.environment, portfolios_per_window=1), self.model, None

        @torch.no_grad()
        def choose(state: EnvState) -> Tensor:
            nonlocal memory
            if memory is None:
                memory = torch.zeros(model.gru.num_layers, len(state.day), model.gru.hidden_size)
            x, memory = model.gru(model.encoder(observe(env, state))[None], memory)
            return model.policy_head(x[0]).argmax(-1)

        return choose


def _skrl_env(portfolios: Portfolios) -> Any:
    """The portfolios as a vectorised environment of skrl."""
    from skrl.envs.wrappers.torch import Wrapper

    from tactician.environment.gymnasium import spaces

    class Env(Wrapper):
        observation_space, action_space = spaces(portfolios.env)
        num_envs, device, state_space = portfolios.n_envs, torch.device("cpu"), None

        def __init__(self) -> None: ...

        def reset(self) -> tuple[Tensor, dict[str, Any]]:
            return portfolios.observe(), {}

        def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
            seen, reward, over = portfolios.step(actions.view(-1))
            if over.any():
                seen = portfolios.restart()
            # skrl's advantages stop at "terminated" alone. Its bootstrap at "truncated" adds the value to the reward.
            return seen, reward[:, None], over[:, None], over[:, None], {}

        def state(self) -> None: ...

        def render(self) -> None: ...

        def close(self) -> None: ...

    return Env()


def _skrl_model(setup: Setup, env: Any) -> Any:
    """Policy and value in one model. The trunk's output of the policy serves the value, as in skrl's shared models."""
    from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model

    hidden, layers, length = setup.config.hidden_dim, setup.config.n_gru_layers, setup.config.n_steps

    class Shared(CategoricalMixin, DeterministicMixin, Model):
        def __init__(self) -> None:
            Model.__init__(
                self, observation_space=env.observation_space, action_space=env.action_space, device=torch.device("cpu")
            )
            CategoricalMixin.__init__(self, role="policy")
            DeterministicMixin.__init__(self, role="value")
            self.encoder = peer_encoder(hidden)
            self.gru = nn.GRU(hidden, hidden, layers)
            self.policy_head = peer_head(hidden, env.action_space.n, 0.01)
            self.value_head = peer_head(hidden, 1, 1.0)
            self._seen: Any = None

        def get_specification(self) -> dict[str, Any]:
            return {"rnn": {"sequence_length": length, "sizes": [(layers, env.num_envs, hidden)]}}

        def act(self, inputs: dict[str, Any], *, role: str = "") -> Any:
            mixin = CategoricalMixin if role == "policy" else DeterministicMixin
            return mixin.act(self, inputs, role=role)

        def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:
            if role == "policy":
                self._seen = self.trunk(inputs)
                x, memory = self._seen
                return self.policy_head(x), {"rnn": [memory]}
            x, memory = self._seen or self.trunk(inputs)
            self._seen = None
            return self.value_head(x), {"rnn": [memory]}

        def trunk(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
            x, memory = self.encoder(inputs["observations"]), inputs["rnn"][0]
            if not self.training:
                x, memory = self.gru(x[None], memory)
                return x[0], memory
            # Rows are environments × steps. Episodes end only at a rollout's last step, so no sequence has a reset.
            sequences = x.view(-1, length, hidden).transpose(0, 1)
            x, memory = self.gru(sequences, memory[:, ::length].contiguous())
            return x.transpose(0, 1).reshape(-1, hidden), memory

    return Shared()


class TorchRl:
    """TorchRL's Collector, GRUModule, GAE and ClipPPOLoss in the loop of its examples, with our encoder and heads.

    Two settings spare it work. Values come from the rollout, so its GAE needs no network but for the last step. Its loss
    gets the heads alone, and the trunk's features are computed once for both.

    The rate was chosen of 3e-4, 1e-3 and 3e-3, on seed 100 with hidden 64. Shares after 10 s of "observable": 0.86, 1.00, 1.00.
    After 40 s of "hidden": 0.97, 0.98, 0.93.
    """

    def __init__(self, setup: Setup, rate: float = 1e-3) -> None:
        from tensordict.nn import TensorDictModule, TensorDictSequential
        from torch.distributions import Categorical
        from torchrl.collectors import Collector
        from torchrl.envs import InitTracker, TransformedEnv
        from torchrl.modules import GRUModule, ProbabilisticActor
        from torchrl.objectives import ClipPPOLoss
        from torchrl.objectives.value import GAE

        torch.manual_seed(setup.config.seed)
        config, self.setup = setup.config, setup
        hidden, portfolios = config.hidden_dim, Portfolios(setup)
        encoder = TensorDictModule(peer_encoder(hidden), ["observation"], ["encoded"])
        gru = GRUModule(
            hidden,
            hidden,
            config.n_gru_layers,
            in_keys=["encoded", "memory"],
            out_keys=["features", ("next", "memory")],
        )
        logits = TensorDictModule(peer_head(hidden, portfolios.n_actions, 0.01), ["features"], ["logits"])
        self.actor = ProbabilisticActor(
            logits, in_keys=["logits"], distribution_class=Categorical, return_log_prob=True
        )
        self.critic = TensorDictModule(peer_head(hidden, 1, 1.0), ["features"], ["state_value"])
        self.trunk = TensorDictSequential(encoder, gru)
        policy = TensorDictSequential(self.trunk, self.critic, self.actor)
        env = TransformedEnv(_torchrl_env(portfolios), InitTracker())
        env.append_transform(gru.make_tensordict_primer())
        frames = config.n_steps * setup.n_envs
        self.collector = Collector(env, policy, frames_per_batch=frames, track_traj_ids=False, device="cpu")
        self.batches: Iterator[Any] = iter(self.collector)
        self.advantages = GAE(gamma=config.gamma, lmbda=config.gae_lambda, value_network=None)
        self.loss = ClipPPOLoss(
            self.actor,
            self.critic,
            clip_epsilon=config.clip,
            entropy_coeff=config.entropy_coef,
            critic_coeff=config.value_coef,
            loss_critic_type="l2",
            normalize_advantage=True,
        )
        self.parameters = [*self.trunk.parameters(), *self.loss.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, lr=rate, fused=True)

    def train(self) -> int:
        """One iteration; the environment steps that it made."""
        from torchrl.modules import set_recurrent_mode

        config = self.setup.config
        data = next(self.batches)
        with torch.no_grad():
            last = self.critic(self.trunk(data[:, -1]["next"].exclude("reward").clone()))["state_value"]
            after = torch.cat([data["state_value"][:, 1:], last[:, None]], 1)
            data["next", "state_value"] = after
            self.advantages(data)
        data = data.select("observation", "memory", "is_init", "action", "action_log_prob", "advantage", "value_target")
        sequences = max(config.batch_size // config.n_steps, 1)
        for _ in range(config.ppo_epochs):
            for rows in torch.randperm(len(data)).split(sequences):
                with set_recurrent_mode(True):
                    batch = self.trunk(data[rows])
                losses = self.loss(batch)
                self.optimiser.zero_grad()
                (losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]).backward()
                nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm)
                self.optimiser.step()
        return config.n_steps * self.setup.n_envs

    def choose(self) -> Choose:
        """The most probable regime, with the recurrent state kept from call to call."""
        from tensordict import TensorDict

        env, memory = replace(self.setup.environment, portfolios_per_window=1), None

        @torch.no_grad()
        def choose(state: EnvState) -> Tensor:
            nonlocal memory
            n = len(state.day)
            if memory is None:
                memory = torch.zeros(n, self.setup.config.n_gru_layers, self.setup.config.hidden_dim)
            seen = {
                "observation": observe(env, state),
                "memory": memory,
                "is_init": torch.zeros(n, 1, dtype=torch.bool),
            }
            found = self.trunk(TensorDict(seen, [n]))
            memory = found["next", "memory"]
            return self.actor[0](found)["logits"].argmax(-1)

        return choose


def _torchrl_env(portfolios: Portfolios) -> Any:
    """The portfolios as one batched environment of TorchRL."""
    from tensordict import TensorDict
    from torchrl.data import Binary, Categorical, Composite, Unbounded
    from torchrl.envs import EnvBase

    n = portfolios.n_envs

    class Env(EnvBase):
        def __init__(self) -> None:
            super().__init__(device="cpu", batch_size=[n])
            self.observation_spec = Composite(observation=Unbounded((n, OBS_DIM)), shape=(n,))
            self.action_spec = Categorical(portfolios.n_actions, (n,))
            self.reward_spec = Unbounded((n, 1))
            flag = {name: Binary(1, (n, 1), dtype=torch.bool) for name in ("done", "terminated", "truncated")}
            self.done_spec = Composite(flag, shape=(n,))

        def _reset(self, tensordict: Any = None, **_: Any) -> Any:
            begun = tensordict is None or "_reset" not in tensordict
            seen = portfolios.observe() if begun else portfolios.restart()
            return TensorDict({"observation": seen, **self._flags(torch.zeros(n, dtype=torch.bool))}, [n])

        def _step(self, tensordict: Any) -> Any:
            seen, reward, over = portfolios.step(tensordict["action"])
            return TensorDict({"observation": seen, "reward": reward[:, None], **self._flags(over)}, [n])

        def _flags(self, over: Tensor) -> dict[str, Tensor]:
            over = over[:, None]
            return {"done": over, "truncated": over.clone(), "terminated": torch.zeros_like(over)}

        def _set_seed(self, seed: int | None) -> None: ...

    return Env()


@dataclass(frozen=True)
class Contestant:
    """A trainer and the settings of its run."""

    name: str
    make: Callable[[Setup], Any]
    settings: dict[str, Any]
    package: str | None = None
    """What it imports; None for our own."""
    learns: bool = True
    """Whether it also takes part in the learning, beside the speed."""

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return self.package is None or find_spec(self.package) is not None


_LONE = {"portfolios_per_window": 1, "baseline": "critic"}
"""Peers know no windows: each of their portfolios has days of its own."""

_SHORT = {"timesteps": 500_000, "actor_lr": 2.4e-3, "critic_lr": 7.2e-3}
"""A short run with twice the default rates: annealing and sharpening end with it."""
_MEMORY = {"network": "market_memory"}
_MANY = {**_MEMORY, "portfolios_per_window": 128, "n_envs": 2048, "batch_size": 32_768}

CONTESTANTS = (
    Contestant("specified network", Ours, {}),
    Contestant("specified network, short run", Ours, _SHORT),
    Contestant("market memory, short run", Ours, {**_MEMORY, **_SHORT}),
    Contestant("market memory, 32 per window", Ours, {**_MEMORY, "portfolios_per_window": 32}, learns=False),
    Contestant("market memory, 128 per window", Ours, _MANY, learns=False),
    Contestant("sb3-contrib RecurrentPPO", StableBaselines, _LONE, "sb3_contrib"),
    Contestant("skrl PPO_RNN", Skrl, _LONE, "skrl"),
    Contestant("TorchRL ClipPPO", TorchRl, _LONE, "torchrl"),
)


def entrants(contestants: Sequence[Contestant] = CONTESTANTS) -> list[Contestant]:
    """The contestants that are installed. Each of the others is named on the screen."""
    for contestant in contestants:
        if not contestant.installed:
            print(f"{contestant.package} is not installed: left out", flush=True)
    return [contestant for contestant in contestants if contestant.installed]


def timed(runner: Any) -> tuple[int, float]:
    """Steps of one iteration, and its seconds on the CPU, which a busy neighbour does not lengthen as it does the clock's."""
    begun = time.process_time()
    return runner.train(), time.process_time() - begun
