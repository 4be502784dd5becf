"""Ctrl+C, SIGTERM and kill -9 on real training processes."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tactician.cli import main
from tactician.training.checkpoint import newest_checkpoint, read_checkpoint
from tactician.training.interruption import Interruption
from tests.programs import Program
from tests.signals import as_from_a_terminal
from tests.training.test_resume_is_bit_exact import differences, state

STARTED: list[Program] = []


@pytest.fixture(autouse=True)
def nothing_is_left_running():
    yield
    for process in STARTED:
        process.kill()
    STARTED.clear()


def start(tiny: Path, folder: Path, *words: str, log: Path) -> Program:
    STARTED.append(Program("train", "--config", str(tiny), "--checkpoint-dir", str(folder), *words, log=log))
    return STARTED[-1]


def finish(tiny: Path, folder: Path, *words: str, log: Path) -> None:
    """Run to the end as `start` does: sums over another number of threads would round differently."""
    assert start(tiny, folder, *words, log=log).wait(120) == 0, log.read_text()


def wait_for(log: Path, text: str, process: Program, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if text in log.read_text():
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(f"'{text}' did not appear: {log.read_text()}")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_the_first_signal_finishes_the_iteration_saves_and_exits(tiny, tmp_path, number, code):
    log, folder = tmp_path / "log", tmp_path / "run"
    process = start(tiny, folder, "--iterations", "100000", log=log)
    wait_for(log, "Iteration 3 |", process)
    process.send_signal(number)
    assert process.wait(30) == code
    said = log.read_text()
    assert "finishing this iteration, then saving" in said and "Go on with:" in said
    saved = [p for p in folder.iterdir() if re.fullmatch(r"model_interrupted_\d{8}_\d{6}\.pt", p.name)]
    assert len(saved) == 1 and "Traceback" not in said
    # What is saved is the end of an iteration of the undisturbed run.
    iteration = read_checkpoint(saved[0])["progress"]["iteration"]
    finish(tiny, tmp_path / "calm", "--iterations", str(iteration), log=log)
    calm, stopped = state(tmp_path / "calm" / "model_final.pt"), state(saved[0])
    for part in ("model_state_dict", "actor_optimizer_state_dict", "env_state", "hidden"):
        assert differences(calm[part], stopped[part]) == []


def test_the_second_ctrl_c_leaves_at_once_without_saving(tiny, tmp_path):
    log, folder = tmp_path / "log", tmp_path / "run"
    # One iteration would take minutes: the second signal must not wait for it.
    words = (
        "--n-envs",
        "512",
        "--hidden-dim",
        "256",
        "--n-gru-layers",
        "3",
        "--iterations",
        "3",
        "--ppo-epochs",
        "500",
    )
    process = start(tiny, folder, *words, log=log)
    wait_for(log, "Iteration 1 |", process)
    process.send_signal(signal.SIGINT)
    wait_for(log, "Once more to leave at once", process)
    assert process.poll() is None
    time.sleep(0.5)  # two signals in a moment are one request
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not list(folder.glob("model_*"))
    last = log.read_text().splitlines()[-1]
    assert last == "Left at once; what this iteration has learnt is not saved."


def test_a_signal_is_answered_while_python_is_busy_in_one_long_operation():
    """A large layer on a CPU takes seconds, and Python calls no handler in between."""
    program = """
import hashlib, os, signal, threading
from tactician.training.interruption import Interruption
with Interruption(lambda: 11.6) as stop:
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)  # outside of Python for seconds, as a kernel of torch is
    print("operation over", flush=True)
print(stop.exit_code, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said, _ = process.communicate(timeout=60)
    first, second, third = said.split("\n", 1)[1].splitlines()
    assert first == (
        "Ctrl+C: finishing this iteration, then saving (about 12 s). Once more to leave at once, without saving."
    )
    assert (second, third) == ("operation over", "130")


def test_handlers_are_put_back_and_nohup_stays_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    mine = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background job
    try:
        with Interruption() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            time.sleep(0.1)
            assert stop.signal_number is None and stop.exit_code == 0
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
            assert stop.signal_number == signal.SIGINT and stop.exit_code == 130
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGINT, mine)


def test_beside_the_main_thread_nothing_is_handled():
    found = []

    def use():
        with Interruption() as stop:
            found.append(stop.exit_code)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == [0]


@pytest.mark.parametrize(("wait_until", "verdict"), [("Iteration 1 |", False), ("Iteration 4 |", True)])
def test_an_interrupted_run_says_what_came_out_so_far_without_a_look_at_the_test_range(
    tiny, tmp_path, wait_until, verdict
):
    log, folder = tmp_path / "log", tmp_path / "run"
    words = ("--iterations", "100000", "--validate-every", "3" if verdict else "1000")
    process = start(tiny, folder, *words, log=log)
    wait_for(log, wait_until, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    said, summary = log.read_text(), json.loads((folder / "report.json").read_text())["run"]
    assert summary["finished"] is False and "test" not in summary and summary["test_looks"] == 0
    assert ("validation" in summary) == verdict
    assert ("Verdict so far: the agent is" in said) == verdict
    assert ("No verdict yet: the first validation comes after iteration 1000" in said) != verdict
    (saved,) = folder.glob("model_interrupted_*")
    assert read_checkpoint(saved)["seen"]["looks"] == []


@pytest.mark.parametrize(
    "phase", ["bars.read_source", "market.market_of", "environment.build_market_tensors", "environment.save_market"]
)
def test_ctrl_c_while_the_cache_is_built_leaves_nothing(tiny, tmp_path, monkeypatch, capsys, phase):
    def interrupted(*_, **__):  # a process that is told from outside may be done before it hears
        raise KeyboardInterrupt

    monkeypatch.setattr(f"tactician.{phase}", interrupted)
    assert main(["build-cache", "--config", str(tiny), "--cache-path", str(tmp_path / "c.pt")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_killed_runs_that_resume_end_bit_equal_to_an_undisturbed_one(tiny, tmp_path):
    # benchmarks/kill_test.py does this a hundred times.
    words = ("--iterations", "7", "--save-every", "1", "--resume")
    finish(tiny, tmp_path / "calm", *words, log=tmp_path / "calm_log")
    folder, log = tmp_path / "run", tmp_path / "log"
    for iteration in (2, 5):
        process = start(tiny, folder, *words, log=log)
        wait_for(log, f"Iteration {iteration} |", process)
        process.kill()
        process.wait()
        path, content, complaints = newest_checkpoint(folder)
        assert path is not None and content is not None and not complaints
    finish(tiny, folder, *words, log=log)
    assert differences(state(tmp_path / "calm" / "model_final.pt"), state(folder / "model_final.pt")) == []
    assert not list(folder.glob(".*.tmp"))


class Terminal:
    """A pseudo-terminal in which a command runs, as its session's leader, with this end in our hands."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log, self.text = log, ""
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            as_from_a_terminal()
            os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "80"}
            os.execv(command[0], command)

    def wait_for(self, text: str, seconds: float = 90) -> None:
        until = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < until, self.text[-500:]
            if select.select([self.end], [], [], 0.05)[0]:
                read = os.read(self.end, 65536).decode(errors="replace")
                self.text = (self.text + re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read))[-5000:]

    def close(self) -> None:
        os.close(self.end)

    def exit_code(self, seconds: float = 60) -> int:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("it did not end")


def training(tiny: Path, folder: Path) -> list[str]:
    words = ["train", "--config", str(tiny), "--checkpoint-dir", str(folder), "--iterations", "100000"]
    return [sys.executable, "-m", "tactician", *words]


def test_closing_the_terminal_saves_the_run(tiny, tmp_path):
    terminal = Terminal(training(tiny, tmp_path / "run"), tmp_path / "log")
    terminal.wait_for("Iteration 3 |")
    terminal.close()
    assert terminal.exit_code() == 129
    assert len(list((tmp_path / "run").glob("model_interrupted_*"))) == 1
    assert json.loads((tmp_path / "run" / "report.json").read_text())["run"]["finished"] is False


@pytest.mark.slow
def test_closing_a_shell_that_writes_to_a_pipe_saves_the_run(tiny, tmp_path):
    """The kernel and the shell each send SIGHUP, and what reads the output dies of it, too."""
    command = " ".join(training(tiny, tmp_path / "run")) + f" 2>&1 | tee {tmp_path / 'log'}"
    terminal = Terminal(["/bin/bash", "--norc", "-ic", command], tmp_path / "log")
    terminal.wait_for("Iteration 3 |")
    terminal.close()
    until = time.monotonic() + 60
    while not list((tmp_path / "run").glob("model_interrupted_*.pt")):
        assert time.monotonic() < until
        time.sleep(0.1)
    with suppress(AssertionError):
        terminal.exit_code(20)


def test_ctrl_c_saves_a_run_whose_reader_dies_of_it(tiny, tmp_path):
    command = " ".join(training(tiny, tmp_path / "run")) + f" 2>&1 | tee {tmp_path / 'log'}; exit ${{PIPESTATUS[0]}}"
    terminal = Terminal(["/bin/bash", "--norc", "-c", command], tmp_path / "log")
    terminal.wait_for("Iteration 3 |")
    os.write(terminal.end, b"\x03")
    assert terminal.exit_code() in (130, -2)
    assert len(list((tmp_path / "run").glob("model_interrupted_*"))) == 1
    assert json.loads((tmp_path / "run" / "report.json").read_text())["run"]["finished"] is False


def test_two_signals_in_a_moment_are_one_request(tiny, tmp_path):
    """`timeout` sends its signal to the child and then to the group."""
    log, folder = tmp_path / "log", tmp_path / "run"
    process = start(tiny, folder, "--iterations", "100000", log=log)
    wait_for(log, "Iteration 2 |", process)
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    assert process.wait(60) in (129, 130)  # if they arrive at once, the lowest number is delivered first
    assert len(list(folder.glob("model_interrupted_*"))) == 1


def test_what_is_said_in_the_last_judgement_is_true(capfd):
    with Interruption(lambda: 5.0) as stop:
        stop.saved = Path("x/model_final.pt")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
    said = capfd.readouterr().err.strip()
    assert said == "Ctrl+C: x/model_final.pt is saved; finishing its judgement. Once more to leave at once."


def test_before_a_stop_a_closed_output_is_an_error_as_ever(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

        def fileno(self):
            return os.open(os.devnull, os.O_WRONLY)

    monkeypatch.setattr(sys, "stdout", Closed())
    with Interruption():
        with pytest.raises(BrokenPipeError):
            print("x")
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        print("x")  # nobody reads it any more, because of a signal that is on its way: nothing happens
    with pytest.raises(BrokenPipeError):
        print("x")
