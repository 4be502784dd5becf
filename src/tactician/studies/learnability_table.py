"""The whole study: markets × variants × seeds, side by side, kept in one file that an interrupted study goes on from."""

import hashlib
import json
import math
import multiprocessing
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tactician.config import Config
from tactician.errors import UserError
from tactician.storage import json_text, save_text
from tactician.studies.learnability import measure, problem_setup, train_on
from tactician.synthetic import PROBLEMS, Problem, observable_regime
from tactician.training.checkpoint import versions
from tactician.training.lineage import HARMLESS
from tactician.training.resume import OF_DATA

SMALL: dict[str, Any] = {
    "hidden_dim": 64,
    "n_gru_layers": 1,
    "dropout": 0.0,
    "n_envs": 128,
    "n_steps": 64,
    "episode_length": 256,
    "batch_size": 2048,
    "portfolios_per_window": 8,
    "baseline": "window",
}
"""The small network, and sizes that suit two CPU cores."""

VARIANTS: dict[str, dict[str, Any]] = {
    "window": {},
    "critic": {"portfolios_per_window": 1, "baseline": "critic"},
    "no memory": {"n_gru_layers": 0},
    "no critic epochs": {"critic_epochs": 0},
    "one learning rate": {"critic_lr": "=actor_lr"},
    "lambda 0": {"gae_lambda": 0.0},
    "lambda 1": {"gae_lambda": 1.0},
    "no cost warm-up": {"cost_warmup": 0},
}
"""What each changes of the first: the specification's arrangement, and ablations; '=' takes another key's value."""

_LAWS = 1
"""Raised when a market's law changes: trainings on the former one do not count any more."""

_DEFAULTS = {name: field.default for name, field in Config.model_fields.items()}
_ELSEWHERE = HARMLESS | OF_DATA
"""Keys that no training of the study depends on: its markets are made, not read."""

MARKETS: dict[str, dict[str, Any]] = {
    "oracle": {"timesteps": 400_000},
    "observable": {"timesteps": 200_000},
    "hidden": {"timesteps": 400_000},
    "regimes": {
        "n_envs": 256,
        "batch_size": 4096,
        "timesteps": 1_500_000,
        "anneal_steps": 1_500_000,
        "hold_prior": 0.8,
        "cost_warmup": 300_000,
        "entropy_coef": 0.02,
        "actor_lr": 1.5e-3,
        "critic_lr": 3e-3,
    },
    "null": {"timesteps": 200_000},
    "predictable": {
        "n_envs": 512,
        "batch_size": 8192,
        "timesteps": 4_000_000,
        "anneal_steps": 4_000_000,
        "entropy_coef": 0.15,
        "gamma": 0.9,
        "actor_lr": 2e-3,
        "critic_lr": 3e-3,
    },
}
"""The settings of each market's trainings, beside `SMALL`."""

COST_SHARES = (0.5, 0.75, 0.9, 1.1, 1.5)
"""One-way costs of the sweep, as shares of the cost at which trading must stop."""

_SWEEP: dict[str, Any] = {"timesteps": 400_000, "hold_prior": 0.8, "cost_warmup": 150_000}
"""Settings of the sweep: a policy that begins at random stops trading before it has found out what trading earns."""

_SWEPT = "observable@"
_LEVELS = (0.90, 0.95)


@dataclass(frozen=True)
class Job:
    """One training of the study."""

    market: str
    """A market's name, or 'observable@0.75' for one of the cost sweep."""
    variant: str
    seed: int
    settings: tuple[tuple[str, Any], ...]
    """Changes of the market's settings."""

    @property
    def config(self) -> dict[str, Any]:
        """The training's configuration keys."""
        name, _, swept = self.market.partition("@")
        own = {**SMALL, **MARKETS[name], **(_SWEEP if swept else {}), **dict(self.settings)}
        return {**own, **_changes(self.variant, own), "seed": self.seed}

    @property
    def key(self) -> str:
        """Tells the training from every other one: by the market's law and every setting that it depends on."""
        every = {**_DEFAULTS, **self.config}
        kept = {name: value for name, value in every.items() if name not in _ELSEWHERE or name in self.config}
        whole = json.dumps([_LAWS, self.market, kept], sort_keys=True, default=str)
        return f"{self.market} {self.seed} {hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def plan_study(
    markets: Sequence[str], variants: Sequence[str], seeds: int, sweep: bool, settings: Mapping[str, Any]
) -> list[Job]:
    """The trainings of a study, those that matter most first.

    Raises:
        UserError: there is no such market or variant.
    """
    for kind, names, known in (("market", markets, MARKETS), ("variant", variants, VARIANTS)):
        for name in names:
            if name not in known:
                raise UserError(f"There is no {kind} '{name}'; choose among: {', '.join(known)}.")
    changed, markets = tuple(sorted(settings.items())), tuple(dict.fromkeys(markets))
    jobs = [
        Job(m, v, seed, changed)
        for v in dict.fromkeys(variants)
        for seed in range(seeds)
        for m in markets
        if _changes_something(m, v)
    ]
    if sweep:
        jobs += [Job(f"{_SWEPT}{share}", "window", seed, changed) for share in COST_SHARES for seed in range(seeds)]
    if not jobs:
        raise UserError(
            f"{', '.join(variants)} changes nothing on {', '.join(markets)}; name other markets or variants."
        )
    return jobs


def _changes(variant: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    known = {**_DEFAULTS, **settings}
    changes = VARIANTS[variant].items()
    return {key: known[x[1:]] if isinstance(x, str) and x.startswith("=") else x for key, x in changes}


def _changes_something(market: str, variant: str) -> bool:
    """Whether a variant differs from the first on a market: most markets have no cost warm-up to leave out."""
    own = {**_DEFAULTS, **SMALL, **MARKETS[market]}
    return variant == next(iter(VARIANTS)) or any(own[key] != value for key, value in _changes(variant, own).items())


def make_problem(market: str, seed: int) -> Problem:
    """A market by its name in a study."""
    name, _, share = market.partition("@")
    return observable_regime(seed, float(share)) if share else PROBLEMS[name](seed)


def run_job(job: Job) -> dict[str, Any]:
    """One training, as plain values; in a process of its own, on one thread."""
    torch.set_num_threads(1)
    problem = make_problem(job.market, job.seed)
    yardstick = measure(problem)
    setup = problem_setup(problem, job.config)
    points = train_on(problem, setup, yardstick, judge_every=max(1, setup.iterations // 20))
    return {
        "key": job.key,
        "market": job.market,
        "variant": job.variant,
        "seed": job.seed,
        "settings": job.config,
        "optimum": asdict(yardstick.optimum),
        "naive": {"regime": yardstick.naive_regime, **asdict(yardstick.naive)},
        "solver_growth": problem.growth,
        "never_trades": problem.never_trades,
        "points": [asdict(p) for p in points],
    }


def run_study(jobs: Sequence[Job], path: Path, n_processes: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Do the trainings that the file does not have yet; it is written anew after each.

    Yields:
        Every finished training and how many are still to do, those found in the file first.

    Raises:
        UserError: the file cannot be written, or is not of this kind.
    """
    found = _read(path)
    done = [found[job.key] for job in jobs if job.key in found]
    todo = [job for job in jobs if job.key not in found]
    for run in done:
        yield run, len(todo)
    if not todo:
        return
    others = [run for key, run in found.items() if key not in {job.key for job in jobs}]
    _write(path, others + done)  # before hours of training, not after
    pool = ProcessPoolExecutor(n_processes, multiprocessing.get_context("spawn"))
    try:
        for k, future in enumerate(as_completed([pool.submit(run_job, job) for job in todo]), 1):
            done.append(future.result())
            _write(path, others + done)
            yield done[-1], len(todo) - k
    except BrokenProcessPool as error:
        raise UserError(
            "A training's process was killed, perhaps for lack of memory. What is finished is kept: run the same command "
            "again, with fewer --processes."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def default_processes() -> int:
    """One per core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Row:
    """A market and a variant over its seeds: medians, and the range of the share."""

    market: str
    variant: str
    seeds: int
    share: float
    share_low: float
    share_high: float
    turnover: float
    turnover_of_optimum: float
    steps_to: dict[str, float | None]
    """Environment steps from which on the share was kept, in the median seed; None if it was not."""
    seconds_to: dict[str, float | None]
    seconds: float
    never_trades: bool
    settings: dict[str, Any]
    """Of its trainings, but for the seed."""


def summarise_runs(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row per market, variant and settings; the first variant's markets first."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        settings = json.dumps({k: v for k, v in run["settings"].items() if k != "seed"}, sort_keys=True)
        groups.setdefault((run["market"], run["variant"], settings), []).append(run)
    variants, markets = list(VARIANTS), list(MARKETS)

    def place(key: tuple[str, str, str]) -> tuple[Any, ...]:
        market, variant, settings = key
        first = market.split("@")[0]
        return (
            variants.index(variant) if variant in variants else len(variants),
            markets.index(first) if first in markets else len(markets),
            market,
            settings,
        )

    return [_row(*key[:2], groups[key]) for key in sorted(groups, key=place)]


def _row(market: str, variant: str, runs: Sequence[Mapping[str, Any]]) -> Row:
    last = [run["points"][-1] for run in runs]
    shares = [p["share"] for p in last if p["share"] is not None and not math.isnan(p["share"])]
    if runs[0]["never_trades"] or not shares:  # the gap to the best constant regime is luck
        shares = [math.nan]
    reached = {f"{level:.2f}": [_kept(run["points"], level) for run in runs] for level in _LEVELS}
    return Row(
        market=market,
        variant=variant,
        seeds=len(runs),
        share=statistics.median(shares),
        share_low=min(shares),
        share_high=max(shares),
        turnover=statistics.median(p["turnover"] for p in last),
        turnover_of_optimum=statistics.median(run["optimum"]["turnover"] for run in runs),
        steps_to={level: _median(points, "timesteps") for level, points in reached.items()},
        seconds_to={level: _median(points, "seconds") for level, points in reached.items()},
        seconds=statistics.median(p["seconds"] for p in last),
        never_trades=runs[0]["never_trades"],
        settings={k: v for k, v in runs[0]["settings"].items() if k != "seed"},
    )


def _kept(points: Sequence[Mapping[str, Any]], level: float) -> Mapping[str, Any] | None:
    """The first point from which on the share is never lower again."""
    found = None
    for point in reversed(points):
        if point["share"] is None or not point["share"] >= level:
            break
        found = point
    return found


def _median(points: Sequence[Mapping[str, Any] | None], name: str) -> float | None:
    middle = statistics.median(math.inf if p is None else p[name] for p in points)
    return None if math.isinf(middle) else middle


def plot_turnover(rows: Sequence[Row], path: Path) -> bool:
    """Draw the learned turnover beside the optimum's against the cost of trading; False if there was no sweep."""
    swept = sorted((float(r.market.removeprefix(_SWEPT)), r) for r in rows if r.market.startswith(_SWEPT))
    if not swept:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    costs = [share for share, _ in swept]
    axes.axvline(1, color="0.6", linestyle="--", linewidth=1)
    axes.annotate(
        "trading must stop",
        (1, 0.97),
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="right",
        va="top",
        color="0.4",
    )
    axes.plot(costs, [100 * r.turnover_of_optimum for _, r in swept], "o-", color="0.5", label="optimum")
    axes.plot(costs, [100 * r.turnover for _, r in swept], "s--", color="C0", label="learned (median of seeds)")
    axes.set(
        xlabel="cost of a trade, as a share of the cost at which following the signal earns nothing",
        ylabel="turnover, % of the portfolio a session",
        title="Observable regime: how much is traded at which cost",
        ylim=(-0.5, None),
    )
    axes.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if path.suffix != ".json":
        raise UserError(f"--out {path} does not end in .json; the picture goes beside it under the same name.")
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not {"versions", "table"} <= content.keys():
            raise KeyError("table")
        summarise_runs(content["runs"])  # a run that lacks something would be found out after hours
        return {run["key"]: run for run in content["runs"]}
    except (ValueError, KeyError, TypeError, AttributeError, LookupError, OSError) as error:
        raise UserError(f"{path} is no file of this study; name another with --out.") from error


def _write(path: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    # A training is a line, so that a diff shows what changed.
    lines = ",\n".join(json_text(run, separators=(",", ":")) for run in runs)
    head = json_text({"versions": versions(), "table": [asdict(r) for r in summarise_runs(runs)]}, indent=1)
    save_text(f'{head[:-2]},\n "runs": [\n{lines}\n]}}\n', path)
