"""A small share of the study in every test run: what the trainer must find in a minute, and what the study keeps and says."""

import functools
import json
import math
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tactician.cli import main
from tactician.errors import UserError
from tactician.studies.engine_local import LocalEngine
from tactician.studies.learnability import beyond_equal_weight, measure, problem_setup, train_on
from tactician.studies.learnability_picture import plot_turnover
from tactician.studies.learnability_plan import SMALL, VARIANTS, Job, make_problem, plan_study
from tactician.studies.learnability_runs import run_job, run_study
from tactician.studies.learnability_table import compare, summarise_runs
from tactician.synthetic import ALL_PROBLEMS, PROBLEMS, Played, constant
from tactician.synthetic.problem import CASH
from tactician.training.setup import learning_rates


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


QUICK = {"n_envs": 128, "batch_size": 2048, "dropout": 0.0, "hold_prior": 0.0, "gamma": 0.99, "entropy_coef": 0.01}
QUICK |= {"actor_lr": 3e-4, "critic_lr": 9e-4, "anneal_steps": 0}
"""Settings that learn an easy market in seconds. The defaults are made for a whole study of each."""


@functools.cache
def yardstick(name):
    return measure(PROBLEMS[name](0))


def learn(name, timesteps, **changes):
    problem = PROBLEMS[name](0)
    setup = problem_setup(problem, {**SMALL, **QUICK, **changes, "timesteps": timesteps})
    return train_on(problem, setup, yardstick(name), judge_every=10**9)[0][-1]


def test_it_learns_to_use_tomorrows_returns_where_they_leak():
    assert learn("oracle", 100_000).share > 0.95


def test_it_learns_to_follow_a_signal_that_is_worth_its_costs():
    assert learn("observable", 131_072).share > 0.95


def test_it_learns_not_to_trade_where_trading_is_worth_nothing():
    assert learn("null", 65_536).turnover < 0.01


@pytest.mark.slow
def test_memory_earns_more_than_the_same_network_without_it():
    with_memory, without = learn("hidden", 131_072), learn("hidden", 131_072, n_gru_layers=0)
    assert with_memory.share > 0.85 and with_memory.share > without.share + 0.1


def test_the_share_is_zero_for_the_best_constant_and_one_for_the_optimum():
    found = yardstick("observable")
    assert found.share(found.naive) == 0 and found.share(found.optimum) == 1
    assert math.isnan(yardstick("null").share(Played(0.1, 0.0, 0.0)))


def test_every_variant_is_a_configuration_that_can_be():
    problem = PROBLEMS["observable"](0)
    with pytest.MonkeyPatch.context() as patch:  # sizes are not tried out, which takes half a second each
        patch.setattr("tactician.studies.learnability.prepare_run", lambda config, _: config)
        made = {variant: problem_setup(problem, Job("observable", variant, 3, ()).config) for variant in VARIANTS}
    assert learning_rates(made["one learning rate"])["critic_lr"] == learning_rates(made["window"])["actor_lr"]
    assert len({repr(config) for config in made.values()}) == len(VARIANTS)


def test_all_markets_have_the_same_settings_which_are_the_defaults():
    jobs = plan_study(list(PROBLEMS), ["window"], 2, True, {})
    assert [job.seed for job in jobs[:7]] == [30] * 6 + [31]
    settings = [{k: v for k, v in job.config.items() if k != "seed"} for job in jobs]
    assert settings == [{"hidden_dim": 64, "n_gru_layers": 1, "timesteps": 3_000_000}] * len(jobs)


def test_few_rows_are_those_of_the_training_range_and_all_judged_rows_stay():
    jobs = plan_study([], ["window"], 1, False, {}, rows=4000)
    assert [job.market for job in jobs] == [f"{name}#4000" for name in ALL_PROBLEMS] and jobs[0].seed >= 40
    few, whole = make_problem("observable#4000", 3), make_problem("observable", 3)
    assert few.n_train == 4000 and few.judged == whole.judged == range(100_000, 132_768)
    assert torch.equal(few.market.returns, whole.market.returns)
    setup = problem_setup(few, {**SMALL, "seed": 3})
    assert setup.environment.rows.stop == 4000
    with pytest.raises(UserError, match="--rows"):
        plan_study([], ["window"], 1, False, {}, rows=200_000)


def test_the_figure_of_days_of_training_is_growth_there_less_that_of_equal_weight():
    problem = make_problem("predictable#4000", 0)
    always = beyond_equal_weight(problem, constant(problem.market.regimes.n_actions - 1))  # all in the one asset
    assert always == pytest.approx(0, abs=0.1)  # but for the first trade of each window, whose costs are in the warm-up
    cash = beyond_equal_weight(problem, constant(CASH))
    rows = torch.arange(1, 4000).split(512)[:7]
    days = torch.cat([part[64:] for part in rows])
    assert cash == pytest.approx(-252 * float(torch.log1p(problem.market.returns[days, 0].double()).mean()), rel=1e-6)


@pytest.mark.slow
def test_an_ensemble_of_the_study_is_followed_where_days_left_out_speak_for_it_and_else_holds_equal_weight():
    fast = {"timesteps": 8192, "members": 2, "hidden_dim": 16, **QUICK}
    fast = {**fast, "entropy_coef": 0.0, "actor_lr": 3e-3, "critic_lr": 3e-3}
    found = {}
    for name in ("oracle", "null_lifelike"):
        job = Job(f"{name}#2000", "window", 100, tuple(fast.items()))
        found[name] = run_job(job)
        assert len(found[name]["alone"]) == 2 and len(found[name]["points"]) == 1
    assert found["oracle"]["strength"] > 0.9 and found["oracle"]["points"][0]["share"] > 0.3
    idle = found["null_lifelike"]
    assert idle["strength"] == 0 and idle["points"][0]["turnover"] == pytest.approx(0, abs=1e-6)
    assert idle["training"] == pytest.approx(0, abs=1e-4)  # float32 rounds wealth


def test_a_training_is_the_same_twice():
    job = Job("observable", "window", 1, (("timesteps", 4096),))
    first, second = run_job(job), run_job(job)
    for run in (first, second):
        for point in run["points"]:
            del point["seconds"]
    assert first == second


def run(share_at, seed):
    """A made-up training that reaches the shares at the steps."""
    points = [{"timesteps": t, "seconds": t / 10, "share": s, "turnover": 0.1} for t, s in share_at]
    return {
        "market": "oracle",
        "variant": "window",
        "seed": seed,
        "settings": {"timesteps": share_at[-1][0], "seed": seed},
        "points": points,
        "optimum": {"turnover": 0.2},
        "never_trades": False,
    }


def test_a_row_holds_medians_and_ranges_by_hand():
    row = summarise_runs(
        [
            run([(100, 0.91), (200, 0.96)], 0),
            run([(100, 0.50), (200, 0.93)], 1),
            run([(100, 0.92), (200, 0.99)], 2),
        ]
    )[0]
    assert (row.share, row.share_low, row.share_high, row.seeds) == (0.96, 0.93, 0.99, 3)
    assert row.steps_to == {"0.90": 100, "0.95": 200} and row.seconds_to["0.90"] == 10
    never = summarise_runs([run([(100, 0.5)], 0)])[0]
    assert never.steps_to == {"0.90": None, "0.95": None}


def test_a_method_is_compared_with_the_defaults_on_the_same_seeds_by_hand():
    shares = {"window": [0.5, 0.6, 0.7, 0.1], "dropout 0.3": [0.6, 0.8, 0.7]}
    runs = [
        {**run([(100, share)], seed), "variant": variant, "market": "regimes#4000"}
        for variant, found in shares.items()
        for seed, share in enumerate(found)
    ]
    (pair,) = compare(runs)
    assert (pair.market, pair.variant, pair.seeds, pair.figure) == ("regimes#4000", "dropout 0.3", 3, "share")
    # Differences 0.1, 0.2, 0: mean 0.1, standard error 0.1/√3, and t(2) = 4.3027 for 95 %.
    assert pair.difference == pytest.approx(0.1)
    assert (pair.low, pair.high) == pytest.approx((0.1 - 4.3027 * 0.1 / 3**0.5, 0.1 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)
    assert compare([r for r in runs if r["seed"] < 2]) == []
    idle = [{**r, "never_trades": True} for r in runs]
    assert compare(idle)[0].figure == "turnover" and compare(idle)[0].difference == 0


def test_a_share_counts_from_where_it_is_kept():
    row = summarise_runs([run([(100, 0.96), (200, 0.94), (300, 0.97), (400, 0.96)], 0)])[0]
    assert row.steps_to == {"0.90": 100, "0.95": 300}


def test_where_nothing_is_to_gain_there_is_no_share_in_whatever_order():
    runs = [{**run([(100, share)], k), "never_trades": True} for k, share in enumerate((1.0, None, -2.0, 0.6))]
    for order in (runs, runs[::-1]):
        assert math.isnan(summarise_runs(order)[0].share)


def test_trainings_with_other_settings_have_a_row_of_their_own():
    rows = summarise_runs([run([(100, 0.9)], 0), run([(100, 0.8)], 1), run([(200, 0.1)], 0)])
    assert [(row.seeds, row.settings["timesteps"]) for row in rows] == [(2, 100), (1, 200)]


class Here:
    """An engine in this process, which spares a test the start of another."""

    slots = 1

    def run(self, work, jobs, shared):
        for number, job in enumerate(jobs):
            yield number, work(job, shared)


@pytest.mark.parametrize("elsewhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_study_is_kept_goes_on_where_it_stopped_and_draws_the_sweep(tmp_path, capsys, monkeypatch, elsewhere):
    if not elsewhere:
        monkeypatch.setattr("tactician.studies.engine.make_engine", lambda *_, **__: Here())
    monkeypatch.setattr("tactician.studies.learnability_plan.COST_SHARES", (0.5, 1.5))
    out = tmp_path / "study.json"
    words = ["learnability", "--markets", "observable", "--variants", "window", "--timesteps", "2048"]
    words += ["--seeds", "1", "--processes", "1", "--out", str(out)]
    assert main([*words, "--sweep"]) == 0
    said = capsys.readouterr().out
    assert "Share of the optimum" in said and "to go)" in said
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads(out.read_text())
    assert len(kept["runs"]) == 3 and len(kept["table"]) == 3
    before = out.read_bytes()
    assert main([*words, "--json"]) == 0  # all of it is there already
    assert len(json.loads(capsys.readouterr().out)) == 1 and out.read_bytes() == before


def swept(share):
    return {**run([(100, 0.5)], 0), "market": f"observable@{share}"}


DRAW = """
import json, sys
from pathlib import Path
from tactician.studies.learnability_picture import plot_turnover
from tactician.studies.learnability_table import compare, summarise_runs
sys.exit(not plot_turnover(summarise_runs(json.loads(sys.argv[1])), Path(sys.argv[2])))
"""


def test_the_picture_is_drawn_without_a_display_whatever_backend_is_set(tmp_path):
    picture = tmp_path / "new folder" / "sweep.png"
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    words = [sys.executable, "-c", DRAW, json.dumps([swept(0.5), swept(1.5)]), str(picture)]
    ran = subprocess.run(words, env={**environment, "MPLBACKEND": "module://nowhere"}, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    png = picture.read_bytes()
    assert png.startswith(b"\x89PNG") and struct.unpack(">II", png[16:24]) == (770, 440) and len(png) > 10_000


def test_without_a_sweep_there_is_no_picture(tmp_path):
    assert not plot_turnover(summarise_runs([run([(100, 0.5)], 0)]), tmp_path / "none.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--markets", "moon"], "moon"),
        (["--variants", "luck"], "luck"),
        (["--seeds", "0"], "--seeds"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(refused, words, named):
    assert named in refused("learnability", *words)


def test_a_file_of_another_kind_is_refused_and_left_alone(refused, tmp_path):
    path = tmp_path / "notes.json"
    for text in ('{"hello": 1}', '{"runs": []}', '{"versions": {}, "table": [], "runs": [{"key": "x"}]}'):
        path.write_text(text)
        assert "--out" in refused("learnability", "--markets", "null", "--out", str(path))
        assert path.read_text() == text


def test_an_out_that_cannot_be_written_is_found_out_before_training(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("tactician.studies.learnability_runs.run_job", None)  # it would fail otherwise
    (tmp_path / "folder.json").mkdir()
    for out in (tmp_path / "folder.json", tmp_path / "x.png", Path("/proc/nowhere/x.json")):
        assert str(out.parent) in refused("learnability", "--markets", "null", "--seeds", "1", "--out", str(out))


def test_a_training_whose_process_is_killed_ends_the_study_with_a_sentence(tmp_path, monkeypatch):
    pid = os.getpid()
    monkeypatch.setattr("tactician.studies.learnability_runs.run_job", functools.partial(_die, pid))
    with pytest.raises(UserError, match="process was killed"):
        list(run_study([Job("null", "window", 0, ())], tmp_path / "x.json", LocalEngine(1)))


def _die(parent, job, _):
    assert os.getpid() != parent
    os.kill(os.getpid(), signal.SIGKILL)


def test_those_that_matter_most_come_first():
    jobs = plan_study(["oracle", "null"], ["window", "critic"], 2, False, {})
    assert [(j.variant, j.seed, j.market) for j in jobs[:3]] == [
        ("window", 30, "oracle"),
        ("window", 30, "null"),
        ("window", 31, "oracle"),
    ]


class Interrupted:
    """An engine that is stopped after one training."""

    slots = 1

    def run(self, work, jobs, shared):
        yield 0, work(jobs[0], shared)
        raise KeyboardInterrupt


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    out = tmp_path / "study.json"
    words = ["learnability", "--markets", "observable", "--variants", "window", "--timesteps", "2048", "--seeds", "2"]
    with monkeypatch.context() as patched:
        patched.setattr("tactician.studies.engine.make_engine", lambda *_, **__: Interrupted())
        assert main([*words, "--out", str(out)]) == 130
    said = " ".join(capsys.readouterr().out.split())
    assert "Stopped: 1 of 2 trainings are kept" in said and "run the same command again" in said
    assert len(json.loads(out.read_text())["runs"]) == 1
