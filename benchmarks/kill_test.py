"""Does a run survive kill -9, and damaged files?

Kills a real training process at random instants, resumes it each time, and compares the end with an undisturbed run, bit for
bit; and reads checkpoints that were truncated or had bits flipped.

    python benchmarks/kill_test.py --kills 100 [--seed 0] [--json FILE]
    python benchmarks/kill_test.py --damage 1000

Every second kill waits until a checkpoint is being written. Both need the embedded market's cache
(`tactician build-cache --config embedded_sp500`).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from command_line import cached_market, run

from tactician.errors import UserError
from tactician.training.checkpoint import read_checkpoint

SMALL = (
    "train --config embedded_sp500 --device cpu --hidden-dim 32 --n-gru-layers 2 --dropout 0.1 --n-envs 16 "
    "--episode-length 64 --n-steps 64 --batch-size 256 --save-every 1 --validate-every 50 --quiet"
)
STATE = (
    "model_state_dict",
    "actor_optimizer_state_dict",
    "critic_optimizer_state_dict",
    "precision",
    "env_state",
    "hidden",
)
COUNTERS = (
    "iteration",
    "timesteps",
    "total_trades",
    "winning_trades",
    "best_reward",
    "best_validation",
    "best_iteration",
)


def start(folder: Path, iterations: int) -> subprocess.Popen:
    words = [*SMALL.split(), "--checkpoint-dir", str(folder), "--iterations", str(iterations), "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "tactician", *words], stdout=subprocess.DEVNULL, env=environment)


def finish(folder: Path, iterations: int) -> dict:
    process = start(folder, iterations)
    if process.wait() != 0:
        sys.exit(f"training ended with exit code {process.returncode}")
    return read_checkpoint(folder / "model_final.pt")


def same(a: object, b: object) -> bool:
    """Bit for bit, through nested mappings and sequences."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def kill(process: subprocess.Popen, folder: Path, patience: float, while_saving: bool) -> bool:
    """Kill the process after some time, or in the midst of the first save after that. Whether it had not ended by itself."""
    begun = time.monotonic()
    while time.monotonic() - begun < patience and process.poll() is None:
        time.sleep(0.001)
    while while_saving and process.poll() is None and not any(folder.glob(".model_*.tmp")):
        pass
    process.kill()
    return process.wait() != 0


def survive(kills: int, seed: int) -> dict:
    draw = random.Random(seed)
    report = {"kills": 0, "kills_in_a_save": 0, "unreadable_files": 0}
    with tempfile.TemporaryDirectory() as place:
        folder, calm = Path(place, "killed"), Path(place, "calm")
        begun = time.monotonic()
        finish(calm, 1)
        to_start = time.monotonic() - begun
        reached = 1
        while report["kills"] < kills:
            saving = report["kills"] % 2 == 1
            if not kill(start(folder, 10**6), folder, draw.uniform(0.2, 1.0 + 0.8 * saving) * to_start, saving):
                sys.exit("training ended by itself")
            report["kills"] += 1
            report["kills_in_a_save"] += any(folder.glob(".model_*.tmp"))
            for path in folder.glob("model_*.pt"):
                try:
                    reached = max(reached, read_checkpoint(path)["progress"]["iteration"])
                except UserError:
                    report["unreadable_files"] += 1
            print(f"killed {report['kills']} times, iteration {reached}", end="\r", flush=True)
        report["iterations"] = reached + 5
        survivor, undisturbed = finish(folder, reached + 5), finish(calm, reached + 5)
    report["differences"] = [key for key in STATE if not same(survivor[key], undisturbed[key])]
    report["differences"] += [k for k in COUNTERS if survivor["progress"][k] != undisturbed["progress"][k]]
    return report


def damage(files: int, seed: int) -> dict:
    draw = random.Random(seed)
    events: list[str] = []
    report = {"files": files, "refused": 0, "unharmed": 0, "harmed_in_silence": 0, "code_run": 0}
    with tempfile.TemporaryDirectory() as place:
        whole = finish(Path(place), 2)
        data = Path(place, "model_final.pt").read_bytes()
        path = Path(place, "damaged.pt")
        watched = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "exec", "shutil.", "socket.")
        sys.addaudithook(lambda event, _: events.append(event) if event.startswith(watched) else None)
        for k in range(files):
            broken = bytearray(data)
            if k % 2:
                del broken[draw.randrange(len(broken)) :]
            else:
                for _ in range(draw.choice((1, 1, 1, 16))):
                    broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
            path.write_bytes(broken)
            events.clear()
            try:
                report["unharmed" if same(read_checkpoint(path), whole) else "harmed_in_silence"] += 1
            except UserError as error:
                report["refused"] += len(str(error).splitlines()) == 1
            report["code_run"] += bool(events)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--damage", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cached_market("embedded_sp500")  # refused here rather than in each process
    report = {}
    if args.kills:
        report["survived"] = survive(args.kills, args.seed)
    if args.damage:
        report["damaged"] = damage(args.damage, args.seed)
    print("\n" + json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    bad = report.get("survived", {}).get("differences") or report.get("survived", {}).get("unreadable_files")
    harmed = report.get("damaged", {})
    sys.exit(1 if bad or harmed.get("harmed_in_silence") or harmed.get("code_run") else 0)


if __name__ == "__main__":
    run(main)
