"""Two runs never write into one folder, and no lock outlives its holder."""

import json
import signal
import stat
from pathlib import Path

import pytest

from tactician.cli import main
from tactician.errors import UserError
from tactician.training import lock
from tactician.training.lock import only_run_in, only_writer
from tests.training.test_interruption import start, wait_for


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tiny, tmp_path, refused, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    folder, log = tmp_path / "run", tmp_path / "log"
    process = start(tiny, folder, "--iterations", "100000", log=log)
    try:
        wait_for(log, "Iteration 2 |", process)
        before = {path.name for path in folder.iterdir()}
        words = ["train", "--config", str(tiny), "--checkpoint-dir", str(folder), "-q"]
        for more in ([], ["--resume"]):
            said = refused(*words, *more)
            assert f"{folder} is in use by another run (process {process.pid} on " in said
            assert "--checkpoint-dir" in said
        assert before <= {path.name for path in folder.iterdir()}
        assert main([*words, "--dry-run", "--json"]) == 0  # looking is free
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert main([*words, "--iterations", "1"]) == 0
    finally:
        process.kill()


def test_a_folder_that_was_made_in_vain_is_removed_and_one_with_files_is_kept(tmp_path):
    folder = tmp_path / "a" / "b"
    with pytest.raises(UserError, match="no reason"), only_run_in(folder):
        assert json.loads((folder / ".lock.holder").read_text())["pid"]
        raise UserError("no reason")
    assert not (tmp_path / "a").exists()
    with only_run_in(folder):
        (folder / "model_final.pt").touch()
    assert {path.name for path in folder.iterdir()} == {"model_final.pt", ".lock"}
    (tmp_path / "there").mkdir()
    with only_run_in(tmp_path / "there"):
        pass
    assert (tmp_path / "there").is_dir()


def test_where_nothing_can_be_written_it_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot write to .*--checkpoint-dir"), only_run_in(tmp_path / "file" / "run"):
        pass


def test_a_file_system_without_locks_holds_nobody_up(tmp_path, monkeypatch):
    def none(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(lock.FileLock, "acquire", none)
    with only_run_in(tmp_path):
        (tmp_path / "x").touch()


def test_two_studies_do_not_write_into_one_file(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    out = tmp_path / "study.json"
    with only_writer(tmp_path / ".study.json.lock", out, "--out"):
        said = refused("learnability", "--markets", "null", "--seeds", "1", "--out", str(out), "--json")
    assert f"{out} is in use by another run (process " in said and "--out" in said


def test_the_next_seed_gets_a_folder_of_its_own(tiny, tmp_path, capsys):
    assert main(["train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path / "run"), "--iterations", "1"]) == 0
    said = "".join(capsys.readouterr().out.split("\n"))
    assert f"--seed 1 --checkpoint-dir {tmp_path / 'run_seed1'}" in said
    words = ["--checkpoint-dir", str(tmp_path / "run_seed1"), "--seed", "1", "--iterations", "1"]
    assert main(["train", "--config", str(tiny), *words]) == 0
    said = "".join(capsys.readouterr().out.split("\n"))
    assert f"--seed 2 --checkpoint-dir {tmp_path / 'run_seed2'}" in said


def test_a_run_may_live_where_the_program_was_started(tiny, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["train", "--config", str(tiny), "--checkpoint-dir", ".", "--iterations", "1"]) == 0
    said = "".join(capsys.readouterr().out.split("\n"))
    assert f"--checkpoint-dir {tmp_path / 'here_seed1'}" in said and (tmp_path / "here" / "report.json").exists()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_are_as_readable_as_the_users_umask_makes_them(tmp_path, umask, mode):
    import os

    from tactician.storage import save_tensors, save_text

    before = os.umask(umask)
    try:
        save_text("x", tmp_path / "report.json")
        save_tensors({"format": "x"}, tmp_path / "model.pt")
    finally:
        os.umask(before)
    for name in ("report.json", "model.pt"):
        assert stat.S_IMODE(Path(tmp_path / name).stat().st_mode) == mode
