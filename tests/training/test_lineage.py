"""What a checkpoint has seen travels with it, and a range that it has seen is not called held out."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from tactician.cli import main
from tactician.config import Config, load_config, sections
from tactician.environment import cache_key
from tactician.errors import UserError
from tactician.storage import checksum, save_tensors
from tactician.training.checkpoint import newest_checkpoint, read_checkpoint, record_look
from tactician.training.lineage import HARMLESS, Look, Seen, run_name, run_of, seen_by_checkpoint
from tactician.training.resume import OF_DATA
from tests.trained import configuration

LATE = ("--train-until", "2013-04-30", "--validation-until", "2013-05-31")
OWN = ("--train-until", "2012-12-31", "--validation-until", "2013-03-28")
"""The tiny configuration's ranges: a flag, because who goes on from a checkpoint keeps its run's flags."""


def run(tiny: Path, folder: Path, *words: str) -> int:
    return main(["train", "--config", str(tiny), "--checkpoint-dir", str(folder), "-q", *words])


def flat(text: str) -> str:
    return " ".join(text.split())


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())["run"]


@pytest.fixture(scope="module")
def late(tiny, tmp_path_factory):
    """A model trained to April 2013 and validated to May, where the tiny configuration's test range begins in April."""
    folder = tmp_path_factory.mktemp("late")
    assert run(tiny, folder, "--iterations", "2", *LATE) == 0
    return folder / "model_final.pt"


@pytest.fixture(scope="module")
def early(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("early")
    assert run(tiny, folder, "--iterations", "2") == 0
    return folder / "model_final.pt"


def test_a_checkpoint_says_what_it_has_seen(early):
    content = read_checkpoint(early)
    assert content["seen"] == {
        "first": "2011-04-01",
        "trained_until": "2012-12-31",
        "validated_until": "2013-03-28",
        "symbols": ["AAA", "BBB", "CCC", "DDD"],
        "fingerprints": [content["data_fingerprint"]],
        "looks": [{"first": "2013-04-01", "last": "2013-06-27", "count": 1}],
        "known": True,
    }
    assert content["contaminated"] is None


def test_a_test_range_that_an_ancestor_has_seen_is_refused_with_the_dates_and_the_ways_out(
    tiny, late, tmp_path, refused
):
    words = ["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path / "run"), "--iterations", "3"]
    said = refused(*words, "--checkpoint", str(late), *OWN)
    assert "The test range 2013-04-01 to 2013-06-28 is not held out" in said
    assert f"{late} has seen data from 2011-04-01 to 2013-05-31" in said
    assert "set the key validation_until to 2013-05-31 or later" in said and "--allow-contaminated" in said
    assert not (tmp_path / "run").exists()


def test_what_is_contaminated_is_marked_in_every_output(tiny, late, tmp_path, capsys):
    words = ("--iterations", "3", "--checkpoint", str(late), "--allow-contaminated", *OWN)
    assert run(tiny, tmp_path, *words) == 0
    said = capsys.readouterr().out
    assert "CONTAMINATED test range 2013-04-01 to 2013-06-27" in said and "Held-out" not in said
    assert "(the model has seen data up to 2013-05-31)" in said
    assert "CONTAMINATED validation range 2013-01-02 to 2013-03-27" in flat(said)
    assert "CONTAMINATED (validation and test): the model has seen data up to 2013-05-31, so this is no" in flat(said)
    summary = summary_of(tmp_path)
    mark = {"ranges": ["validation", "test"], "seen_until": "2013-05-31", "known": True}
    assert summary["contaminated"] == mark
    assert "CONTAMINATED" in summary["test"]["verdict"] and "CONTAMINATED" in summary["validation"]["verdict"]
    for name in ("model_final.pt", "model_best.pt"):
        assert read_checkpoint(tmp_path / name)["contaminated"] == mark
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["contaminated"] for line in lines] == [1.0]
    # And whoever goes on from there inherits it.
    assert run(tiny, tmp_path, "--resume", "--iterations", "4") == 2


def test_a_validation_range_that_an_ancestor_was_trained_on_is_refused(tiny, late, tmp_path, refused, capsys):
    ranges = ("--train-until", "2013-02-28", "--validation-until", "2013-06-14")
    words = ["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path), "-q", "--iterations", "3"]
    said = refused(*words, "--checkpoint", str(late), *ranges)
    assert "The validation range 2013-03-01 to 2013-06-14 is not held out" in said
    assert "set the key train_until to 2013-04-30 or later" in said
    assert said == refused(*words, "--checkpoint", str(late), *ranges, "--dry-run")
    assert main([*words, "--checkpoint", str(late), *ranges, "--allow-contaminated"]) == 0
    out = flat(capsys.readouterr().out)
    assert "CONTAMINATED (its validation range) test range" in out and "Held-out" not in out
    assert summary_of(tmp_path)["contaminated"]["ranges"] == ["validation"]
    assert "CONTAMINATED (validation)" in summary_of(tmp_path)["test"]["verdict"]
    # Two hops on, the first ancestor's training range still counts, though its child was trained on less.
    grandchild = ("--train-until", "2013-04-19", "--validation-until", "2013-06-14", "--iterations", "4")
    child = str(tmp_path / "model_final.pt")
    said = refused(*words[:-2], "--checkpoint", child, *grandchild)
    assert "set the key train_until to 2013-04-30 or later" in said


def test_ranges_after_all_that_was_seen_are_held_out(tiny, late, tmp_path, capsys):
    words = ("--train-until", "2013-05-15", "--validation-until", "2013-05-31", "--iterations", "3")
    assert run(tiny, tmp_path, "--checkpoint", str(late), *words) == 0
    assert "Held-out test range 2013-06-03" in capsys.readouterr().out
    assert summary_of(tmp_path)["contaminated"] is None
    seen = summary_of(tmp_path)["seen"]
    assert (seen["trained_until"], seen["validated_until"]) == ("2013-05-15", "2013-05-31")


def test_another_network_begins_anew_and_has_seen_nothing(tiny, late, tmp_path, capsys):
    assert run(tiny, tmp_path, "--checkpoint", str(late), "--iterations", "1", "--hidden-dim", "24") == 0
    assert "Held-out test range" in capsys.readouterr().out


def without(path: Path, target: Path, *keys: str) -> Path:
    content = read_checkpoint(path)
    save_tensors({key: value for key, value in content.items() if key not in keys}, target)
    return target


def test_an_older_checkpoint_has_seen_what_its_configuration_says(tiny, late, early, tmp_path, refused, capsys):
    old = without(late, tmp_path / "old.pt", "seen", "run", "contaminated")
    words = ["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path / "run"), "--iterations", "3"]
    said = refused(*words, "--checkpoint", str(old), *OWN)
    assert "has seen data from its start to 2013-05-31" in said
    clean = without(early, tmp_path / "clean.pt", "seen", "run", "contaminated")
    assert main([*words, "--checkpoint", str(clean)]) == 0
    assert "Held-out test range" in capsys.readouterr().out


def test_where_it_is_not_known_what_was_seen_the_result_says_so(tiny, early, tmp_path, capsys):
    content = read_checkpoint(early)
    legacy = {"optimizer_state_dict": {}, "metrics": {}, "total_steps": 256}
    weights = {k: v for k, v in content["model_state_dict"].items() if k != "value_scale"}
    torch.save({**legacy, "model_state_dict": weights}, tmp_path / "legacy.pt")
    assert run(tiny, tmp_path / "run", "--checkpoint", str(tmp_path / "legacy.pt"), "--timesteps", "600") == 0
    said = capsys.readouterr().out
    assert "Held-out" not in said and "(whether the model has seen it is not known)" in said
    summary = summary_of(tmp_path / "run")
    assert summary["contaminated"] == {"ranges": [], "seen_until": None, "known": False}
    assert summary["test"]["verdict"].endswith("whether the model has seen this range is not known")
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["contaminated"] is None
    # It stays unknown.
    assert run(tiny, tmp_path / "run", "--resume", "--timesteps", "1000") == 0
    assert "is not known" in flat(capsys.readouterr().out)


def test_a_run_that_is_prolonged_is_clean_and_counts_its_looks_at_the_test_range(tiny, tmp_path, capsys):
    tiny = configuration(tiny, tmp_path / "market", report=False)
    for looks, iterations in ((1, "1"), (2, "2"), (3, "3")):
        assert run(tiny, tmp_path, "--iterations", iterations, "--resume") == 0
        said = flat(capsys.readouterr().out)
        assert "Held-out test range" in said
        assert (f"looked at {looks} times" in said) == (looks > 1)
        assert summary_of(tmp_path)["test_looks"] == looks and summary_of(tmp_path)["contaminated"] is None
        for name in ("model_best.pt", "model_final.pt"):
            (look,) = read_checkpoint(tmp_path / name)["seen"]["looks"]
            assert look["count"] == looks or name == "model_best.pt"
    # Another test range that overlaps this one was not looked at less.
    assert run(tiny, tmp_path, "--iterations", "4", "--resume", "--validation-until", "2013-05-15") == 0
    assert "looked at 4 times" in flat(capsys.readouterr().out)


def test_recording_a_look_leaves_the_rest_of_a_checkpoint_as_it_is(early, tmp_path):
    before = read_checkpoint(early)
    for name in ("model_final.pt", "model_iteration_000001.pt"):
        shutil.copyfile(early, tmp_path / name)
    other = {**before, "run": "another"}
    save_tensors(other, tmp_path / "model_interrupted_x.pt")
    record_look(tmp_path, before["run"], "2013-04-01", "2013-06-27")
    assert read_checkpoint(tmp_path / "model_interrupted_x.pt")["seen"] == before["seen"]
    periodic = read_checkpoint(tmp_path / "model_iteration_000001.pt")
    after = read_checkpoint(tmp_path / "model_final.pt")
    assert periodic["seen"] == after["seen"]
    assert after["seen"].pop("looks") == [{"first": "2013-04-01", "last": "2013-06-27", "count": 2}]
    before["seen"].pop("looks")
    assert checksum(before) == checksum(after)


def test_a_look_that_cannot_be_written_is_said_and_a_damaged_file_is_passed_over(early, tmp_path, monkeypatch):
    shutil.copyfile(early, tmp_path / "model_final.pt")
    (tmp_path / "model_iteration_000001.pt").write_bytes(b"damaged")

    def full(*_):
        raise UserError("Cannot write: the disk is full")

    monkeypatch.setattr("tactician.training.checkpoint.save_tensors", full)
    with pytest.raises(UserError, match="disk is full"):
        record_look(tmp_path, read_checkpoint(early)["run"], "2013-04-01", "2013-06-27")


def test_what_two_have_seen_together():
    one = Seen("2001-01-01", "2005-01-01", "2006-01-01", ("A", "B"), ("x",), (Look("2007", "2008"),))
    other = Seen("2003-01-01", "2004-01-01", "2009-01-01", ("B", "C"), ("y",), (), known=False)
    both = Seen(
        "2001-01-01", "2005-01-01", "2009-01-01", ("A", "B", "C"), ("x", "y"), (Look("2007", "2008"),), known=False
    )
    assert one.merged(other) == both
    turned = other.merged(one)
    assert (turned.first, turned.trained_until, turned.validated_until, turned.known) == (
        both.first,
        both.trained_until,
        both.validated_until,
        both.known,
    )
    assert seen_by_checkpoint({"seen": json.loads(json.dumps(both.as_dict()))}) == both
    assert seen_by_checkpoint({"config": {"spread": 1}}).known is False


def test_hindsight_is_said_where_it_is_known_and_is_harmless_for_resume(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path / "run", "--iterations", "1") == 0
    assert "picked with hindsight" not in capsys.readouterr().out and summary_of(tmp_path / "run")["hindsight"] is False
    (tmp_path / "c.yaml").write_text(tiny.read_text() + "hindsight: true\n")
    words = ["train", "--config", str(tmp_path / "c.yaml"), "--checkpoint-dir", str(tmp_path / "run"), "--resume"]
    assert main([*words, "--iterations", "2"]) == 0
    said = flat(capsys.readouterr().out)
    assert "The universe was picked with hindsight: compare with equal weight of the same assets only." in said
    assert "hindsight was False and is now True (does not matter)" in said
    assert summary_of(tmp_path / "run")["hindsight"] is True


# -- the newest checkpoint ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved_often(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved_often")
    assert run(tiny, folder, "--iterations", "3", "--save-every", "1") == 0
    return folder


@pytest.fixture
def copied(saved_often, tmp_path):
    """A run's folder whose files were copied in the order that turns their times round."""
    (tmp_path / "copy").mkdir()
    for k, file in enumerate(sorted(saved_often.glob("model_*.pt"), reverse=True)):
        shutil.copyfile(file, tmp_path / "copy" / file.name)
        os.utime(tmp_path / "copy" / file.name, (1.7e9 + k, 1.7e9 + k))
    return tmp_path / "copy"


def test_of_one_run_the_checkpoint_with_the_most_steps_is_the_newest_whatever_the_times_say(tiny, copied, capsys):
    assert newest_checkpoint(copied)[1]["progress"]["timesteps"] == 768
    assert main(["train", "--config", str(tiny), "--checkpoint-dir", str(copied), "--resume", "--iterations", "4"]) == 0
    assert "768 of 1,024 steps done" in flat(capsys.readouterr().out)


def test_a_damaged_newest_one_of_a_copied_run_is_passed_over(copied):
    for name in ("model_final.pt", "model_iteration_000003.pt", "model_best.pt"):
        path = copied / name
        times = path.stat().st_mtime
        path.write_bytes(path.read_bytes()[:-10])
        os.utime(path, (times, times))
    path, content, complaints = newest_checkpoint(copied)
    assert path == copied / "model_iteration_000002.pt" and content["progress"]["iteration"] == 2
    assert len(complaints) == 3


def test_between_different_runs_the_time_decides(tiny, copied):
    assert run(tiny, copied, "--iterations", "1", "--seed", "7") == 0  # replaces final and best, not the periodic ones
    path, content, _ = newest_checkpoint(copied)
    assert path.name == "model_final.pt" and content["config"]["seed"] == 7


def test_a_branch_with_other_settings_is_another_run(tiny, copied):
    middle = str(copied / "model_iteration_000001.pt")
    words = ("--checkpoint", middle, "--actor-lr", "0.001", "--iterations", "2")
    assert run(tiny, copied, *words) == 0
    path, content, _ = newest_checkpoint(copied)
    assert content["progress"]["iteration"] == 2 and content["config"]["actor_lr"] == 0.001, path
    first = read_checkpoint(copied / "model_iteration_000003.pt")
    assert run_of(content) != run_of(first)
    # Going on with what does not matter stays one run.
    assert run(tiny, copied, "--resume", "--actor-lr", "0.001", "--iterations", "3", "--keep-checkpoints", "9") == 0
    assert run_of(newest_checkpoint(copied)[1]) == run_of(content)


def test_files_that_do_not_tell_their_run_are_taken_by_time(tiny, copied):
    torch.save({"model_state_dict": {}, "optimizer_state_dict": {}}, copied / "model_legacy.pt")
    os.utime(copied / "model_legacy.pt", (4e9, 4e9))
    assert newest_checkpoint(copied)[0] == copied / "model_legacy.pt"
    os.utime(copied / "model_legacy.pt", (1, 1))
    assert newest_checkpoint(copied)[1]["progress"]["timesteps"] == 768


def test_checkpoints_from_before_runs_had_names_are_of_one_run(copied):
    for path in copied.glob("model_*.pt"):
        time = path.stat().st_mtime
        without(path, path, "run", "seen", "contaminated")
        os.utime(path, (time, time))
    assert newest_checkpoint(copied)[1]["progress"]["timesteps"] == 768


def test_only_files_saved_since_a_time_count(copied):
    times = sorted(path.stat().st_mtime for path in copied.glob("model_*.pt"))
    path, content, _ = newest_checkpoint(copied, since=times[-1])
    assert path.stat().st_mtime == times[-1] and content is not None
    assert newest_checkpoint(copied, since=times[-1] + 1)[0] is None


def test_a_runs_name_follows_from_data_settings_and_parent_alone(tiny):
    config = load_config(tiny).model_dump(mode="json")
    name = run_name(config, "data")
    assert name == run_name({**config, "checkpoint_dir": "elsewhere", "timesteps": 9, "device": "cuda"}, "data")
    others = [
        run_name({**config, "seed": 1}, "data"),
        run_name({**config, "actor_lr": 1.0}, "data"),
        run_name(config, "x"),
    ]
    assert len({name, *others, run_name(config, "data", "parent")}) == 5


def test_every_key_of_the_market_has_a_role_when_a_run_goes_on(tiny):
    """A new key that shapes the data must not be forgotten: a run would go on as if nothing had changed."""
    by_section = sections()
    assert set(by_section["market"]) <= OF_DATA | HARMLESS | {"validation_until"}
    assert set(cache_key(load_config(tiny))) <= OF_DATA
    assert not OF_DATA & HARMLESS
    assert Config.model_fields.keys() >= OF_DATA | HARMLESS
