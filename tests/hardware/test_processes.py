"""Several processes learn as one: the same result, one writer, a stop together, and a lost process is made up for."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from tactician.cli import main
from tactician.hardware.processes import FRESH_STORE, _note_on_store
from tactician.training.checkpoint import newest_checkpoint, read_checkpoint
from tests.programs import Program

pytestmark = pytest.mark.whole_probe


@dataclass(frozen=True)
class Host:
    """A machine, or what looks like one from inside."""

    address: str
    interface: str
    enter: tuple[str, ...] = ()
    """What a command begins with to run there."""


LONG = ("--iterations", "100000", "--save-every", "1", "--validate-every", "1000")


def torchrun(*options: str, words: list[str], log: Path, host: Host | None = None) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", FRESH_STORE: "1"}
    before: tuple[str, ...] = ()
    if host is not None:
        before, environment["GLOO_SOCKET_IFNAME"] = host.enter, host.interface
    return subprocess.Popen(
        [*before, sys.executable, "-m", "torch.distributed.run", *options, "-m", "tactician", *words],
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        env=environment,
    )


def training(tiny: Path, folder: Path, *words: str) -> list[str]:
    return ["train", "--config", str(tiny), "--checkpoint-dir", str(folder), *words]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def iteration_of(folder: Path) -> int:
    content = newest_checkpoint(folder)[1]
    return content["progress"]["iteration"] if content else 0


def wait_until(condition, process: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)


def workers(launcher: subprocess.Popen) -> list[psutil.Process]:
    return [p for p in psutil.Process(launcher.pid).children(recursive=True) if "train" in p.cmdline()]


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert main(training(tiny, folder, "--iterations", "3", "-q")) == 0
    return read_checkpoint(folder / "model_final.pt")


def side_by_side(
    words: list[list[str]], folder: Path, before: Callable[[], None] | None = None
) -> tuple[list[int], list[str]]:
    """Two processes that find one another by themselves, without a launcher: exit codes, and what each has said."""
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    logs = [folder / f"log_of_rank_{rank}" for rank in range(2)]
    programs = [
        Program(*words[rank], log=log, before=before, **meeting, RANK=str(rank), GLOO_SOCKET_IFNAME="lo")
        for rank, log in enumerate(logs)
    ]
    try:
        codes = [program.wait(150) for program in programs]
    finally:
        for program in programs:
            program.kill()
    return codes, [log.read_text() for log in logs]


def together(words: list[list[str]], folder: Path) -> list[str]:
    """Two processes that end well; what each has said."""
    codes, said = side_by_side(words, folder)
    assert codes == [0, 0], "\n".join(said)
    return said


def test_two_processes_with_half_the_environments_each_learn_what_one_learns(tiny, tmp_path, alone):
    folder = tmp_path / "run"
    said = together([training(tiny, folder, "--iterations", "3", "--dropout", "0.1")] * 2, tmp_path)
    both = read_checkpoint(folder / "model_final.pt")
    assert both["progress"]["timesteps"] == alone["progress"]["timesteps"]
    for name, value in alone["env_state"].items():
        # The same days, the same noise, the same holdings: rounding never tipped an action.
        assert torch.allclose(value.double(), both["env_state"][name].double(), rtol=1e-5, atol=1e-6), name
    for name, value in alone["model_state_dict"].items():
        theirs = both["model_state_dict"][name]
        # Adam divides a gradient by its size. Of a unit that hardly ever fires, the gradient is nearly all rounding, and its
        # weights may move apart by a part of the rate. That happens to single units, never to a share of a layer.
        near = torch.isclose(value, theirs, rtol=1e-3, atol=2e-5)
        assert near.double().mean() >= 0.99 and torch.allclose(value, theirs, rtol=0, atol=1e-3), name
    for key in (
        "reward",
        "policy_loss",
        "value_loss",
        "explained_variance",
        "entropy",
        "kl",
        "turnover_daily",
        "trades",
    ):
        assert both["metrics"][key] == pytest.approx(alone["metrics"][key], rel=1e-3, abs=1e-5), key
    # One writes and one speaks.
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert "".join(said).count("Iteration 3 |") == 1


def test_ctrl_c_stops_all_processes_with_one_save(tiny, tmp_path):
    log, folder = tmp_path / "log", tmp_path / "run"
    process = torchrun("--standalone", "--nproc-per-node", "2", words=training(tiny, folder, *LONG), log=log)
    wait_until(lambda: iteration_of(folder) >= 2, process, log)
    pids = [p.pid for p in workers(process)]
    for pid in pids:  # a terminal sends Ctrl+C to everyone
        os.kill(pid, signal.SIGINT)
    process.wait(60)
    assert len(list(folder.glob("model_interrupted_*.pt"))) == 1
    assert not any(psutil.pid_exists(pid) for pid in pids)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(params=["loopback", "namespaces"])
def hosts(request) -> Iterator[list[Host]]:
    """Two launchers on loopback; or two network namespaces, each with an interface of its own and a cable between them."""
    if request.param == "loopback":
        yield [Host("127.0.0.1", "lo")] * 2
        return
    names = [f"tact{os.getpid()}{side}" for side in "ab"]
    try:
        ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("making network namespaces needs Linux, iproute2 and the right to do so")
    made = []
    try:
        for k, name in enumerate(names):
            ip("netns", "add", name)
            made.append(Host(f"10.231.77.{k + 1}", name, ("ip", "netns", "exec", name)))
            ip("link", "set", name, "netns", name)
            for words in (f"addr add {made[k].address}/24 dev {name}", f"link set {name} up", "link set lo up"):
                ip("-n", name, *words.split())
        yield made
    finally:
        for host in made:
            ip("netns", "del", host.interface)  # takes the cable with it


@pytest.mark.slow
def test_a_process_that_is_lost_is_started_again_and_the_run_resumes_and_ends(tiny, tmp_path, hosts):
    folder, port = tmp_path / "run", free_port()
    logs = [tmp_path / f"log{k}" for k in range(2)]
    words = training(tiny, folder, "--iterations", "40", "--save-every", "1", "--validate-every", "1000")
    launchers = []
    for k, (host, log) in enumerate(zip(hosts, logs, strict=True)):
        meeting = f"--rdzv-backend=c10d --rdzv-id={port} --rdzv-endpoint={hosts[0].address}:{port}"
        meeting += f" --rdzv-conf=is_host={1 - k} --local-addr={host.address}"
        options = f"--nnodes=2 --nproc-per-node=1 --max-restarts=3 {meeting}"
        launchers.append(torchrun(*options.split(), words=words, log=log, host=host))
    try:
        wait_until(lambda: iteration_of(folder) >= 3, launchers[0], logs[0])
        workers(launchers[1])[0].kill()
        said = [log.read_text() for log, p in zip(logs, launchers, strict=True) if p.wait(150) or True]
    finally:
        for launcher in launchers:  # they would go on after a failed test
            launcher.terminate()
    assert [p.returncode for p in launchers] == [0, 0], "\n".join(said)
    assert any("Resumed from" in text for text in said)
    assert read_checkpoint(folder / "model_final.pt")["progress"]["iteration"] == 40


def test_machines_that_share_no_folder_learn_together_and_the_first_one_writes(tiny, tmp_path):
    """Each sees a disk of its own, and only the first one's knows the best model: it decides for all."""
    disks = [tmp_path / f"disk{rank}" / "run" for rank in range(2)]
    for words in (("--iterations", "3"), ("--iterations", "5", "--resume")):
        said = together([training(tiny, disk, *words) for disk in disks], tmp_path)
    assert "Resumed from" in "\n".join(said)
    first = tmp_path / "disk0" / "run"
    assert read_checkpoint(first / "model_final.pt")["progress"]["iteration"] == 5
    assert (first / "model_best.pt").exists() and (first / "report.json").exists()
    assert not (tmp_path / "disk1").exists()


@pytest.mark.parametrize(
    ("nodes", "shared", "told"), [("2", "True", True), ("2", "False", False), ("1", "True", False)]
)
def test_who_forgets_the_launchers_variable_is_told(monkeypatch, nodes, shared, told):
    monkeypatch.setenv("GROUP_WORLD_SIZE", nodes)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", shared)
    assert (_note_on_store() is not None) == told


def test_a_process_without_partners_says_so(tiny, tmp_path):
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "tactician", *training(tiny, tmp_path / "run", "--iterations", "1")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "The processes cannot find one another" in done.stderr, done.stderr


def test_multi_gpu_on_a_machine_without_says_what_it_does_instead(tiny, tmp_path, capsys):
    assert main(training(tiny, tmp_path, "--iterations", "1", "--multi-gpu", "--high-vram", "--amp")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--multi-gpu: this machine has no GPU; one process is used" in said
    assert "--high-vram sizes a run for a GPU" in said
