"""How long an iteration takes: measured part by part, and sizes that an iteration would sit on for hours."""

import json
import threading
from dataclasses import replace

import pytest
import torch

from tactician.cli import main
from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.hardware import pace as pace_module
from tactician.hardware.pace import LIMIT, Pace, fastest, fit_to_time, measure_pace, slowest
from tactician.hardware.probe import Trial
from tactician.hardware.processes import Process
from tactician.hardware.sizes import Sizes
from tactician.learning import FULL, Collective
from tactician.training.setup import prepare_run

pytestmark = pytest.mark.whole_probe

ASKED = Sizes(131_072, 256, 8_192)
FOR_EVER = 10**15


def pace_of(seconds: float, sizes: Sizes = ASKED) -> Pace:
    return Pace(seconds / sizes.samples, 2 * seconds / sizes.samples)


@pytest.fixture
def prepare(tiny):
    """Prepare a run of the tiny market: 8 environments × 32 steps unless said."""

    def run(process: Process | None = None, fixed_sizes: bool = False, **changes):
        config = load_config(tiny, {"timesteps": 10**9, **changes})
        given = {} if process is None else {"process": process}
        return prepare_run(config, load_cached_market(config, ""), fixed_sizes=fixed_sizes, **given)

    return run


@pytest.fixture
def trial(prepare):
    setup = prepare(n_envs=64, dropout=0.1, bptt_length=8)
    return Trial(setup.environment, setup.make_policy(), setup.hyper, FULL, 32, 8)


def test_an_iteration_takes_its_rollout_all_joint_epochs_and_all_critic_epochs(trial, monkeypatch):
    now = [0.0]

    def collect(self, n_envs, n_steps):
        now[0] += 1.0 * n_envs * n_steps
        return n_envs * n_steps

    def update(learner, samples, hyper, **_):
        features = 7 if hyper.critic_epochs else 0
        now[0] += samples * (0.5 + 10 * hyper.ppo_epochs + features + 2 * hyper.critic_epochs)

    monkeypatch.setattr(Trial, "collect", collect)
    monkeypatch.setattr(pace_module, "update", update)

    def measure(**epochs):
        return measure_pace(replace(trial, hyper=replace(trial.hyper, **epochs)), 64, clock=lambda: now[0])

    # 1 for acting, 10.5 per joint epoch; 0.5 + 7 + 2 for one critic epoch, 2 for each further one, or 9.5 for all of them.
    assert measure(ppo_epochs=4, critic_epochs=3) == Pace(1 + 4 * 10.5 + 9.5 + 2 * 2, 1 + 4 * 10.5 + 3 * 9.5)
    assert measure(ppo_epochs=2, critic_epochs=1) == Pace(1 + 2 * 10.5 + 9.5, 1 + 2 * 10.5 + 9.5)
    assert measure(ppo_epochs=1, critic_epochs=0) == Pace(11.5, 11.5)


def test_measuring_leaves_the_run_as_it_was(trial):
    weights = {name: x.clone() for name, x in trial.policy.state_dict().items()}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = measure_pace(trial, 64)
    assert 0 < found.keeping_features < 1
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(x, weights[name]) for name, x in trial.policy.state_dict().items())
    assert all(p.grad is None for p in trial.policy.parameters())


@pytest.mark.parametrize("seconds", [1.0, LIMIT, 1.99 * LIMIT])
def test_sizes_that_take_up_to_twice_the_limit_are_left_alone(seconds):
    assert fit_to_time(ASKED, pace_of(seconds), 8, total=FOR_EVER) == (ASKED, None)


def test_an_iteration_of_eleven_hours_gets_fewer_environments_and_that_is_said():
    # 11 h for 16,384 windows are 2.417 s each: 49 take two minutes, and 32 is the power of two below.
    sizes, said = fit_to_time(ASKED, pace_of(11 * 3600), 8, total=FOR_EVER)
    assert sizes == replace(ASKED, n_envs=32 * 8)
    assert said == (
        "131,072 environments × 256 steps would take about 11 h per iteration on this CPU; 256 are taken instead, about "
        "1 min; a GPU is made for more. --n-envs 256 takes as many in every start."
    )
    assert fit_to_time(sizes, pace_of(11 * 3600), 8, total=FOR_EVER) == (sizes, None)


def test_two_starts_with_a_clock_that_wavers_take_the_same_sizes():
    taken = {
        fit_to_time(ASKED, pace_of(11 * 3600 * noise), 8, total=FOR_EVER)[0] for noise in (0.8, 0.9, 1.1, 1.25, 1.4)
    }
    assert len(taken) == 1


@pytest.mark.parametrize(("per_window", "n_processes", "n_envs"), [(8, 1, 8), (8, 3, 24), (64, 1, 64)])
def test_a_window_per_process_is_always_left(per_window, n_processes, n_envs):
    sizes, _ = fit_to_time(ASKED, pace_of(1e9), per_window, total=FOR_EVER, n_processes=n_processes)
    assert sizes.n_envs == n_envs
    assert fit_to_time(sizes, pace_of(1e9), per_window, total=FOR_EVER, n_processes=n_processes) == (sizes, None)


def test_a_run_that_is_shorter_than_an_iteration_takes_only_its_own_time():
    asked = pace_of(10_000)
    assert fit_to_time(ASKED, asked, 8, total=ASKED.samples // 100) == (ASKED, None)
    assert fit_to_time(ASKED, asked, 8, total=ASKED.samples // 10)[0] != ASKED


def test_the_slowest_process_and_the_fastest_measurement_count():
    paces = [Pace(1.0, 5.0), Pace(2.0, 4.0)]
    assert slowest(paces) == Pace(2.0, 5.0) and fastest(paces) == Pace(1.0, 4.0)
    assert Pace(2.0, 4.0).times(0.25) == Pace(0.5, 1.0)


def test_a_run_takes_what_fits_into_two_minutes(prepare, monkeypatch):
    monkeypatch.setattr("tactician.training.setup.measure_pace", lambda *_: Pace(0.5, 0.5))
    setup = prepare(n_envs=64)  # 16 s per environment: 7 would do, and 4 is the power of two below
    assert setup.n_envs == setup.sizes.n_envs == setup.config.n_envs == 4
    assert setup.seconds_per_iteration == pytest.approx(0.5 * 4 * 32)
    assert [note for note in setup.notes if "64 environments × 32 steps would take about 17 min" in note]


def test_sizes_of_a_checkpoint_are_changed_by_memory_and_not_by_time(prepare, monkeypatch):
    monkeypatch.setattr("tactician.training.setup.measure_pace", lambda *_: Pace(0.5, 0.5))
    setup = prepare(n_envs=64, fixed_sizes=True)
    assert setup.sizes.n_envs == 64 and setup.seconds_per_iteration == 1024
    monkeypatch.setattr("tactician.training.setup.memory_budget", lambda *_: 2e6)
    assert prepare(n_envs=64, n_steps=64, fixed_sizes=True).sizes.n_envs < 64


def test_one_hiccup_of_the_machine_does_not_change_a_run(prepare, monkeypatch):
    found = iter([Pace(0.5, 0.5), Pace(1e-4, 1e-4)])
    monkeypatch.setattr("tactician.training.setup.measure_pace", lambda *_: next(found))
    assert prepare(n_envs=64).sizes.n_envs == 64


def test_features_that_are_not_kept_show_in_the_time(prepare, monkeypatch):
    monkeypatch.setattr("tactician.training.setup.measure_pace", lambda *_: Pace(0.001, 0.002))
    setup = prepare()
    assert setup.seconds_per_iteration == pytest.approx(0.256)
    frugal = replace(setup, memory=replace(setup.memory, keep_features=False))
    assert frugal.seconds_per_iteration == pytest.approx(0.512)
    assert replace(setup, pace=None).seconds_per_iteration is None


def test_the_plan_shows_the_seconds_and_the_training_sequence(tiny, capsys):
    assert main(["train", "--config", str(tiny), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert 0 < plan["seconds_per_iteration"] < 60 and plan["bptt_length"] == 32
    assert main(["train", "--config", str(tiny), "--dry-run"]) == 0
    assert "seconds_per_iteration" in capsys.readouterr().out


class Meeting:
    """Stands for torch's collectives: what each of several threads brings, to all of them."""

    def __init__(self, size: int) -> None:
        self.barrier, self.parts = threading.Barrier(size, timeout=60), [None] * size

    def process(self, rank: int) -> Process:
        meeting = self

        class Gathering(Process):
            def gather_each(self, value):
                meeting.parts[rank] = value
                meeting.barrier.wait()
                everyone = list(meeting.parts)
                meeting.barrier.wait()
                return everyone

        return Gathering(Collective(rank, len(self.parts)), local_rank=rank)


def test_processes_of_different_speed_and_memory_take_the_same_sizes_and_share_the_windows(prepare, monkeypatch):
    rank = threading.local()
    monkeypatch.setattr("tactician.training.setup.measure_pace", lambda *_: Pace(*[(0.5, 1.0)[rank.own]] * 2))
    sharing: list[int] = []

    def budget(config, device, n_sharing):
        sharing.append(n_sharing)
        return (3e9, 1e9)[rank.own]

    monkeypatch.setattr("tactician.training.setup.memory_budget", budget)
    meeting, setups = Meeting(2), {}

    def run(own: int) -> None:
        rank.own = own
        setups[own] = prepare(meeting.process(own), n_envs=64)

    threads = [threading.Thread(target=run, args=(own,)) for own in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    # Three quarters at 0.5 s per sample take longer than a quarter at 1 s: 12 s per environment, 8 of them in two minutes.
    assert setups[0].sizes == setups[1].sizes == Sizes(8, 32, 64)
    assert setups[0].seconds_per_iteration == setups[1].seconds_per_iteration == pytest.approx(8 * 12)
    assert (setups[0].windows, setups[1].windows) == (range(6), range(6, 8))
    assert sharing == [2, 2]  # of one machine's main memory
