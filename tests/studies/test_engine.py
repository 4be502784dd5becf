"""Engines: all jobs are done wherever they run, mistakes come back as they are, and a stop ends the workers at once."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import torch

from tactician.errors import UserError
from tactician.studies.engine import attempt, make_engine
from tactician.studies.engine_local import LocalEngine, default_processes
from tests.signals import as_from_a_terminal
from tests.studies import engine_jobs

SHARED = {"target": torch.linspace(-1, 1, 256)}


def gathered(engine, work, jobs, shared):
    results = dict(engine.run(work, jobs, shared))
    return [results[k] for k in range(len(jobs))]


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def begun(folder, n, patience=60):
    """Process numbers of the workers that have begun, once there are n."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = [int(path.name.rpartition("_")[2]) for path in Path(folder).glob("begun_*")]
        if len(found) >= n:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{n} jobs have not begun")


def test_a_worker_computes_what_this_process_computes_on_one_thread():
    jobs = [5, 2, 9]
    before = torch.get_num_threads()
    try:
        here = [attempt(engine_jobs.learn, job, SHARED).get() for job in jobs]
    finally:
        torch.set_num_threads(before)
    assert gathered(LocalEngine(2), engine_jobs.learn, jobs, SHARED) == here
    assert {threads for _, threads in here} == {1} and len({bits for bits, _ in here}) == 3


def test_no_jobs_need_no_workers():
    assert list(LocalEngine(2).run(engine_jobs.learn, [], SHARED)) == []


def test_a_users_mistake_comes_back_as_it_was_said_whatever_its_class():
    with pytest.raises(UserError, match=r"^the file x.csv has no column 'date'$"):
        gathered(LocalEngine(1), engine_jobs.fail, [0, 1, 2], None)


def test_a_fault_of_the_program_is_not_hidden():
    with pytest.raises(ZeroDivisionError, match="a fault of the program"):
        gathered(LocalEngine(1), engine_jobs.break_down, [0], None)


def test_a_worker_that_is_killed_ends_the_study_with_a_sentence():
    with pytest.raises(UserError, match="process was killed"):
        gathered(LocalEngine(1), engine_jobs.die, [0], os.getpid())


def test_whoever_stops_early_leaves_no_worker_behind(tmp_path):
    with closing(LocalEngine(2).run(engine_jobs.slow, [0, 1, 2], str(tmp_path))) as results:
        assert next(results) == (0, 0)
        workers = begun(tmp_path, 3)
        at = time.monotonic()
    assert time.monotonic() - at < 10 and not any(map(alive, workers))


PARENT = """
    import sys
    from contextlib import closing
    from tactician.studies.engine import exit_code, stopped_by_signals
    from tactician.studies.engine_local import LocalEngine
    from tests.studies import engine_jobs

    if __name__ == "__main__":
        try:
            with stopped_by_signals(), closing(LocalEngine(2).run(engine_jobs.slow, [1, 2, 3], sys.argv[1])) as results:
                list(results)
        except KeyboardInterrupt as stop:
            sys.exit(exit_code(stop))
    """


def started(tmp_path):
    """A study in a process group of its own, as a shell starts it."""
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])}
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=as_from_a_terminal,
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_to_the_whole_group_stops_the_workers_at_once_and_without_a_word(tmp_path, number, code):
    study = started(tmp_path)
    workers = begun(tmp_path, 2)
    os.killpg(study.pid, number)
    said, _ = study.communicate(timeout=20)
    assert (study.returncode, said) == (code, b"") and not any(map(alive, workers))


def test_an_interrupt_while_workers_are_still_starting_is_as_quiet(tmp_path):
    study = started(tmp_path)
    parent, deadline = psutil.Process(study.pid), time.monotonic() + 60
    while not any("spawn_main" in " ".join(child.cmdline()) for child in parent.children()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(study.pid, signal.SIGINT)
    assert study.communicate(timeout=30)[0] == b"" and study.returncode == 130


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    study = started(tmp_path)
    workers = begun(tmp_path, 2)
    study.kill()
    study.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    study.communicate()


def test_the_number_of_processes_is_that_of_the_cores_or_the_users():
    assert make_engine("local").slots == default_processes() and make_engine("local", processes=3).slots == 3
    assert make_engine("local", gpu=True).slots == 1


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("local", {"address": "auto"}, "add --engine ray"),
        ("ray", {"address": "auto", "processes": 3}, "leave out one"),
        ("ray", {"address": "ray://host:10001"}, "on a machine of the cluster"),
    ],
)
def test_flags_that_contradict_one_another_are_refused(name, flags, said):
    with pytest.raises(UserError, match=said):
        make_engine(name, **flags)


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'tactician\[cluster\]'"):
        make_engine("ray")


def test_what_is_no_sequence_is_asked_for_a_job_when_a_slot_is_free():
    """So the next job may depend on all results so far."""
    taken, known = [], []

    def jobs():
        for job in range(5):
            known.append(len(taken))
            yield job

    for number, result in LocalEngine(2).run(engine_jobs.learn, jobs(), SHARED):
        taken.append((number, result))
    assert sorted(number for number, _ in taken) == [0, 1, 2, 3, 4]
    assert known[:2] == [0, 0] and all(n >= k - 1 for k, n in enumerate(known))
    assert dict(taken) == dict(LocalEngine(1).run(engine_jobs.learn, range(5), SHARED))
    assert list(LocalEngine(2).run(engine_jobs.learn, iter(()), SHARED)) == []
