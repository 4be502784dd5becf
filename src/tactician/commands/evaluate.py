"""``tactician evaluate``: judge a saved model, and write the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tactician.commands.flags import Json, flags_of
from tactician.config import load_config
from tactician.errors import UserError
from tactician.version import __version__


@dataclass(frozen=True)
class EvaluateArguments:
    """Judge a saved model on a range that it has not seen, and write the report."""

    checkpoint: Path | None = None
    """The model: a file that training wrote."""
    output: Path | None = None
    """Folder for report.html, report.json and returns.csv; default: report_test (or report_validation) beside the model."""
    split: Literal["test", "validation"] = "test"
    """The range. The model was picked on the validation range, so that range flatters it."""
    config_file: Annotated[
        Path | None,
        tyro.conf.arg(
            name="config", help="YAML file with another universe, other dates or costs; default: the model's own."
        ),
    ] = None
    allow_contaminated: bool = False
    """Judge although the model has seen the range; the verdict says so."""
    as_json: Json = False


def run(words: list[str]) -> int:
    """Judge a saved model on a range that it has not seen, and write the report."""
    arguments = flags_of(EvaluateArguments, "evaluate", words)
    if arguments.checkpoint is None:
        raise UserError("--checkpoint is missing; name a model, such as checkpoints/embedded_sp500/model_best.pt.")
    from tactician.monitor.progress import Reporter

    reporter = Reporter(silent=arguments.as_json)
    # A sign of life before torch, which takes seconds to import.
    reporter.say(f"  Tactician {__version__}, {arguments.checkpoint}", whole=[arguments.checkpoint])
    from tactician.commands.hints import command
    from tactician.environment import load_cached_market
    from tactician.evaluation import performance_table
    from tactician.monitor.tables import print_table
    from tactician.report.files import NUMBERS, PAGE, RETURNS
    from tactician.storage import json_text
    from tactician.training.checkpoint import load_policy
    from tactician.training.memorising import sentence
    from tactician.training.reporting import judge_and_report, report_folder
    from tactician.training.saved import candidate, judged_settings

    path = arguments.checkpoint
    loaded = load_policy(path)
    config = judged_settings(loaded.content, path, arguments.config_file and load_config(arguments.config_file))
    remedy = "tactician build-cache with the configuration that the model was trained with"
    if arguments.config_file is not None:
        remedy = command("build-cache", arguments.config_file, config)
    market = load_cached_market(config, remedy, alone=True)
    if config.held_out_names and market.held_out is None:
        raise UserError(f"{config.cache} has other held-out names than the model; make it anew with: {remedy}")
    model = candidate(path, loaded, config, market, allow_contaminated=arguments.allow_contaminated)
    if model.names.is_other:
        reporter.warn(model.names.sentence)
    folder = arguments.output or report_folder(path, arguments.split)
    with reporter.phase(f"⚖️  Judging on the {arguments.split} range"):
        reported = judge_and_report(
            model,
            arguments.split,
            folder,
            warn=reporter.warn,
            tell=lambda registration: reporter.note(
                f"  Registered before the range is read: {registration.sha256[:16]}"
            ),
        )
    if arguments.as_json:
        print(json_text(reported.document, indent=2))
        return 0
    result = reported.result
    print_table(reporter.console, performance_table(result.performances, reported.document["title"]))
    reporter.say(f"  Verdict: the agent is {result.verdict}.", "bold")
    reporter.say(f"  {sentence(reported.gap)}.", "dim")
    if not model.names.is_other:  # else it is among the notes
        reporter.say(f"  {model.distance(arguments.split).sentence}", "dim")
    for note in result.notes:
        reporter.say(f"  {note}", "dim")
    reporter.say(f"  Report:  {folder / PAGE} (the same numbers: {NUMBERS}; daily returns: {RETURNS})", whole=[folder])
    return 0
