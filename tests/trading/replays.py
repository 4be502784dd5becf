"""Replays of the tiny model, in this process and in processes that are killed."""

import os
import random
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import torch

from tactician.environment import load_cached_market
from tactician.trading.advice import Advisor
from tactician.trading.replay import Replayed, replay, unlimited
from tactician.training.in_use import model_in_use

CALENDAR, CASH = "XNYS", 1e6


def advisor_of(model: Path) -> Advisor:
    used = model_in_use(model)
    return used.advisor(load_cached_market(used.config, ""))


def replayed(advisor: Advisor, folder: Path, rows: range, **options) -> Replayed:
    account = options.pop("account", unlimited(Path("model.pt"), CASH))
    return replay(advisor, account, CALENDAR, folder, rows, CASH, **options)


def _child(model: str, folder: str, rows: range) -> None:
    torch.set_num_threads(1)
    replayed(advisor_of(Path(model)), Path(folder), rows)


def killed_replay(model: Path, folder: Path, rows: range, kills: int, seed: int) -> int:
    """Replay in processes that are killed at random instants, then once to the end. Returns the kills."""
    context, rng, done = get_context("forkserver"), random.Random(seed), 0
    context.set_forkserver_preload(["tests.trading.replays"])
    while True:
        process = context.Process(target=_child, args=(str(model), str(folder), rows))
        process.start()
        if done < kills:
            _wait_for_work(folder, process)
            time.sleep(rng.uniform(0.0, 0.12))
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                done += 1
            process.join()
            continue
        process.join()
        assert process.exitcode == 0
        return done


def _wait_for_work(folder: Path, process) -> None:
    """Until the child has its journal open, which is after its model is loaded."""
    wal = folder / "journal.sqlite-wal"
    begun = wal.stat().st_mtime_ns if wal.exists() else 0
    while process.is_alive() and not (wal.exists() and wal.stat().st_mtime_ns != begun):
        time.sleep(0.002)
