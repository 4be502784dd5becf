"""The command: a study is registered, trained, kept, gone on with, counted and judged as one path."""

import csv
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml

from tactician.cli import main
from tactician.config import load_config
from tactician.environment import load_cached_market, normalise
from tactician.errors import UserError
from tactician.evaluation import AGENT, action_targets, backtest
from tactician.evaluation.decisions import decide
from tactician.evaluation.rivals_known import equal_weights
from tactician.hardware.device import pick_device
from tactician.record.registration import verify
from tactician.record.trials import Look, Trial, read, trials_beside
from tactician.storage import load_tensors, save_tensors
from tactician.studies.fold_job import load_model
from tactician.studies.folds import make_folds
from tactician.training.lock import only_writer
from tactician.training.markets import make_environment
from tests.studies.walk_forwards import PURGE, TEST_FROM, WORDS, tiny_study, train_here

SEEDS = (3, 4)
FILES = [f"fold_{fold}_seed_{seed}.pt" for fold in (1, 2) for seed in SEEDS]
RESULTS = (
    "range",
    "dates",
    "curves",
    "band",
    "regimes",
    "allocation",
    "trading",
    "why",
    "strategies",
    "cost_components",
)
RESULTS += ("cost_multipliers", "delays", "starts", "months", "training", "folds", "seeds", "memorising", "abstained")
"""Parts of the document that say nothing of the time, or of how often the range was looked at."""


@dataclass(frozen=True)
class Done:
    """A finished study."""

    words: list[str]
    folder: Path
    config: Path
    said: str
    seen: dict[str, bool]
    """What was on the disk when the first training began."""
    document: dict
    ledger: tuple[Trial | Look, ...]

    def command(self, folder: Path, *more: str) -> list[str]:
        return [*self.words, "--output", str(folder), *more]


@pytest.fixture(scope="module", autouse=True)
def followed_in_part():
    """What is found here leaves hardly a doubt. It is followed in part all the same, so that targets in between are covered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tactician.evaluation.abstention._WHOLE", 1.1)
        yield


@pytest.fixture(scope="module")
def done(tiny_longer, short_validation, tmp_path_factory) -> Done:
    """A study of its own market cache, so that its trial ledger has no other entries."""
    home = tmp_path_factory.mktemp("walk_forward")
    settings = yaml.safe_load(tiny_longer.read_text())
    shutil.copy(settings["cache_path"], home / "cache.pt")
    config, folder = home / "tiny.yaml", home / "study"
    config.write_text(yaml.safe_dump({**settings, "cache_path": str(home / "cache.pt")}))
    words = ["walk-forward", "--config", str(config), *WORDS, "--seed", str(SEEDS[0])]
    ledger = trials_beside(home / "cache.pt")

    def on_the_disk() -> dict[str, bool]:
        return {path.name: True for path in folder.iterdir() if not path.name.startswith(".")}

    with pytest.MonkeyPatch.context() as patch:
        engine = train_here(patch, watch=on_the_disk)
        with pytest.MonkeyPatch.context() as other:
            said: list[str] = []
            other.setattr(
                "tactician.monitor.progress.Reporter.say", lambda _, text="", style="", whole=(): said.append(text)
            )
            assert main([*words, "--output", str(folder)]) == 0
    document = json.loads((folder / "report.json").read_text())
    return Done(words, folder, config, "\n".join(said), engine.seen, document, read(ledger).entries)


@pytest.fixture
def again(done, tmp_path) -> Path:
    """A copy of the study's folder."""
    return Path(shutil.copytree(done.folder, tmp_path / "again"))


def without_time(document: dict) -> dict:
    return {name: document[name] for name in RESULTS}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_study_leaves_its_trainings_its_registration_and_its_report(done):
    names = {path.name for path in done.folder.iterdir() if not path.name.startswith(".")}
    assert names == {*FILES, "registration.json", "report.html", "report.json", "returns.csv"}
    assert "Verdict: the agent is" in done.said and "Its seeds alone, followed all the way:" in done.said
    assert done.said.count("which it has not seen") == 4 and "(0 trainings to go)" in done.said


def test_it_is_registered_before_anything_is_trained(done):
    assert done.seen == {"registration.json": True}
    registration = verify(done.folder / "registration.json")
    content = json.loads(registration.path.read_text())["content"]
    assert content["seeds"] == list(SEEDS) and len(content["folds"]) == 2
    assert content["folds"] == [
        {name: fold[name] for name in ("train", "validation", "test")} for fold in done.document["folds"]
    ]
    assert done.document["provenance"]["registration"] == registration.sha256
    assert registration.sha256[:16] in done.said


def test_the_document_tells_folds_and_seeds(done):
    document = done.document
    assert document["kind"] == "walk_forward" and document["subtitle"].startswith("2 folds × 2 seeds, 4 assets")
    assert [fold["number"] for fold in document["folds"]] == [1, 2]
    for fold in document["folds"]:
        assert fold["train"][1] < fold["validation"][0] < fold["validation"][1] < fold["test"][0] < fold["test"][1]
        assert [seed["seed"] for seed in fold["seeds"]] == list(SEEDS)
        assert math.isclose(fold["difference"], fold["agent"] - fold["equal_weight"], abs_tol=1e-9)
    assert [seed["seed"] for seed in document["seeds"]] == list(SEEDS)
    assert [seed["seed"] for seed in document["band"]["seeds"]] == list(SEEDS)
    labels = [s["label"] for s in document["strategies"] if s["group"] == "seed"]
    assert labels == [f"Seed {seed}" for seed in SEEDS]


def test_the_out_of_sample_path_is_that_of_the_turns_by_hand(done):
    config = load_config(done.config, {"seed": SEEDS[0]})
    market = load_cached_market(config, "")
    folds = make_folds(market, 2, episode_length=config.episode_length, test_from=TEST_FROM, purge=PURGE)

    def decided(fold, seeds, strength=1.0, held=None):
        files = [load_tensors(done.folder / f"fold_{fold.number}_seed_{seed}.pt") for seed in seeds]
        mean_and_std = load_model(files[0]["model"])[1]
        shown = normalise(market.with_strength(strength), *mean_and_std)
        env = make_environment(config, shown, fold.train)
        return env, decide(env, [load_model(file["model"])[0] for file in files], fold.test, before=held)

    rows = range(folds[0].test.start, folds[-1].test.stop)

    def grown(env, targets, hold):
        path = backtest(market, rows, targets, hold, env.frictions, env.portfolio_value, (AGENT,), liquidate=True)
        return path.growth[:, 0]

    # The first fold's seeds have found something: their regimes count for the strength, and equal weight for the rest.
    # The second fold's have not: equal weight in every session.
    followed = done.document["folds"][0]["found"]["strength"]
    assert 0 < followed < 1 and done.document["folds"][1]["found"]["strength"] == 0
    env, first = decided(folds[0], SEEDS, followed)
    own, hold = action_targets(market, folds[0].test, first.actions[:, 0])
    equal = equal_weights(market, rows)[:, None]
    part = followed * own + (1 - followed) * equal[: len(own)]
    late = torch.zeros(len(folds[1].test), 1, dtype=torch.bool)
    growth = grown(env, torch.cat([part, equal[len(own) :]]), torch.cat([hold, late]))
    chosen = done.document["regimes"]["chosen"]
    assert chosen[: len(own)] == first.actions[:, 0].tolist() and len(set(chosen[: len(own)])) > 1
    names = done.document["regimes"]["names"]
    assert {names[action] for action in chosen[len(own) :]} == {"EQUAL_WEIGHT"}
    assert done.document["curves"][0]["name"] == AGENT
    assert torch.allclose(torch.tensor(done.document["curves"][0]["growth"]).double(), growth, atol=1e-7, rtol=0)
    with (done.folder / "returns.csv").open() as file:
        returns = list(csv.DictReader(file))
    assert [row["date"] for row in returns] == done.document["dates"]
    assert torch.allclose(torch.tensor([float(row["agent"]) for row in returns]).double(), growth.expm1(), atol=1e-7)
    # The years' returns of the folds join up to the whole.
    lengths = [len(fold.test) for fold in folds]
    joined = sum(n / 252 * math.log1p(fold["agent"]) for n, fold in zip(lengths, done.document["folds"], strict=True))
    assert math.isclose(joined, float(growth.sum()), abs_tol=1e-6)
    # A seed alone follows its own regimes all the way in both folds.
    for seed, told in zip(SEEDS, done.document["band"]["seeds"], strict=True):
        env, first = decided(folds[0], [seed])
        _, second = decided(folds[1], [seed], held=first.last)
        alone = grown(env, *action_targets(market, rows, torch.cat([first.actions, second.actions])[:, 0]))
        assert torch.allclose(torch.tensor(told["wealth"]).double(), alone.cumsum(0).exp(), atol=1e-5)


def test_each_fold_tells_how_far_it_is_followed_and_the_report_counts_those_that_are_not(done):
    for fold in done.document["folds"]:
        files = [load_tensors(done.folder / f"fold_{fold['number']}_seed_{seed}.pt") for seed in SEEDS]
        gaps = [gap for file in files for gap in file["gap"]]
        value, low, high = fold["found"]["difference"]
        assert math.isclose(value, 252 * math.fsum(gaps) / len(gaps), abs_tol=1e-9) and low < value < high
        # 1 − s²/d², with s from the lower half of a 95 % interval.
        expected = 1 - ((value - low) / 1.959964 / value) ** 2 if low > 0 else 0
        assert math.isclose(fold["found"]["strength"], expected, abs_tol=1e-5)
        assert [piece["first"] for piece in fold["found"]["pieces"]] == [file["piece"]["first"] for file in files]
    assert done.document["abstained"] == {"folds": 2, "held_equal_weight": 1}
    (note,) = [note for note in done.document["verdict"]["notes"] if "Hold equal weight" in note]
    followed = done.document["folds"][0]["found"]["strength"]
    assert note.startswith("Hold equal weight, nothing found: in 1 of 2 folds;") and f"{100 * followed:.0f} %" in note
    page = " ".join((done.folder / "report.html").read_text().split())
    assert "Hold equal weight, nothing found: in 1 of 2 folds." in page and "followed all the way" in page


def test_a_fold_that_found_nothing_earns_what_equal_weight_earns_but_for_the_way_there(done):
    second = done.document["folds"][1]
    assert 0 < abs(second["difference"]) < 0.02  # it takes over holdings at the seam
    assert second["low"] is None and second["high"] is None  # one session says nothing of luck
    curves = {curve["name"]: curve["growth"] for curve in done.document["curves"]}
    n = len([day for day in done.document["decided"] if day >= second["test"][0]])
    for ours, theirs in zip(curves[AGENT][-n + 1 :], curves["equal_weight"][-n + 1 :], strict=True):
        assert math.isclose(ours, theirs, abs_tol=1e-6)


def test_the_memorising_gap_is_the_mean_of_the_folds(done):
    told, folds = done.document["memorising"], done.document["folds"]
    assert set(told) == {"training", "held_out_days", "validation", "test"}
    for place in told:
        assert math.isclose(told[place], sum(fold["memorising"][place] for fold in folds) / 2, abs_tol=1e-12)
    years = [
        len([day for day in done.document["decided"] if a <= day <= b]) / 252 for a, b in (f["test"] for f in folds)
    ]
    curves = {curve["name"]: curve["growth"] for curve in done.document["curves"]}
    gap = math.fsum(curves[AGENT]) - math.fsum(curves["equal_weight"])
    whole = sum(year * fold["memorising"]["test"] for year, fold in zip(years, folds, strict=True))
    assert math.isclose(gap, whole, abs_tol=1e-5)
    for fold in folds:
        assert fold["memorising"]["held_out_days"] == fold["found"]["difference"][0]
    # Equal weight beside itself, after a first purchase.
    assert abs(folds[1]["memorising"]["validation"]) < 1e-6 and abs(folds[0]["memorising"]["validation"]) > 1e-6
    assert "Log growth per year beyond equal weight: days of training" in done.said


def test_each_seed_is_a_trial_and_the_judgement_one_look(done):
    trials = [entry for entry in done.ledger if isinstance(entry, Trial)]
    looks = [entry for entry in done.ledger if isinstance(entry, Look)]
    assert [trial.seed for trial in trials] == [*SEEDS, *SEEDS] and len({trial.configuration for trial in trials}) == 1
    (look,) = looks
    begun, judged = trials[: len(SEEDS)], trials[len(SEEDS) :]
    assert all(trial.sharpe_per_session is None for trial in begun)
    for trial, told in zip(judged, done.document["seeds"], strict=True):
        assert trial.sharpe_per_session == pytest.approx(told["sharpe"] / math.sqrt(252))
        assert trial.validated == look.range
    assert look.sharpe_per_session is None  # the seeds' mean is none of the trials
    deflated = next(row for row in done.document["statistics"] if row["name"] == "dsr")
    assert 0 <= deflated["value"] <= 1 and "2 counted" in deflated["text"]
    assert look.registration == done.document["provenance"]["registration"]
    assert look.range == (done.document["range"]["first"], done.document["range"]["last"])
    assert (done.document["provenance"]["trials"], done.document["provenance"]["looks"]) == (2, 1)
    assert done.ledger.index(look) == 4  # trials are noted when they begin, and again with their figures


def test_a_second_call_trains_nothing_and_finds_the_same_but_is_a_second_look(done, again, monkeypatch, capsys):
    engine = train_here(monkeypatch)
    kept = {name: (again / name).read_bytes() for name in [*FILES, "registration.json"]}
    assert main(done.command(again, "--json")) == 0
    said = capsys.readouterr()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    document = json.loads(said.out, parse_constant=refuse)  # nothing else is on the standard output
    assert engine.asked == [] and said.err == ""
    assert without_time(document) == without_time(done.document)
    assert {name: (again / name).read_bytes() for name in kept} == kept
    assert document["provenance"]["looks"] > done.document["provenance"]["looks"]
    assert document["provenance"]["trials"] == done.document["provenance"]["trials"]


def test_only_what_is_missing_is_trained_and_gives_the_same_in_a_process_of_its_own(done, again):
    before = load_tensors(again / FILES[-1])
    (again / FILES[-1]).unlink()
    others = {name: (again / name).stat().st_mtime_ns for name in FILES[:-1]}
    assert main(done.command(again)) == 0  # by the engine of the command
    assert load_tensors(again / FILES[-1])["model"] == before["model"]
    assert {name: (again / name).stat().st_mtime_ns for name in others} == others
    assert without_time(json.loads((again / "report.json").read_text())) == without_time(done.document)


def test_one_seed_is_picked_on_validation_and_has_no_band_and_no_evidence(done, tmp_path, monkeypatch, capsys):
    engine = train_here(monkeypatch)
    assert main(done.command(tmp_path, "--seeds", "1")) == 0
    document, said = json.loads((tmp_path / "report.json").read_text()), capsys.readouterr().out
    assert engine.asked == ["fold_1_seed_3", "fold_2_seed_3"] and "best after iteration" in said
    assert document["band"] is None and document["seeds"] is None and document["abstained"] is None
    assert [[seed["seed"] for seed in fold["seeds"]] for fold in document["folds"]] == [[SEEDS[0]], [SEEDS[0]]]
    assert all(fold["seeds"][0]["best_iteration"] >= 1 and fold["found"] is None for fold in document["folds"])
    assert not any("equal weight, nothing found" in note for note in document["verdict"]["notes"])
    files = [load_tensors(tmp_path / f"fold_{number}_seed_3.pt") for number in (1, 2)]
    beyond = [file["metrics"]["validation_beyond_equal_weight"] for file in files]
    assert document["memorising"]["validation"] == pytest.approx(sum(beyond) / 2)
    assert document["memorising"]["held_out_days"] is None
    assert document["training"]["deployed"]["growth"] == pytest.approx(
        sum(file["training"]["deployed"]["growth"] for file in files) / 2
    )


@pytest.mark.parametrize(
    "change",
    [
        ["--gamma", "0.9"],
        ["--timesteps", "700"],
        ["--purge", "21"],
        ["--folds", "3"],
        ["--seeds", "3"],
        ["--seeds", "1"],
    ],
)
def test_another_study_in_the_same_folder_is_refused_and_nothing_is_touched(done, again, refused, monkeypatch, change):
    engine, before = train_here(monkeypatch), contents(again)
    said = refused(*done.command(again), *change)
    assert "another study" in said and "--output" in said and str(again) in said
    # The lock file of whoever was there last may stay.
    assert {name: x for name, x in contents(again).items() if "lock" not in name} == {
        name: x for name, x in before.items() if "lock" not in name
    }
    assert engine.seen is None and engine.asked == []


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(done, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "stopped"
    train_here(monkeypatch, stop_after=1)
    assert main(done.command(folder)) == 130
    said = " ".join(capsys.readouterr().out.split())
    assert "Stopped: 1 of 4 trainings are kept" in said and "same command again" in said
    assert sorted(path.name for path in folder.glob("*.pt")) == FILES[:1]
    assert not (folder / "report.json").exists()
    engine = train_here(monkeypatch)
    assert main(done.command(folder)) == 0
    assert engine.asked == ["fold_2_seed_3", "fold_1_seed_4", "fold_2_seed_4"]
    assert without_time(json.loads((folder / "report.json").read_text())) == without_time(done.document)


def enough(*_, **__):
    raise UserError("That is enough for a test.")


def test_a_busier_machine_does_not_change_the_sizes_of_a_study_that_goes_on(done, again, refused, monkeypatch):
    engine = train_here(monkeypatch, watch=lambda: "asked")

    def fewer(sizes, pace, per_window, **_):
        return replace(sizes, n_envs=4), "too slow"

    monkeypatch.setattr("tactician.training.setup.fit_to_time", fewer)
    monkeypatch.setattr("tactician.studies.walk_forward_judgement.judge_study", enough)
    assert "enough" in refused(*done.command(again))
    assert engine.seen == "asked" and engine.asked == []
    assert "another study" in refused(*done.command(again), "--n-envs", "4")  # asked for by the user


def test_a_second_writer_is_refused(done, again, refused, monkeypatch):
    train_here(monkeypatch)
    monkeypatch.setattr("tactician.training.lock._PATIENCE", 0.0)
    with only_writer(again / ".walk_forward.lock", again, "--output"):
        assert "in use by another run" in refused(*done.command(again))


def test_a_dry_run_shows_the_folds_and_writes_nothing(done, tmp_path, monkeypatch, capsys):
    engine, before = train_here(monkeypatch), contents(done.config.parent)
    assert main(done.command(tmp_path / "none", "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "2 folds × 2 seeds" in said
    for fold in done.document["folds"]:
        assert fold["test"][0] in said and fold["train"][1] in said
    assert main(done.command(tmp_path / "none", "--dry-run", "--json")) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["seeds"] == list(SEEDS)
    assert plan["folds"] == json.loads((done.folder / "registration.json").read_text())["content"]["folds"]
    assert not (tmp_path / "none").exists() and contents(done.config.parent) == before and engine.seen is None


def damaged(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)


@pytest.mark.parametrize(
    "spoil",
    [
        damaged,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not a model"),
        lambda path: save_tensors({"format": "of another kind", "version": 1}, path),
    ],
)
def test_a_damaged_training_is_told_with_its_file_and_the_remedy(
    done, again, refused, monkeypatch, spoil: Callable[[Path], None]
):
    engine = train_here(monkeypatch)
    spoil(again / FILES[1])
    said = refused(*done.command(again))
    assert str(again / FILES[1]) in said and "remove it" in said and engine.asked == []


@pytest.mark.parametrize(("device", "gpu"), [("cpu", False), ("cuda", True)])
def test_the_engine_is_told_whether_trainings_need_a_gpu(done, tmp_path, refused, monkeypatch, device, gpu):
    told = {}

    def make_engine(name, **options):
        told.update(options)
        enough()

    monkeypatch.setattr("tactician.studies.engine.make_engine", make_engine)
    monkeypatch.setattr("tactician.hardware.device.pick_device", lambda _: torch.device(device))
    refused(*done.command(tmp_path / "none"))
    assert told["gpu"] is gpu


def test_the_machine_that_starts_a_study_decides_for_all_between_cpu_and_gpu(tiny_longer, tmp_path):
    settled = pick_device("auto").type
    assert {job.settings["device"] for job in tiny_study(tiny_longer, tmp_path, device="auto").jobs} == {settled}


def test_a_mistake_in_the_flags_is_told_in_one_sentence(refused, tiny):
    for words, named in (
        (["--folds", "0"], "--folds"),
        (["--folds", "400"], "--folds"),
        (["--test-from", "1999-01-01"], "--test-from"),
        (["--purge", "-1"], "--purge"),
        (["--address", "auto"], "--engine ray"),
        (["--window", "sliding"], "--window"),
    ):
        assert named in refused("walk-forward", "--config", str(tiny), *words)


def test_the_script_is_the_verb():
    ran = subprocess.run(
        [sys.executable, "src/apps/walk_forward.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "--folds" in ran.stdout and "--engine" in ran.stdout and ran.stderr == ""


def test_the_folder_of_a_training_run_is_refused(done, tmp_path, refused):
    (tmp_path / "metrics.jsonl").touch()
    said = refused(*done.command(tmp_path))
    assert "is the folder of a training run" in said and [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
