"""Checkpoints: a TrainState with what it takes to understand it, written atomically, loaded without running code."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import tactician
from tactician.environment import OBSERVATION_NAMES
from tactician.errors import UserError
from tactician.policy import ActorCritic
from tactician.storage import save_tensors
from tactician.training.setup import Setup
from tactician.training.state import TrainState

_FORMAT = "tactician checkpoint"
_VERSION = 1


def save_checkpoint(setup: Setup, state: TrainState, path: Path) -> None:
    """Write the whole state.

    Raises:
        UserError: the folder cannot be written or the disk is full; an older file of that name is untouched.
    """
    mean, std = setup.normaliser
    save_tensors(
        {
            "format": _FORMAT,
            "version": _VERSION,
            "architecture": state.learner.policy.architecture,
            "value_scale": setup.value_scale,
            "normaliser": {"mean": mean, "std": std},
            "observation_names": list(OBSERVATION_NAMES),
            "regime_names": list(setup.environment.market.regimes.names),
            "config": setup.config.model_dump(mode="json"),
            "data_fingerprint": setup.environment.market.fingerprint,
            "versions": versions(),
            **state.state_dict(),
        },
        path,
    )


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy as it was saved, with what it needs to act."""

    policy: ActorCritic
    content: dict[str, Any]
    """The whole checkpoint."""


def load_policy(path: Path, device: torch.device | str = "cpu") -> LoadedPolicy:
    """Read the policy of a checkpoint, for evaluation.

    Raises:
        UserError: the file is missing, damaged or no checkpoint.
    """
    content = read_checkpoint(path)
    policy = ActorCritic(**content["architecture"], value_scale=content["value_scale"])
    policy.load_state_dict(content["model_state_dict"])
    return LoadedPolicy(policy.to(device), content)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's content on the CPU; no code in the file is run.

    Raises:
        UserError: the file is missing, damaged or no checkpoint.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}; train a model first, or name another file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != _FORMAT or content["version"] != _VERSION:
            raise ValueError("not this format")
    except Exception as error:  # torch raises many kinds for a damaged or foreign file; all mean the same to a user
        raise UserError(f"{path} is damaged or no checkpoint of this version; name another file.") from error
    return dict(content)


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {"tactician": tactician.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
