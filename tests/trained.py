"""A tiny trained model with a market cache, and so a trial ledger, of its own."""

import shutil
from pathlib import Path

import yaml

from tactician.cli import main
from tactician.environment import HOLD
from tactician.storage import save_tensors
from tactician.training.checkpoint import read_checkpoint


def configuration(tiny: Path, folder: Path, **changes) -> Path:
    """The tiny configuration with a copy of its cache in a folder: other tests' trials are not in its ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(tiny.parent / "cache.pt", folder / "cache.pt")
    settings = yaml.safe_load(tiny.read_text()) | {"cache_path": str(folder / "cache.pt"), "report": True, **changes}
    path = folder / "my.yaml"
    path.write_text(yaml.safe_dump({**settings, "checkpoint_dir": str(folder / "run")}))
    return path


def train(config: Path, *words: str) -> int:
    return main(["train", "--config", str(config), "-q", "--iterations", "2", *words])


def trained(tiny: Path, folder: Path) -> Path:
    """The best model of a finished run."""
    assert train(configuration(tiny, folder)) == 0
    return folder / "run" / "model_best.pt"


def restless(model: Path) -> Path:
    """The same model, made never to hold: it trades every day."""
    content = read_checkpoint(model)
    weights = content["model_state_dict"]
    last = max(name for name in weights if name.startswith("policy_head") and name.endswith("bias"))
    weights[last][HOLD] -= 10
    path = model.with_name("model_restless.pt")
    save_tensors(content, path)
    return path


def ensemble_of(model: Path, low: float, high: float, *others: Path) -> Path:
    """An ensemble of a single agent and others, whose held-out days gave an interval of growth beyond equal weight."""
    each = [read_checkpoint(path) for path in (model, *others)]
    weights = {f"members.{k}.{name}": x for k, one in enumerate(each) for name, x in one["model_state_dict"].items()}
    piece = {"first": "2011-01-03", "last": "2012-12-28", "beyond_equal_weight": (low + high) / 2, "turnover": 4.0}
    content = {
        **each[0],
        "architecture": {**each[0]["architecture"], "members": len(each)},
        "model_state_dict": {**weights, "value_scale": each[0]["model_state_dict"]["value_scale"]},
        "found": {"pieces": [piece], "difference": [(low + high) / 2, low, high]},
    }
    for key in ("actor_optimizer_state_dict", "critic_optimizer_state_dict", "env_state", "hidden", "precision"):
        del content[key]
    path = model.with_name(f"ensemble_{low}_{high}.pt")
    save_tensors(content, path)
    return path
