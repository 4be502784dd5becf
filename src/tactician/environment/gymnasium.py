"""The environment for other trainers: Gymnasium's `Env` and `VectorEnv`, and the `VecEnv` of stable-baselines3.

All are the same simulated portfolios as in training: same market, ledger, costs, observation, reward and random numbers. An
episode's end is a truncation, never a termination, so a trainer should bootstrap from the final observation.

Gymnasium and stable-baselines3 are optional: ``pip install 'tactician[gym]'`` brings the first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from tactician.environment.environment import Environment, EnvState, Outcome, first_state, restart_finished, step
from tactician.environment.observation import OBS_DIM, observe

Floats = NDArray[np.float32]


def spaces(env: Environment) -> tuple[Any, Any]:
    """Observations, 64 numbers of about unit size, and actions, the regimes of the table."""
    box = gymnasium.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32)
    return box, gymnasium.spaces.Discrete(env.market.regimes.n_actions)


class Portfolios:
    """Simulated portfolios with NumPy arrays in and out, which the classes below dress up.

    Args:
        env: market, costs and rows.
        n_envs: portfolios; a multiple of the environment's portfolios per window.

    Raises:
        ValueError: ``n_envs`` is no such multiple.
    """

    def __init__(self, env: Environment, n_envs: int) -> None:
        if n_envs < 1 or n_envs % env.portfolios_per_window:
            raise ValueError(f"n_envs is {n_envs}: it must be a multiple of {env.portfolios_per_window}")
        self.env, self.n_envs = env, n_envs
        self.state: EnvState | None = None

    def begin(self, seed: int | None = None) -> Floats:
        """Begin an episode in every window: the first of a seed, or the next one. Returns the observations."""
        if seed is not None:
            self.env = replace(self.env, seed=seed)
        if self.state is None or seed is not None:
            windows = torch.arange(self.n_envs // self.env.portfolios_per_window, device=self.env.market.device)
            self.state = first_state(self.env, windows)
        else:
            over = torch.full_like(self.state.age, self.env.episode_length)
            self.state, _ = restart_finished(self.env, replace(self.state, age=over))
        return self.observe()

    def observe(self) -> Floats:
        """What the portfolios see now."""
        return _numpy(observe(self.env, self._begun()))

    def step(self, actions: Any) -> tuple[Floats, NDArray[np.bool_], dict[str, NDArray[Any]]]:
        """One session. Returns rewards, whether episodes are over, and figures by name; nothing is reset."""
        state = self._begun()
        chosen = torch.as_tensor(np.asarray(actions, dtype=np.int64), device=state.day.device).reshape(self.n_envs)
        if bool(((chosen < 0) | (chosen >= self.env.market.regimes.n_actions)).any()):
            raise ValueError(f"actions are 0 to {self.env.market.regimes.n_actions - 1}")
        self.state, outcome = step(self.env, state, chosen)
        over = (self.state.age >= self.env.episode_length).repeat_interleave(self.env.portfolios_per_window)
        return _numpy(outcome.reward), _numpy(over), self._figures(outcome, state)

    def restart(self) -> Floats:
        """Begin a new episode wherever one is over. Returns the observations of all."""
        self.state, _ = restart_finished(self.env, self._begun())
        return self.observe()

    def _begun(self) -> EnvState:
        if self.state is None:
            raise gymnasium.error.ResetNeeded("call reset() before the first step")
        return self.state

    def _figures(self, outcome: Outcome, before: EnvState) -> dict[str, NDArray[Any]]:
        row = before.day.repeat_interleave(self.env.portfolios_per_window)
        cost = outcome.costs.sum(-1)
        assert self.state is not None
        figures = {"row": row, "cost": cost, "turnover": outcome.turnover, "regime": self.state.regime}
        return {name: _numpy(x) for name, x in figures.items()}


def _numpy(x: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = x.cpu().numpy()
    return array


class PortfolioEnv(gymnasium.Env[Floats, np.int64]):
    """One portfolio. The reward of a step is 100 · log growth, net of cost.

    ``info`` tells the market's row, cost and turnover as fractions of the portfolio's value, and the regime held.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, env: Environment) -> None:
        self.portfolios = Portfolios(replace(env, portfolios_per_window=1), 1)
        self.observation_space, self.action_space = spaces(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Begin the first episode of a seed, or the next episode."""
        super().reset(seed=seed)
        return self.portfolios.begin(seed)[0], {}

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Trade at the close of the day, and earn the returns of the next session."""
        reward, over, figures = self.portfolios.step([action])
        info = {name: x[0].item() for name, x in figures.items()}
        return self.portfolios.observe()[0], float(reward[0]), False, bool(over[0]), info


class PortfolioVectorEnv(gymnasium.vector.VectorEnv[Floats, NDArray[np.int64], NDArray[Any]]):
    """Many portfolios in one call. Those whose episode is over begin a new one in the same step (``final_obs`` in info)."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(self, env: Environment, n_envs: int) -> None:
        self.portfolios = Portfolios(env, n_envs)
        self.num_envs = n_envs
        self.single_observation_space, self.single_action_space = spaces(env)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, n_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, n_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin the first episodes of a seed, or the next ones. Of a list of seeds the first counts."""
        first = seed[0] if isinstance(seed, list) else seed
        super().reset(seed=first)
        return self.portfolios.begin(first), {}

    def step(self, actions: Any) -> tuple[Floats, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One session of every portfolio."""
        reward, over, figures = self.portfolios.step(actions)
        info: dict[str, Any] = dict(figures)
        final = self.portfolios.observe()
        seen = final
        if over.any():
            info |= {"final_obs": final, "_final_obs": over}
            seen = self.portfolios.restart()
        return seen, reward.astype(np.float64), np.zeros_like(over), over, info


def stable_baselines(env: Environment, n_envs: int) -> Any:
    """The portfolios as a `VecEnv` of stable-baselines3, for its own trainers and those of sb3-contrib.

    Raises:
        ModuleNotFoundError: stable-baselines3 is not installed.
    """
    from stable_baselines3.common.vec_env import VecEnv

    class Portfolio(VecEnv):
        """A seed that was given with `seed` takes effect at the next reset, as in their own."""

        def __init__(self) -> None:
            self.portfolios, self.render_mode = Portfolios(env, n_envs), None
            super().__init__(n_envs, *spaces(env))

        def reset(self) -> Floats:
            given, self._seeds = self._seeds[0], [None] * n_envs
            self.reset_infos = [{} for _ in range(n_envs)]
            return self.portfolios.begin(given)

        def step_async(self, actions: NDArray[Any]) -> None:
            self._actions = actions

        def step_wait(self) -> tuple[Floats, Floats, NDArray[np.bool_], list[dict[str, Any]]]:
            reward, over, figures = self.portfolios.step(self._actions)
            infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
            if not over.any():
                return self.portfolios.observe(), reward, over, infos
            final = self.portfolios.observe()
            for k in np.flatnonzero(over):
                infos[k] = {"terminal_observation": final[k], "TimeLimit.truncated": True}
                infos[k] |= {name: x[k].item() for name, x in figures.items()}
            return self.portfolios.restart(), reward, over, infos

        def close(self) -> None: ...

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [getattr(self, attr_name)] * len(_listed(indices, n_envs))

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            setattr(self, attr_name, value)

        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            return [getattr(self, method_name)(*args, **kwargs)] * len(_listed(indices, n_envs))

        def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
            return [False] * len(_listed(indices, n_envs))

    return Portfolio()


def _listed(indices: int | Iterable[int] | None, n_envs: int) -> Sequence[int]:
    if indices is None:
        return range(n_envs)
    return [indices] if isinstance(indices, int) else list(indices)
