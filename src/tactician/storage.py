"""Files that appear whole or not at all."""

import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from tactician.errors import UserError

_SEAL = "content_sha256"


def save_tensors(content: Mapping[str, Any], path: Path) -> None:
    """``torch.save`` a mapping of tensors and plain values atomically, with a checksum of what it holds.

    Raises:
        UserError: see `write_atomically`.
    """
    sealed = {**content, _SEAL: checksum(content)}
    write_atomically(path, lambda file: torch.save(sealed, file))


def load_tensors(path: Path) -> dict[str, Any]:
    """Read such a mapping on the CPU. No code in the file is run, and a flipped bit is found.

    A mapping of another program has no checksum and is returned as it is. Our own files have a ``format`` and a checksum,
    so damage to the name of the checksum is found too.

    Raises:
        Exception: of many kinds (torch's choice), if the file is damaged; ValueError if the content does not match its
            checksum or is no mapping.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError("not a mapping")
    seal = content.pop(_SEAL, None)
    if seal is None and "format" in content:
        raise ValueError("the checksum is missing")
    if seal is not None and seal != checksum(content):
        raise ValueError("the content does not match its checksum")
    return content


def checksum(content: Any) -> str:
    """sha256 of nested mappings, sequences, tensors and plain values: names, types, shapes and every byte."""
    digest = hashlib.sha256()
    _feed(digest, content)
    return digest.hexdigest()


def _feed(digest: Any, x: Any) -> None:
    if isinstance(x, Tensor):
        digest.update(f"tensor {x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(x, Mapping):
        digest.update(f"mapping {len(x)}".encode())
        for key, value in x.items():
            digest.update(repr(key).encode())
            _feed(digest, value)
    elif isinstance(x, list | tuple):
        digest.update(f"sequence {len(x)}".encode())
        for value in x:
            _feed(digest, value)
    else:
        digest.update(f"{type(x).__name__} {x!r}".encode())


def plain(x: Any) -> Any:
    """The same nested values with None for numbers that are not finite: JSON has none, and null is "not available"."""
    if isinstance(x, Mapping):
        return {name: plain(value) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [plain(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def json_text(content: Any, **options: Any) -> str:
    """Strict JSON, which every reader takes; ``options`` are those of ``json.dumps``."""
    return json.dumps(plain(content), allow_nan=False, **options)


def save_text(text: str, path: Path) -> None:
    """Write a text file atomically.

    Raises:
        UserError: see `write_atomically`.
    """
    write_atomically(path, lambda file: file.write(text.encode()))


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write to a temporary file beside ``path``, flush it to disk, rename it into place.

    A reader sees the old file or the new one, never a half, also after a power cut: the folder is flushed too.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full; the old file, if any, is untouched.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by tempfile, whose files nobody else may read: a result is as readable as the user's umask makes it.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch wraps a failing write in RuntimeError
        reason = getattr(error, "strerror", None) or "the disk may be full"
        raise UserError(f"Cannot write {path}: {reason}; choose another folder or free some space.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folders, and writes renames by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
