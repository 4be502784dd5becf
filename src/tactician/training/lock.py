"""One writer per place: a lock that the system releases when its holder ends, however it ends."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from tactician.errors import UserError

_LOCK = ".lock"
_PATIENCE = 3.0
"""Seconds to wait for the lock, because a run that was just stopped may still be closing its files."""


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder while inside. A folder that was made here and is empty at the end is removed.

    Raises:
        UserError: see `only_writer`.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with only_writer(folder / _LOCK, folder, "--checkpoint-dir"):
            yield
    finally:
        if made and folder.is_dir() and all(path.name == _LOCK for path in folder.iterdir()):
            (folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # another program has put a file there
                for path in made:
                    path.rmdir()


@contextmanager
def only_writer(lock: Path, what: Path, flag: str) -> Iterator[None]:
    """Hold a lock file while inside. Where the file system knows no locks, nothing is held.

    Args:
        lock: the file; made with its folder, and left there: removing it could let two in.
        what: what it stands for, for the message.
        flag: that names another one.

    Raises:
        UserError: another process holds it (told with its number, machine and time), or the folder cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        held.acquire(timeout=_PATIENCE)
    except Timeout:
        raise UserError(
            f"{what} is in use by another run{_holder(lock)}; wait for its end, or choose another place with {flag}."
        ) from None
    except NotImplementedError:  # filelock's word for a file system without locks
        yield
        return
    except OSError as error:
        raise UserError(
            f"Cannot write to {lock.parent}: {error.strerror}; choose another place with {flag}."
        ) from error
    try:
        _tell_holder(lock)
        yield
    finally:
        _told(lock).unlink(missing_ok=True)
        held.release()


def _told(lock: Path) -> Path:
    """Beside the lock, whose content is the library's own."""
    return lock.with_name(f"{lock.name}.holder")


def _tell_holder(lock: Path) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    with suppress(OSError):
        _told(lock).write_text(json.dumps(holder), encoding="utf-8")


def _holder(lock: Path) -> str:
    try:
        holder = json.loads(_told(lock).read_text(encoding="utf-8"))
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
