"""Where a result comes from: code, libraries, data, settings, registration."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tactician.config import Config
from tactician.environment import MarketTensors
from tactician.record.registration import Registration
from tactician.training.checkpoint import versions
from tactician.training.counting import configuration_hash

_LIBRARIES = ("numpy", "pandas", "skfolio", "arch", "statsmodels", "purgedcv", "plotly")


def provenance(
    config: Config,
    market: MarketTensors,
    *,
    registration: Registration | None,
    looks: int | None,
    trials: int | None,
    hindsight: bool,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Everything that is needed to trace a result and to make it again, as plain values."""
    return {
        "created": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        **versions(),
        "libraries": installed(_LIBRARIES),
        "commit": commit(),
        "source": market.built_from.get("source"),
        "symbols": list(market.symbols),
        "data_fingerprint": market.fingerprint,
        "data_findings": list(market.findings),
        "configuration": config.model_dump(mode="json"),
        "configuration_sha256": configuration_hash(config),
        "registration": registration.sha256 if registration else None,
        "registered_at": registration.at if registration else None,
        "looks": looks,
        "trials": trials,
        "hindsight": hindsight,
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }


def commit() -> str | None:
    """The commit of the code, with '+' if files were changed since; None where the code is in no repository of its own."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        return None
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Versions of the packages that are there."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
