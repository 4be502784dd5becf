"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from tactician.errors import UserError


def save_tensors(content: Mapping[str, Any], path: Path) -> None:
    """``torch.save`` a mapping of tensors and plain values atomically.

    Raises:
        UserError: see `write_atomically`.
    """
    write_atomically(path, lambda file: torch.save(dict(content), file))


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
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
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
            Path(temporary).unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
