"""What a run has found out at its end is in its files, and no worse model replaces a better one later."""

import json
from pathlib import Path

import pytest

from tactician.cli import main
from tactician.training.checkpoint import read_checkpoint
from tests.training.test_resume_is_bit_exact import PARTS, differences


def run(tiny: Path, folder: Path, *words: str) -> int:
    return main(["train", "--config", str(tiny), "--checkpoint-dir", str(folder), "-q", *words])


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_files_say_what_the_table_says(tiny, tmp_path):
    assert run(tiny, tmp_path, "--iterations", "3", "--validate-every", "99") == 0
    *before, last = lines(tmp_path)
    assert all("validation_log_growth_annual" not in line for line in before)
    summary = json.loads((tmp_path / "report.json").read_text())["run"]
    final, best = (read_checkpoint(tmp_path / name) for name in ("model_final.pt", "model_best.pt"))
    assert summary["best_iteration"] == 3 == final["progress"]["best_iteration"] == best["progress"]["best_iteration"]
    figure = last["validation_log_growth_annual"]
    assert figure == final["progress"]["best_validation"] == best["progress"]["best_validation"]
    assert summary["last_iteration"]["validation_log_growth_annual"] == figure


def best_figure(folder: Path) -> float:
    return read_checkpoint(folder / "model_best.pt")["progress"]["best_validation"]


@pytest.mark.parametrize("seed", ["1", *(pytest.param(k, marks=pytest.mark.slow) for k in ("0", "2"))])
def test_a_better_model_of_the_first_half_outlives_a_worse_one_of_the_second(tiny, tmp_path, seed):
    words = ("--seed", seed, "--validate-every", "99", "--actor-lr", "0.01")
    found = []
    for n in (1, 2, 3, 4):
        assert run(tiny, tmp_path, "--iterations", str(n), "--resume", *words) == 0
        found.append(lines(tmp_path)[-1]["validation_log_growth_annual"])
        assert best_figure(tmp_path) == max(found)
    progress = read_checkpoint(tmp_path / "model_final.pt")["progress"]
    assert progress["best_iteration"] == 1 + found.index(max(found))


def test_halves_that_end_where_a_validation_is_due_anyway_have_the_best_model_of_the_whole(tiny, tmp_path):
    for folder, counts in (("whole", ("4",)), ("halves", ("2", "4"))):  # a validation every 2
        for n in counts:
            assert run(tiny, tmp_path / folder, "--iterations", n, "--resume") == 0
    for name in ("model_best.pt", "model_final.pt"):
        whole, halves = (read_checkpoint(tmp_path / folder / name) for folder in ("whole", "halves"))
        for part in PARTS:
            assert differences(whole[part], halves[part]) == [], (name, part)
        assert differences(whole["progress"], halves["progress"]) == []
