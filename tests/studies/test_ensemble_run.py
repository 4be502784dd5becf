"""A run that trains an ensemble: what its members see, what is kept, and how it goes on."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tactician
from tactician.cli import main
from tactician.config import load_config
from tactician.environment import inner_folds, load_cached_market
from tactician.errors import UserError
from tactician.evaluation.inference import Interval
from tactician.monitor.progress import Reporter
from tactician.policy import Ensemble, EqualWeight
from tactician.record.trials import TrialLedger, trials_beside
from tactician.storage import load_tensors, save_tensors
from tactician.studies.ensemble import prepare_members, train_ensemble
from tactician.training.checkpoint import load_policy, read_checkpoint
from tactician.training.in_use import model_in_use
from tactician.training.members import Shared, member_config, saved_members, train_member
from tests.programs import Program
from tests.trained import configuration

N = 3
QUIET = Reporter("quiet", silent=True)


class Here:
    """An engine in this process."""

    slots = 1

    def run(self, work, jobs, shared):
        """See `Engine.run`."""
        for number, job in enumerate(jobs):
            yield number, work(job, shared)


@pytest.fixture
def here(monkeypatch):
    """Members train in this process."""
    monkeypatch.setattr("tactician.studies.ensemble.member_engine", lambda _: Here())


def run(path: Path, resume: bool = False, **changes):
    config = load_config(path, changes)
    market = load_cached_market(config, "build-cache")
    setup = prepare_members(config, market, (), QUIET, resume=resume)
    return train_ensemble(setup, market, Here(), QUIET, resume=resume)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory) -> Path:
    """The configuration of a run that has trained an ensemble; its folder is ``run`` beside it."""
    path = configuration(tiny, tmp_path_factory.mktemp("ensemble"), members=N, save_every=1)
    run(path)
    return path


def weights(folder: Path) -> list[torch.Tensor]:
    return list(read_checkpoint(folder / "model_best.pt")["model_state_dict"].values())


def followed(model: Path, low: float, high: float) -> Path:
    """The same ensemble, had its held-out days given another interval."""
    content = read_checkpoint(model)
    content["found"]["difference"] = [(low + high) / 2, low, high]
    path = model.with_name("model_followed.pt")
    save_tensors(content, path)
    return path


# One file


def test_the_ensemble_holds_the_members_final_models_and_what_they_found(finished):
    folder = finished.parent / "run"
    content = load_tensors(folder / "model_best.pt")  # runs no code of the file
    pieces = content["found"]["pieces"]
    config = load_config(finished)
    market = load_cached_market(config, "build-cache")
    train = market.rows(None, config.train_until)
    cut = [market.dates_of(fold.held_out) for fold in inner_folds(train, N, config.episode_length)]
    assert [(piece["first"], piece["last"]) for piece in pieces] == cut
    for k in range(N):
        final = read_checkpoint(folder / f"member_{k + 1}" / "model_final.pt")["model_state_dict"]
        for name, value in final.items():
            assert torch.equal(content["model_state_dict"][f"members.{k}.{name}"], value)
    seeds = {read_checkpoint(folder / f"member_{k + 1}" / "model_final.pt")["config"]["seed"] for k in range(N)}
    assert len(seeds) == N and seeds.isdisjoint({seed + 1 for seed in seeds})


def test_a_file_says_how_far_it_is_followed(finished):
    model = finished.parent / "run" / "model_best.pt"
    nothing = load_policy(followed(model, -0.1, 0.1))
    assert nothing.strength == 0 and isinstance(nothing.policy, EqualWeight)
    part = load_policy(followed(model, 0.001, 0.1))
    assert 0 < part.strength < 1 and isinstance(part.policy, Ensemble)
    assert part.found.difference == Interval(0.0505, 0.001, 0.1)
    assert model_in_use(followed(model, -0.1, 0.1)).strength == 0


def test_the_ledger_counts_one_trial(finished):
    config = load_config(finished)
    market = load_cached_market(config, "build-cache")
    ledger = TrialLedger(trials_beside(config.cache), lambda _: None).read()
    assert (
        ledger.n_trials(market.fingerprint, run=read_checkpoint(finished.parent / "run" / "model_best.pt")["run"]) == 1
    )


def test_the_report_has_the_pieces_and_the_page_a_box(finished):
    page = (finished.parent / "run" / "report.html").read_text()
    assert page.count("What its members earned on days that they had left out") == 1
    first = read_checkpoint(finished.parent / "run" / "model_best.pt")["found"]["pieces"][0]["first"]
    assert first in page


# What a member sees


def test_a_member_never_reads_the_piece_that_it_leaves_out(tiny, tmp_path):
    """Its returns are made unusable: the same is learnt, and only its judgement fails."""
    config = load_config(configuration(tiny, tmp_path, members=N))
    market = load_cached_market(config, "build-cache")
    setup = prepare_members(config, market, (), QUIET, resume=False)
    fold = inner_folds(setup.splits["train"], N, config.episode_length)[1]
    poisoned = market.returns.clone()
    poisoned[fold.held_out.start : fold.held_out.stop] = torch.nan
    finals = []
    for name, returns in (("clean", market.returns), ("poisoned", poisoned)):
        job = member_config(setup.config.model_copy(update={"checkpoint_dir": tmp_path / name}), 2)
        shared = Shared(replace(market, returns=returns), setup.normaliser, ())
        if name == "clean":
            train_member(job, shared)
        else:
            with pytest.raises(UserError, match="Member 2 has no result"):
                train_member(job, shared)
        finals.append(read_checkpoint(job.checkpoint_dir / "model_final.pt"))
    assert finals[0]["value_scale"] == finals[1]["value_scale"]
    for one, other in zip(*(final["model_state_dict"].values() for final in finals), strict=True):
        assert torch.equal(one, other)


# Going on


def test_a_killed_run_leaves_no_worker_and_ends_as_if_nothing_had_happened(tiny, tmp_path, finished):
    path = configuration(tiny, tmp_path, members=N, save_every=1)
    program = Program("train", "--config", str(path), "-q", log=tmp_path / "log")
    folder, begun = tmp_path / "run", time.monotonic()
    while not list(folder.glob("member_*/model_iteration_*.pt")):
        assert time.monotonic() < begun + 60 and program.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.02)
    workers = _children(program.pid)
    assert workers
    program.kill()
    program.wait(30)
    while any(_alive(worker) for worker in workers):
        assert time.monotonic() < begun + 90
        time.sleep(0.05)
    assert not (folder / "model_best.pt").exists() and saved_members(folder) is not None
    run(path, resume=True)
    for one, other in zip(weights(folder), weights(finished.parent / "run"), strict=True):
        assert torch.equal(one, other)


def _children(pid: int) -> list[int]:
    """Processes that a process has started, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [child for child, parent in parents.items() if parent == pid]
    return found + [grandchild for child in found for grandchild in _children(child)]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_longer_run_goes_on_and_every_look_is_kept(tiny, tmp_path):
    path = configuration(tiny, tmp_path, members=N, report=False)
    first = run(path)
    again = run(path, resume=True, timesteps=1200)
    assert again.progress.timesteps == 2 * first.progress.timesteps
    assert (first.looks, again.looks) == (1, 2)
    member = read_checkpoint(tmp_path / "run" / "member_2" / "model_final.pt")
    assert [look["count"] for look in member["seen"]["looks"]] == [2]
    assert not list((tmp_path / "run").glob("**/earlier_*"))


def test_members_of_other_settings_are_set_aside_and_not_gone_on_with(tiny, tmp_path):
    path = configuration(tiny, tmp_path, members=N, report=False)
    run(path)
    run(path, resume=True, gamma=0.5)
    assert (tmp_path / "run" / "member_1" / "earlier_1" / "model_final.pt").exists()
    assert read_checkpoint(tmp_path / "run" / "member_1" / "model_final.pt")["progress"]["timesteps"] == 600


# Commands and Python


def test_the_command_resumes_without_repeating_flags_and_says_what_was_found(finished, here, capsys):
    folder = finished.parent / "run"
    assert main(["train", "--resume", "--checkpoint-dir", str(folder)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Training 3 members" in said and said.endswith(f"tensorboard --logdir {folder}")
    assert "held-out days:" in said and "days left out" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--resume", "--members", "2"], "holds 3 members, not 2"),
        (["--resume", "--members", "1"], "holds 3 members, not 1"),
        (["--checkpoint", "MODEL"], "--checkpoint goes on with a single agent"),
        (["--checkpoint", "MODEL", "--members", "1"], "is an ensemble, which is not trained further"),
        (["--multi-gpu"], "leave out --multi-gpu"),
        (["--members", "2"], "no episode of 32 is left; use more members"),
        (["--members", "300"], "too few for 300 pieces; use fewer members"),
    ],
)
def test_mistakes_have_one_sentence(finished, refused, words, told):
    model = str(finished.parent / "run" / "model_best.pt")
    assert told in refused("train", "--config", str(finished), "-q", *(model if w == "MODEL" else w for w in words))


def test_a_folder_with_a_single_agent_is_not_gone_on_with_by_members(finished, refused, tmp_path):
    save_tensors(read_checkpoint(finished.parent / "run" / "member_1" / "model_best.pt"), tmp_path / "model_best.pt")
    words = ["--config", str(finished), "-q", "--resume", "--checkpoint-dir", str(tmp_path)]
    assert "no members to go on with" in refused("train", *words)


def test_python_trains_an_ensemble_and_sets_an_earlier_one_aside(tiny, tmp_path, here):
    config = tactician.load_config(configuration(tiny, tmp_path, members=N, report=False))
    summary = tactician.train(config)
    assert summary.found is not None and len(summary.found.pieces) == N and summary.finished
    tactician.train(config)
    assert (tmp_path / "run" / "earlier_1" / "member_3" / "model_final.pt").exists()


def test_evaluate_says_the_sentence_and_a_single_member_can_be_judged(finished, capsys):
    model = followed(finished.parent / "run" / "model_best.pt", -0.1, 0.1)
    assert main(["evaluate", "--checkpoint", str(model), "--split", "validation"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Hold equal weight: nothing found (held-out days: +0.0 % per year" in said and "is equal weight" in said
    member = finished.parent / "run" / "member_2" / "model_best.pt"
    assert main(["evaluate", "--checkpoint", str(member), "--split", "validation"]) == 0
    assert "nothing found" not in capsys.readouterr().out
