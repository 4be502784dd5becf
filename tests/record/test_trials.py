"""The trial ledger counts every configuration and every look once, loses none, and says when it does not know."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from tactician.errors import UserError
from tactician.record import trials as module
from tactician.record.trials import TrialLedger, Trials, read, trials_beside

LATER = ("2019-01-02", "2022-12-27")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.pt.trials.jsonl"


def never(sentence):
    raise AssertionError(sentence)


def add_trial(path, run="a", configuration="c", seed=0, fingerprint="f", sharpe=0.05, warn=never):
    return TrialLedger(path, warn).add_trial(
        run=run,
        configuration=configuration,
        seed=seed,
        fingerprint=fingerprint,
        validated=("2016-01-04", "2018-12-31"),
        sharpe_per_session=sharpe,
    )


def add_look(path, run="a", configuration="c", seed=0, fingerprint="f", dates=LATER, sharpe=0.01, warn=never):
    return TrialLedger(path, warn).add_look(
        run=run,
        configuration=configuration,
        seed=seed,
        fingerprint=fingerprint,
        range=dates,
        registration=None,
        sharpe_per_session=sharpe,
    )


def test_it_lies_beside_the_cache():
    assert trials_beside(Path("data/v2/gpu_cache.pt")) == Path("data/v2/gpu_cache.pt.trials.jsonl")


def test_a_line_says_what_was_done_and_when(path):
    assert add_trial(path) and add_look(path, sharpe=float("nan"))
    trial, look = (json.loads(line) for line in path.read_text().splitlines())
    assert (trial["kind"], trial["seed"], trial["validated"]) == ("trial", 0, ["2016-01-04", "2018-12-31"])
    assert (look["kind"], look["range"], look["sharpe_per_session"]) == ("look", list(LATER), None)
    assert trial["at"].endswith("Z") and trial["at"].startswith("20")


def test_each_configuration_and_seed_is_one_trial_however_often_it_is_resumed(path):
    add_trial(path, "a", "c1", 0)
    add_trial(path, "a", "c1", 0)  # resumed
    add_trial(path, "a", "c1 prolonged", 0)
    add_trial(path, "again", "c1", 0)  # the same settings in another folder
    add_trial(path, "b", "c1", 1)
    add_trial(path, "c", "c2", 0)
    add_look(path, "judged", "c3", 0)  # never trained here
    assert read(path).n_trials("f") == 4


def test_trials_on_other_data_do_not_count_unless_all_are_asked_for(path):
    add_trial(path, "a", "c1", fingerprint="f")
    add_trial(path, "b", "c2", fingerprint="other")
    assert (read(path).n_trials("f"), read(path).n_trials(), read(path).n_trials("none")) == (1, 2, 0)


def test_every_look_at_a_range_that_overlaps_counts(path):
    add_look(path, dates=("2019-01-02", "2020-12-31"))
    add_look(path, "b", dates=("2020-12-31", "2022-12-27"))
    add_look(path, "b", dates=("2020-12-31", "2022-12-27"))
    add_look(path, dates=("2010-01-04", "2018-12-31"))
    found = read(path)
    assert found.looks("2019-01-02", "2020-12-31") == 3
    assert found.looks("2018-12-31", "2018-12-31") == 1
    assert found.looks("2023-01-02", "2023-12-29") == 0


def test_a_trials_sharpe_is_that_of_its_look_else_that_of_its_validation(path):
    add_trial(path, "a", "c1", sharpe=0.05)
    add_look(path, "a", "c1", sharpe=0.01)
    add_look(path, "a", "c1", sharpe=0.02)  # looked again: the last counts
    add_trial(path, "b", "c2", sharpe=0.04)
    add_look(path, "b", "c2", dates=("2016-01-04", "2018-12-31"), sharpe=0.09)  # elsewhere
    add_trial(path, "c", "c3", sharpe=None)
    add_trial(path, "d", "c4", sharpe=0.5, fingerprint="other")
    assert sorted(read(path).sharpes(*LATER, "f")) == [0.02, 0.04]
    assert sorted(read(path).sharpes(*LATER)) == [0.02, 0.04, 0.5]


def test_without_a_ledger_no_count_is_known(path):
    found = read(path)
    assert found == Trials(known=False)
    assert (found.n_trials("f"), found.looks(*LATER), found.sharpes(*LATER), found.knows("a")) == (
        None,
        None,
        None,
        False,
    )


def test_a_run_that_the_ledger_does_not_know_makes_the_counts_unknown(path):
    add_trial(path, "a")
    found = read(path)
    assert found.knows("a") and not found.knows("b")
    assert found.n_trials("f", run="a") == 1 and found.n_trials("f", run="b") is None
    assert found.looks(*LATER, run="b") is None and found.sharpes(*LATER, run="b") is None


def test_a_folder_that_cannot_be_written_is_told_once_and_the_count_is_unknown(tmp_path):
    (tmp_path / "no folder").write_text("")  # root could write into any real folder
    path, said = tmp_path / "no folder" / "x.trials.jsonl", []
    ledger = TrialLedger(path, said.append)
    words = {"run": "a", "configuration": "c", "fingerprint": "f", "sharpe_per_session": 0.1, "seed": 0}
    assert not ledger.add_trial(**words, validated=None)
    assert not ledger.add_look(**words, range=LATER, registration=None)
    assert len(said) == 1 and str(path) in said[0]


def test_an_entry_that_could_not_be_written_makes_the_ledgers_counts_unknown(path, monkeypatch):
    add_trial(path, "a")
    said = []
    ledger = TrialLedger(path, said.append)
    assert ledger.read().n_trials() == 1
    monkeypatch.setattr(module, "_append", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    ledger.add_look(
        run="a", configuration="c", seed=0, fingerprint="f", range=LATER, registration=None, sharpe_per_session=None
    )
    assert ledger.read().looks(*LATER) is None and ledger.read().n_trials() is None
    assert len(said) == 1 and "Permission denied" in said[0]


@pytest.mark.parametrize(
    "nonsense",
    [
        "hello",
        "[1, 2]",
        '{"kind": "trial"}',
        '{"kind": "bet", "run": "a"}',
        lambda good: good.replace('"seed": 0', '"seed": "0"'),
        lambda good: good.replace('"seed": 0', '"seed": true'),
        lambda good: good.replace("2016-01-04", "long ago"),
        lambda good: good.replace("0.05", "NaN"),
        lambda good: good.replace('"run"', '"runs"'),
        lambda good: good[:-3],
    ],
)
def test_a_file_edited_into_nonsense_is_refused_with_the_line(path, nonsense):
    add_trial(path)
    good = path.read_text()
    bad = nonsense if isinstance(nonsense, str) else nonsense(good)
    assert bad != good
    path.write_text(good + bad.rstrip("\n") + "\n" + good)
    with pytest.raises(UserError, match=r"trials\.jsonl, line 2 is no entry of a trial ledger"):
        read(path)
    path.write_text(good + "\n" + good)  # a blank line is no nonsense
    assert read(path).n_trials() == 1


def test_a_torn_line_is_told_counted_and_never_joined_to_the_next(path):
    add_trial(path, "a", "c1")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    said = []
    found = read(path, said.append)
    assert len(said) == 1 and "line 2 was cut off" in said[0]
    assert found.torn == (2,) and (found.n_trials(), found.looks(*LATER)) == (2, 1)
    add_trial(path, "b", "c2")
    assert path.read_bytes().startswith(whole + whole[:40])  # only ever added to
    found = read(path, said.append)
    assert [x.run for x in found.entries] == ["a", "b"] and found.torn == (2,) and "line 2" in said[1]


def test_an_entry_that_lost_only_its_newline_counts(path):
    add_trial(path, "a", "c1")
    path.write_bytes(path.read_bytes()[:-1])
    assert read(path, never).n_trials() == 1
    add_trial(path, "b", "c2")
    assert read(path, never).n_trials() == 2


def _append_many(path, writer, both_are_there):
    both_are_there.wait(60)  # else the first would have finished before the second has begun
    for k in range(50):
        add_trial(path, f"{writer} {k}", f"{writer} {k}" + "x" * 3000)


def test_two_processes_that_append_at_once_lose_nothing(path):
    spawn = multiprocessing.get_context("spawn")
    both_are_there = spawn.Barrier(2)
    writers = [spawn.Process(target=_append_many, args=(path, name, both_are_there)) for name in ("left", "right")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    found = read(path, never)
    assert {x.run for x in found.entries} == {f"{name} {k}" for name in ("left", "right") for k in range(50)}
    assert len(found.entries) == found.n_trials() == 100


def _die_in_mid_append(path):
    write = os.write

    def half(descriptor, text):
        write(descriptor, text[: len(text) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    module.os.write = half
    add_trial(path, "killed", "c2")


def test_a_writer_killed_in_mid_append_leaves_the_others_entries_and_no_lock(path):
    add_trial(path, "a", "c1")
    victim = multiprocessing.get_context("spawn").Process(target=_die_in_mid_append, args=(path,))
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    assert not path.read_bytes().endswith(b"\n")
    add_trial(path, "b", "c3")
    said = []
    found = read(path, said.append)
    assert [x.run for x in found.entries] == ["a", "b"] and found.torn == (2,) and len(said) == 1
