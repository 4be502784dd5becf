"""Registration: what will be judged, and by which figure, is written down before a test range is read."""

import hashlib
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tactician.errors import UserError
from tactician.storage import save_text

FILE = "registration.json"
NEEDED = ("configuration", "folds", "seeds", "data_fingerprint", "metric")
"""What a registration says. More is allowed."""

_FORMAT = "tactician registration"


@dataclass(frozen=True)
class Registration:
    """A registration on the disk."""

    sha256: str
    """Of the content's canonical form."""
    at: str
    """When it was first written, ISO 8601 in UTC."""
    path: Path


def canonical(content: Any) -> str:
    """Strict JSON without spaces, with sorted keys: equal contents have equal texts.

    Raises:
        ValueError: a number is not finite.
        TypeError: a value is none of JSON's.
    """
    # Read back once, because keys that are numbers sort differently from the text that they become.
    once = json.loads(json.dumps(content, allow_nan=False))
    return json.dumps(once, allow_nan=False, sort_keys=True, separators=(",", ":"))


def fingerprint_of(content: Any) -> str:
    """sha256 of the canonical form, for a configuration or a whole registration.

    Raises:
        ValueError: see `canonical`, also for TypeError.
    """
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def register(folder: Path, content: Mapping[str, Any]) -> Registration:
    """Write ``registration.json`` atomically.

    The same content again keeps the file and its time. Another content keeps the old file as ``registration_1.json``,
    ``registration_2.json`` …, whatever is in it.

    Args:
        folder: of the run or the study; made if need be.
        content: plain values, with the keys `NEEDED`.

    Raises:
        UserError: the folder cannot be written.
        ValueError: a key is missing, or a number is not finite.
    """
    if missing := [key for key in NEEDED if key not in content]:
        raise ValueError(f"a registration needs {missing}")
    path, sha256 = folder / FILE, fingerprint_of(content)
    try:
        before = verify(path)
    except UserError:
        before = None
    if before is not None and before.sha256 == sha256:
        return before
    _keep(path)
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    whole = {"format": _FORMAT, "version": 1, "sha256": sha256, "at": at, "content": json.loads(canonical(content))}
    save_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", path)
    return Registration(sha256, at, path)


def verify(path: Path) -> Registration:
    """Read a registration and compute its sha256 again.

    Raises:
        UserError: the file is missing or is no registration, or its content is not what was registered.
    """
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        if whole["format"] != _FORMAT:
            raise ValueError("of another program")
        told, at, again = str(whole["sha256"]), str(whole["at"]), fingerprint_of(whole["content"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"There is no registration at {path}, or it is damaged; name another file.") from error
    if told != again:
        raise UserError(f"{path} was changed after it was written: its content no longer has the sha256 {told[:12]}….")
    return Registration(told, at, path)


def _keep(path: Path) -> None:
    """Give an earlier registration a number."""
    if not path.exists():
        return
    numbered = (path.with_name(f"registration_{number}.json") for number in itertools.count(1))
    kept = next(other for other in numbered if not other.exists())
    try:
        os.rename(path, kept)
    except OSError as error:
        raise UserError(f"Cannot rename {path}: {error.strerror}; choose another folder.") from error
