"""A tiny market on disk, with a configuration and a cache, made once for all tests that need a whole run."""

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tactician.cli import main
from tests.report.browser import Reader, chromium

if not torch.cuda.is_available():
    # Triton reads it when it is first imported. Kernels then run in its interpreter, on a CPU.
    os.environ.setdefault("TRITON_INTERPRET", "1")

TINY = {
    "universe": {"first": ["AAA", "BBB"], "second": ["CCC"], "third": ["DDD", "CASH"]},
    "train_until": "2012-12-31",
    "validation_until": "2013-03-28",
    "cash_rate": 0.01,
    "hidden_dim": 16,
    "encoder_layers": 2,
    "n_gru_layers": 1,
    "n_envs": 8,
    "portfolios_per_window": 1,
    "baseline": "critic",
    "n_steps": 32,
    "episode_length": 32,
    "batch_size": 64,
    "ppo_epochs": 2,
    "critic_epochs": 1,
    "validate_every": 2,
    "hold_prior": 0.0,  # a policy that trades from the beginning has figures of trades
    "timesteps": 600,
    "anneal_steps": 0,  # most tests prolong runs, and compare them with runs that were as long from the beginning
    "report": False,  # hundreds of tests train a tiny model, and few are about its page
    "device": "cpu",
}


LAST = "2013-06-28"
"""Of the tiny market. Three months validate and three test: each day of them is decided many hundred times in a suite."""

LONG = ("studies", "hardware", "training", "commands")
"""Rooms of which the tests take long. They come first, so that no process waits for another one's last file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        room = item.path.parent.name
        return LONG.index(room) if room in LONG else len(LONG)

    items.sort(key=place)  # stable: the order within a file stays


@functools.cache
def exchange_sessions(calendar: str, first: str, last: str) -> pd.DatetimeIndex:
    """An exchange's sessions; each period is computed once."""
    return exchange_calendars.get_calendar(calendar, start=first, end=last).sessions


def synthetic_bars(symbols=("AAA", "BBB", "CCC", "DDD"), first="2010-01-04", last="2013-12-31", seed=0) -> pd.DataFrame:
    """Random-walk bars on real sessions, tidy long."""
    sessions = exchange_sessions("XNYS", first, last)
    rng = np.random.default_rng(seed)
    frames = []
    for k, symbol in enumerate(symbols):
        close = 50 * np.exp(np.cumsum(rng.normal(3e-4, 0.012, len(sessions))))
        frames.append(
            pd.DataFrame(
                {
                    "date": sessions,
                    "symbol": symbol,
                    "open": close * 0.999,
                    "high": close * 1.01,
                    "low": close * 0.99,
                    "close": close,
                    "adj_close": close,
                    "volume": 1e6 * (k + 1),
                }
            )
        )
    return pd.concat(frames).sort_values(["date", "symbol"], kind="stable").reset_index(drop=True)


@pytest.fixture(scope="module", autouse=True)
def light_judge(request: pytest.FixtureRequest) -> Iterator[None]:
    """Spare a run's end the dear baselines and most resamples, except in files marked ``whole_judge``.

    Hundreds of tests train a tiny model, and most of them are not about how it is judged. It holds for whole files, so that
    what a fixture trains is judged as its tests judge again.
    """
    if request.node.get_closest_marker("whole_judge") is not None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        _spare_the_judge(patch)
        yield


def _spare_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = importlib.import_module("tactician.evaluation.judge")
    baselines = importlib.import_module("tactician.evaluation.baselines")
    monkeypatch.setattr(judge, "baselines_of", lambda market: baselines.always())
    monkeypatch.setattr(judge, "_PERMUTATIONS", 5)
    every_start = judge.all_starts
    monkeypatch.setattr(judge, "all_starts", lambda env: every_start(env)[:2])
    interval, many, resampling = (
        importlib.import_module(f"tactician.evaluation.inference.{name}") for name in ("interval", "many", "resampling")
    )
    monkeypatch.setattr(interval, "counts", lambda n, block: resampling.counts(n, block, 100))
    monkeypatch.setattr(many, "_RESAMPLES", 50)
    monkeypatch.setattr(judge, "MULTIPLIERS", (0.0, 1.0))
    monkeypatch.setattr(judge, "DELAYS", (0, 1))


PROBED: dict[str, Any] = {}
"""What small iterations said, by all that it depends on."""


@pytest.fixture(scope="module", autouse=True)
def light_probe(request: pytest.FixtureRequest) -> Iterator[None]:
    """Try small iterations of each kind once, except in files marked ``whole_probe``: a run begins with four of them."""
    if request.node.get_closest_marker("whole_probe") is not None:
        yield
        return
    setup = importlib.import_module("tactician.training.setup")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("probe_iteration", "measure_pace"):
            patch.setattr(setup, name, _once(name, getattr(setup, name)))
        yield


def _once(name: str, probe: Callable[..., Any]) -> Callable[..., Any]:
    def known(trial: Any, *more: Any) -> Any:
        key = repr((name, _kind(trial), more))
        if key not in PROBED:
            PROBED[key] = probe(trial, *more)
        return PROBED[key]

    return known


def _kind(trial: Any) -> tuple[Any, ...]:
    """All of a trial but its numbers."""
    env, policy = trial.environment, trial.policy
    market = [(k, tuple(x.shape), x.dtype) for k, x in vars(env.market).items() if torch.is_tensor(x)]
    weights = [(k, tuple(x.shape), x.dtype) for k, x in policy.state_dict().items()]
    lives = (
        env.market.device,
        env.rows,
        env.episode_length,
        env.portfolios_per_window,
        env.first_holdings,
        env.random_slippage,
    )
    sizes = (trial.n_steps, trial.sequence_length, trial.precision.dtype, trial.hyper, torch.get_num_threads())
    return str(policy), weights, market, lives, env.frictions, sizes


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a configuration whose bars and market cache exist."""
    folder = tmp_path_factory.mktemp("tiny")
    synthetic_bars(last=LAST).to_parquet(folder / "bars.parquet")
    settings = {
        **TINY,
        "bars": str(folder / "bars.parquet"),
        "cache_path": str(folder / "cache.pt"),
        "checkpoint_dir": str(folder / "run"),
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert main(["build-cache", "--config", str(path)]) == 0
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused; its one sentence."""

    def run(*words: str) -> str:
        assert main(list(words)) == 2
        said = capsys.readouterr().err.strip()
        assert "Traceback" not in said and len(said.splitlines()) == 1, said
        return said

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One for all tests of a process: playwright refuses to start a second time while the first is there."""
    with chromium() as found:
        yield found


@pytest.fixture
def reader(browser: Any) -> Iterator[Reader]:
    """Opens pages. At the end nothing may have been complained of, and no network asked."""
    made = Reader(browser)
    yield made
    for context in browser.contexts:
        context.close()
    assert not made.complaints
    assert all(address.startswith(("file:", "data:", "blob:")) for address in made.asked), made.asked
