"""One run per folder: a lock that the system releases when its holder ends, however it ends."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from tactician.errors import UserError

_LOCK, _HOLDER = ".lock", ".lock.holder"
_PATIENCE = 3.0
"""Seconds to wait: a run that was just told to stop may still be closing its files."""


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold a run's folder while inside. A folder that was made for it and is still empty at the end is removed again.

    Where the file system knows no locks, nothing is held.

    Raises:
        UserError: another run holds it (told with its process, machine and time), or the folder cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise UserError(
            f"{folder} is in use by another run{_holder(folder)}; wait for its end, or choose another folder with "
            "--checkpoint-dir."
        ) from None
    except NotImplementedError:  # filelock's word for a file system without locks
        yield
        return
    except OSError as error:
        raise UserError(
            f"Cannot write to {folder}: {error.strerror}; choose another folder with --checkpoint-dir."
        ) from error
    try:
        _tell_holder(folder)
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()
        if made and all(path.name == _LOCK for path in folder.iterdir()):
            (folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # somebody has put something there
                for path in made:
                    path.rmdir()


def _tell_holder(folder: Path) -> None:
    """Beside the lock, because a lock that is tried is emptied."""
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    with suppress(OSError):
        (folder / _HOLDER).write_text(json.dumps({**holder, "command": sys.argv[1:]}), encoding="utf-8")


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
