"""Walk-forwards of many universes, pooled: does what is learnt hold for other names, and what do all of them say together?

    python benchmarks/walk_forward/universes.py CONFIG CONFIG ... --output FOLDER
    python benchmarks/walk_forward/universes.py BROAD --draws 20 --sizes 12 20 --draw-seed 0 --output FOLDER

With `--draws` the universes are random sub-universes of one broad configuration's names, each with a market cache of its own.
Everything is registered first, under one hash. Each universe is a walk-forward in a folder of its own: trainings are kept, and
the same command goes on where it was stopped. The folder gets ``universes.json``, and the tables are printed in markdown.

The transfer matrix judges the last fold's ensemble of each universe on the last test piece of each other one: with the other
market and its costs, on the same days, with its own normaliser. It was trained before that piece began, so nothing of it is
known. `--transfer 0` leaves it out; it takes N² judgements.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import yaml
from command_line import run
from pooled import PLACES, summary, tables
from rich.console import Console

from tactician.commands.build_cache import build_cache
from tactician.commands.hints import rebuild_command
from tactician.config import Config, load_config, make_config, sections
from tactician.environment import MarketTensors, draw_sub_universes, load_cached_market, same_days
from tactician.errors import UserError
from tactician.evaluation import AGENT, EQUAL_WEIGHT, NotFinite, evaluate
from tactician.evaluation import Path as JudgedPath
from tactician.evaluation.inference import growth_difference
from tactician.hardware.device import pick_device
from tactician.monitor.progress import Reporter
from tactician.record.registration import Registration, register
from tactician.storage import json_text, save_text
from tactician.studies import engine as engines
from tactician.studies.fold_agent import FoldAgent, fold_agent
from tactician.studies.folds import make_folds
from tactician.studies.walk_forward import Results, Study, TimeLeft, kept_results, plan_study, run_study
from tactician.studies.walk_forward_judgement import count_trials, judge_study
from tactician.studies.walk_forward_report import tell_training
from tactician.training.deployed import deployed_gap
from tactician.training.held_out import growth_on_held_out_names, on_trained_names
from tactician.training.lock import only_writer
from tactician.training.memorising import mean_gap

METRIC = (
    "annual log growth and Sharpe ratio beyond equal weight, net of costs, with 95 % confidence intervals: per universe, and "
    "of the daily means over all universes on common days"
)
TRANSFER = (
    "last fold's ensemble of each universe on the last test piece of each other one, Δgrowth with a 95 % interval"
)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    about = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    about.add_argument("configs", nargs="+", help="files, or names of packaged configurations")
    about.add_argument("--draws", type=int, default=0, help="random sub-universes of one broad configuration")
    about.add_argument(
        "--sizes", type=int, nargs=2, default=(12, 20), help="least and largest number of names of a draw"
    )
    about.add_argument("--draw-seed", type=int, default=0, help="of the draws")
    about.add_argument("--folds", type=int, default=5)
    about.add_argument("--seeds", type=int, default=8, help="members of each fold's ensemble")
    about.add_argument("--window", choices=("expanding", "rolling"), default="expanding")
    about.add_argument("--test-from", type=date.fromisoformat, help="first session that is tested")
    about.add_argument("--purge", type=int, default=252)
    about.add_argument("--processes", type=int, help="trainings side by side; default: one per core")
    about.add_argument("--transfer", type=int, help="universes of the transfer matrix; default: all, 0 for none")
    about.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all configurations")
    about.add_argument("--output", type=Path, required=True, help="folder for all that is kept")
    return about.parse_args(words)


def configurations(asked: argparse.Namespace) -> dict[str, Config]:
    """The universes by name, in order.

    Raises:
        UserError: two files have one name, or draws were asked of several.
    """
    changes = {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in asked.set)}
    named = {Path(name).stem: load_config(name, changes) for name in asked.configs}
    if len(named) < len(asked.configs):
        raise UserError("Two configurations have the same file name, by which universes are told apart; rename one.")
    if not asked.draws:
        return named
    if len(named) > 1:
        raise UserError(f"--draws takes one broad configuration, and {len(named)} were named; leave out all but one.")
    (broad,) = named.values()
    drawing = {
        "sub_universes": asked.draws,
        "sub_universe_size": tuple(asked.sizes),
        "sub_universe_seed": asked.draw_seed,
    }
    drawn = draw_sub_universes(broad.model_copy(update=drawing))
    if len({json.dumps(groups) for groups in drawn}) < len(drawn):
        raise UserError(
            "Two draws have the same names, and one would count twice; give another --draw-seed or other --sizes."
        )
    return {
        f"draw_{number:02d}": broad.model_copy(
            update={
                "universe": groups,
                "expanded": False,
                "cache_path": asked.output / f"draw_{number:02d}" / "market.pt",
                "hindsight": broad.picked_with_hindsight,
            }
        )
        for number, groups in enumerate(drawn, 1)
    }


def market_of(name: str, config: Config, asked: argparse.Namespace, reporter: Reporter) -> MarketTensors:
    """The market cache of a universe; that of a draw is made if need be."""
    if not asked.draws:
        return load_cached_market(config, rebuild_command(asked.configs[list_of(asked).index(name)], config))
    try:
        return load_cached_market(config, "")
    except UserError:
        build_cache(config, Reporter("quiet", console=Console(quiet=True)))
        reporter.say(f"  {name}: {len(config.symbols)} names, market cache made")
        return load_cached_market(config, "")


def list_of(asked: argparse.Namespace) -> list[str]:
    return [Path(name).stem for name in asked.configs]


def plan(name: str, config: Config, asked: argparse.Namespace, reporter: Reporter) -> Study:
    """The universe's walk-forward."""
    market = market_of(name, config, asked, reporter)
    folds = make_folds(
        market,
        asked.folds,
        episode_length=config.episode_length,
        window=asked.window,
        test_from=asked.test_from,
        purge=asked.purge,
    )
    study, notes = plan_study(config, market, folds, asked.seeds, asked.output / name / "walk_forward")
    for note in notes:
        reporter.warn(f"{name}: {note}")
    return study


def registered(studies: Mapping[str, Study], asked: argparse.Namespace) -> tuple[Registration, dict[str, Registration]]:
    """Write down what will be judged: each study's own registration, then one over all of them."""
    each = {name: study.register() for name, study in studies.items()}
    content = {
        "configuration": {name: study.config.model_dump(mode="json") for name, study in studies.items()},
        "folds": {name: study.ranges for name, study in studies.items()},
        "seeds": list(next(iter(studies.values())).seeds),
        "data_fingerprint": {name: study.market.fingerprint for name, study in studies.items()},
        "metric": METRIC,
        "transfer": TRANSFER,
        "registrations": {name: one.sha256 for name, one in each.items()},
    }
    return register(asked.output, content), each


def trained(name: str, study: Study, engine: Any, registration: Registration, reporter: Reporter) -> Results:
    """All trainings of a universe; what is kept is not repeated."""
    results = kept_results(study)
    count_trials(study, registration, reporter.warn)
    n_jobs = len(study.jobs)
    reporter.say(f"  {name}: {len(results)} of {n_jobs} trainings are there already")
    left = TimeLeft(n_jobs - len(results))
    with engines.stopped_by_signals(), closing(run_study(study, engine, results)) as trainings:
        for job, result in trainings:
            results[job.fold.number, job.seed] = result
            tell_training(job, result, n_jobs - len(results), left.finished_one(), reporter)
    return results


def judged(
    study: Study, results: Results, whole: Registration, own: Registration, reporter: Reporter
) -> dict[str, Any]:
    """What a universe's walk-forward found. It is kept, so that going on is no second look."""
    path = study.folder / "pooled.json"
    if path.exists() and (kept := json.loads(path.read_text()))["registration"] == whole.sha256:
        return kept
    with reporter.phase("⚖️  Judging"):
        reported = judge_study(study, results, own, reporter.warn)
        all_the_way = [learnt_all_the_way(study, agent) for agent in reported.agents]
    result = reported.result.path
    found = {
        "registration": whole.sha256,
        "names": list(study.market.symbols),
        "dates": reported.document["dates"],
        "agent": growth_of(result, AGENT),
        "equal_weight": growth_of(result, EQUAL_WEIGHT),
        "cash": result.cash_growth.tolist(),
        "strengths": [agent.strength for agent in reported.agents],
        "memorising": reported.document["memorising"],
        "all_the_way": mean_gap(all_the_way),
        "verdict": reported.document["verdict"],
    }
    save_text(json_text(found) + "\n", path)
    return found


def growth_of(path: JudgedPath, strategy: str) -> list[float]:
    growth: list[float] = path.growth[:, path.column(strategy)].tolist()
    return growth


def learnt_all_the_way(study: Study, agent: FoldAgent) -> dict[str, float | None]:
    """The memorising gap of a fold's ensemble when it is followed all the way: an abstaining one would hide what it learnt."""
    fold = agent.fold
    env = agent.environment(study.config, study.market, fold.train, 1.0)
    seed = study.config.seed
    lived = deployed_gap(on_trained_names(env), agent.together, seed).deployed.beyond_equal_weight
    names = growth_on_held_out_names(env, agent.together, {"validation": fold.validation, "test": fold.test}, seed)
    ranges = [evaluate(env, agent.together, rows).growth_beyond_equal_weight for rows in (fold.validation, fold.test)]
    held_out = None if agent.found is None else agent.found.difference.value
    return {**dict(zip(PLACES, (lived, held_out, *ranges), strict=True)), **names}


def transferred(study: Study, agent: FoldAgent, other: Study) -> dict[str, Any] | None:
    """A universe's last ensemble on another's last test piece, zero-shot; None if it has other regimes or too few sessions."""
    if other.market.regimes.n_actions != study.market.regimes.n_actions:
        return None
    rows = same_days(study.market, other.market, agent.fold.test)
    if len(rows) < 2:
        return None
    costs = other.config.model_dump(include=set(sections()["portfolio"]))
    config = make_config({**study.config.model_dump(), **costs}, "the settings")

    def gap(strength: float) -> list[float]:
        env = agent.environment(config, other.market, range(1, rows.start), strength)
        path = evaluate(env, agent.policy(other.market, strength), rows).path
        mine, theirs = (path.growth[:, path.column(name)].cpu().numpy() for name in (AGENT, EQUAL_WEIGHT))
        found = growth_difference(mine, theirs, path.sessions_per_year)
        return [found.value, found.low, found.high]

    told = {"sessions": len(rows), "strength": agent.strength, "all_the_way": gap(1.0)}
    return {**told, "deployed": told["all_the_way"] if agent.strength == 1 else gap(agent.strength)}


def transfer(
    studies: Mapping[str, Study], results: Mapping[str, Results], whole: Registration, folder: Path, reporter: Reporter
) -> dict[str, Any]:
    """The matrix, by the universe of the training and that of the judgement. Finished rows are kept."""
    path, rows = folder / "transfer.json", {}
    if path.exists() and (kept := json.loads(path.read_text()))["registration"] == whole.sha256:
        rows = kept["rows"]
    for name, study in studies.items():
        if list(rows.get(name, ())) == list(studies):
            continue
        agent = fold_agent(study, study.folds[-1], results[name])
        rows[name] = {other: transferred(study, agent, judged_on) for other, judged_on in studies.items()}
        save_text(json_text({"registration": whole.sha256, "rows": rows}) + "\n", path)
        reporter.say(f"  Transfer from {name}: done")
    return {name: {other: rows[name][other] for other in studies} for name in studies}


def main(words: Sequence[str] | None = None) -> None:
    asked = arguments(words)
    # The tables alone are on the standard output.
    reporter = Reporter(console=Console(highlight=False, stderr=True))
    found = configurations(asked)
    asked.output.mkdir(parents=True, exist_ok=True)
    with only_writer(asked.output / ".universes.lock", asked.output, "--output"):
        studies = {name: plan(name, config, asked, reporter) for name, config in found.items()}
        per_year = {study.market.sessions_per_year for study in studies.values()}
        if len(per_year) > 1:
            raise UserError(
                "The universes have calendars of other lengths, so their days cannot be pooled; leave some out."
            )
        whole, each = registered(studies, asked)
        reporter.say(f"  Registered before a test piece is read: {whole.sha256}")
        gpu = any(pick_device(study.config.device).type == "cuda" for study in studies.values())
        engine = engines.make_engine("local", processes=asked.processes, gpu=gpu)
        results, universes = {}, {}
        try:
            for name, study in studies.items():
                results[name] = trained(name, study, engine, each[name], reporter)
                universes[name] = judged(study, results[name], whole, each[name], reporter)
            whole_summary = summary(universes, per_year.pop())
            some = dict(list(studies.items())[: asked.transfer])
            matrix = transfer(some, results, whole, asked.output, reporter) if some else {}
        except KeyboardInterrupt as stop:
            reporter.say("  Stopped: what is finished is kept; run the same command again to go on.")
            sys.exit(engines.exit_code(stop))
        except NotFinite as error:
            raise UserError(f"The study has no result: {error}. The trainings are kept in {asked.output}.") from error
        told = {"registration": whole.sha256, **whole_summary, "transfer": matrix}
        save_text(json_text(told, indent=1) + "\n", asked.output / "universes.json")
        print(*tables(json.loads(json_text(told))), sep="\n")


if __name__ == "__main__":
    run(main)
