"""One run per folder: a lock that the system releases when its process ends, even if it is killed."""

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
"""Seconds to wait for the lock, because a run that was just stopped may still be closing its files."""


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder while inside. A folder that was made here and is empty at the end is removed.

    On a file system without locks nothing is held.

    Raises:
        UserError: another run holds the lock (the message names its process, machine and time), or the folder cannot be
            written.
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
    except NotImplementedError:  # filelock raises it on a file system without locks
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
            with suppress(OSError):  # another program has put a file there
                for path in made:
                    path.rmdir()


def _tell_holder(folder: Path) -> None:
    """Write the holder into a file beside the lock, because the lock file is emptied when another run tries it."""
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    with suppress(OSError):
        (folder / _HOLDER).write_text(json.dumps({**holder, "command": sys.argv[1:]}), encoding="utf-8")


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
