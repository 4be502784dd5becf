"""The study's trainings, side by side. One file keeps them, so an interrupted study can continue."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tactician.errors import UserError
from tactician.storage import json_text, save_text
from tactician.studies.engine import Engine
from tactician.studies.learnability import (
    Yardstick,
    beyond_equal_weight,
    deterministic,
    measure,
    problem_setup,
    train_ensemble_on,
    train_on,
)
from tactician.studies.learnability_plan import Job, make_problem
from tactician.studies.learnability_table import summarise_runs
from tactician.synthetic import Problem
from tactician.training.checkpoint import versions
from tactician.training.deployed import deployed_gap


def run_job(job: Job, _: None = None) -> dict[str, Any]:
    """Do one training, or that of an ensemble. The jobs share nothing.

    Returns:
        Plain values, as the file keeps them.
    """
    problem = make_problem(job.market, job.seed)
    yardstick = measure(problem)
    outcome = (
        train_ensemble_on(problem, job.config, yardstick) if job.members > 1 else _train_alone(job, problem, yardstick)
    )
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
        **outcome,
    }


def _train_alone(job: Job, problem: Problem, yardstick: Yardstick) -> dict[str, Any]:
    setup = problem_setup(problem, job.config)
    points, policy = train_on(problem, setup, yardstick, judge_every=max(1, setup.iterations // 20))
    return {
        "gap": deployed_gap(setup.environment, policy, job.seed).gap,
        "training": beyond_equal_weight(problem, deterministic(setup.environment, policy), setup.environment),
        "points": [asdict(p) for p in points],
    }


def run_study(jobs: Sequence[Job], path: Path, engine: Engine) -> Generator[tuple[dict[str, Any], int], None, None]:
    """Do the trainings that the file does not have yet. The file is rewritten after each.

    Yields:
        Every finished training, and how many are still to do. Those found in the file come first.

    Raises:
        UserError: the file cannot be written, or is not of this kind; or see `Engine.run`.
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
    with closing(engine.run(run_job, todo, None)) as results:
        for k, (_, result) in enumerate(results, 1):
            done.append(result)
            _write(path, others + done)
            yield result, len(todo) - k


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
    # One line per training, so that a diff shows what changed.
    lines = ",\n".join(json_text(run, separators=(",", ":")) for run in runs)
    head = json_text({"versions": versions(), "table": [asdict(r) for r in summarise_runs(runs)]}, indent=1)
    save_text(f'{head[:-2]},\n "runs": [\n{lines}\n]}}\n', path)
