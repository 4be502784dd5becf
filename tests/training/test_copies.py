"""Several processes compare their copies of the policy: a run whose copies differ stops in one sentence."""

import os
from functools import partial

import pytest
import torch

from tactician.hardware.processes import SINGLE, Process
from tactician.learning import Collective
from tactician.training import loop
from tactician.training.checkpoint import read_checkpoint
from tactician.training.copies import EVERY, compare_copies, stop_if_copies_differ
from tests.hardware.test_processes import side_by_side, together, training

pytestmark = pytest.mark.whole_probe


def flip_a_bit_of_the_second_copy(iteration: int, bit: int) -> None:
    """One bit of one weight, at the end of one iteration's update."""
    if os.environ["RANK"] != "1":
        return
    update = loop.update

    def broken(learner, *arguments, **named):
        found = update(learner, *arguments, **named)
        if named["iteration"] + 1 == iteration:
            learner.policy.policy_head[-1].weight.data.view(-1).view(torch.int32)[3] ^= 2**bit
        return found

    loop.update = broken


def refused(words, folder, iteration: int, bit: int) -> str:
    """The one sentence that a run says whose copies part in an iteration."""
    codes, said = side_by_side([words] * 2, folder, partial(flip_a_bit_of_the_second_copy, iteration, bit))
    assert codes == [2, 2] and "Traceback" not in "".join(said), "\n".join(said)
    told = [line for text in said for line in text.splitlines() if line.startswith("tactician train:")]
    assert len(told) == 1, "\n".join(said)
    return told[0].removeprefix("tactician train: ")


def test_copies_that_differ_after_the_first_iteration_stop_the_run_and_nothing_is_saved(tiny, tmp_path):
    words = training(tiny, tmp_path / "run", "--iterations", "3", "--save-every", "1")
    told = refused(words, tmp_path, iteration=1, bit=0)
    assert told == "After iteration 1 the processes' copies of the parameters differ: start the run again."
    assert not list((tmp_path / "run").glob("*.pt"))


def test_copies_that_part_later_are_found_at_the_next_comparison_and_the_run_can_be_resumed(tiny, tmp_path):
    words = training(tiny, tmp_path / "run", "--save-every", "1", "--validate-every", "100", "-q")
    together([[*words, "--iterations", "2"]] * 2, tmp_path)
    more = [*words, "--iterations", str(EVERY + 1), "--resume"]
    # Later steps round a difference of the last bit away. One of a quarter of the weight stays.
    told = refused(more, tmp_path, iteration=5, bit=21)
    assert told == (
        "After iteration 16 the processes' copies of the parameters differ: resume from the last checkpoint with --resume, "
        "or with --checkpoint from one of iteration 3 or before, when they were equal."
    )
    saved = {int(path.stem[-6:]) for path in (tmp_path / "run").glob("model_iteration_*.pt")}
    assert max(saved) == EVERY - 1
    together([more] * 2, tmp_path)
    assert read_checkpoint(tmp_path / "run" / "model_final.pt")["progress"]["iteration"] == EVERY + 1


def test_one_process_computes_nothing():
    assert compare_copies(SINGLE, policy=None, iteration=1, begun_at=0) == {}


@pytest.mark.parametrize(
    ("iteration", "begun_at", "equal"), [(33, 32, 32), (32, 20, 21), (32, 3, 16), (16, 0, 1), (48, 31, 32)]
)
def test_the_last_iteration_with_equal_copies_is_named(iteration, begun_at, equal):
    process, metrics = Process(Collective(0, 2)), {"copies_differ": 1.0, "reward": 0.0}
    with pytest.raises(Exception, match=f"from one of iteration {equal} or before") as told:
        stop_if_copies_differ(process, metrics, iteration, begun_at)
    assert told.value.exit_code == 2 and metrics == {"reward": 0.0}
    equal_copies = {"copies_differ": 0.0, "reward": 0.0}
    stop_if_copies_differ(process, equal_copies, iteration, begun_at)
    assert equal_copies == {"reward": 0.0}
