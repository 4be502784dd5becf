"""A sweep: trials are proposed, trained without one piece of the training range, judged on it, kept and counted."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tactician.config import load_config
from tactician.environment import inner_folds, load_cached_market, normalise
from tactician.errors import UserError
from tactician.evaluation import AGENT, EQUAL_WEIGHT, action_targets, backtest, baseline_targets
from tactician.evaluation.decisions import decide
from tactician.evaluation.question import Question
from tactician.monitor.progress import Reporter
from tactician.record.trials import Trial, read, trials_beside
from tactician.studies import sweep_job
from tactician.studies.sweep import declare, figure_of, plan_sweep
from tactician.studies.sweep_job import PieceJob, measure
from tactician.studies.sweep_keys import parse_keys
from tactician.studies.sweep_result import summarise
from tactician.studies.sweep_store import FILE, Store
from tactician.training.loop import iterate
from tactician.training.markets import make_environment
from tactician.training.setup import prepare_run
from tactician.training.state import first_train_state
from tests.studies.sweeps import FOLDS, KEYS, Here, made_up, searched, table, tiny_sweep

SHORT = {"timesteps": 300}


@pytest.fixture(autouse=True)
def one_thread():
    """As in a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own(tiny, tmp_path):
    """Changes that give a test a trial ledger of its own, beside a copy of the market cache."""
    cache = load_config(tiny).cache
    copy = tmp_path / "cache.pt"
    copy.write_bytes(cache.read_bytes())
    return {"cache_path": copy}


def job_of(sweep, record, place):
    config = sweep.config_of(record)
    fold = inner_folds(sweep.train, sweep.n_folds, config.episode_length)[place[0] - 1]
    return PieceJob(record.number, fold, place[1], sweep.train, config.model_dump(mode="json"), sweep.n_folds)


def trained_and_judged_by_hand(config, market, train, fold):
    """Annual growth beyond equal weight on one piece, step by step."""
    known = torch.cat([market.features[part.start : part.stop] for part in fold.stretches]).double()
    std = known.std(0)
    normaliser = known.mean(0).float(), torch.where(std > 1e-9, std, 1.0).float()
    member = config.model_copy(update={"members": FOLDS, "member": fold.number})
    setup = prepare_run(member, market, normaliser=normaliser, splits={"train": train, "validation": train})
    assert setup.environment.stretches == fold.stretches
    earned = [
        market.equal_weight_returns[part.start : part.stop].double() for part in fold.stretches
    ]  # unit of the values: discounted rewards of equal weight
    scale = 100 * float(torch.cat(earned).std()) / math.sqrt(1 - config.gamma**2)
    state = first_train_state(replace(setup, value_scale=scale))
    while state.progress.timesteps < setup.total_timesteps:
        state = iterate(setup, state, Reporter("quiet", silent=True))
    env = make_environment(config, normalise(market, *normaliser), train)
    rows = fold.held_out
    actions = decide(env, (state.learner.policy,), rows).actions[:, 0]
    targets, hold = action_targets(market, rows, actions)
    names, others, others_hold = baseline_targets(Question(market, rows))
    path = backtest(
        market,
        rows,
        torch.cat([targets.double(), others], 1),
        torch.cat([hold, others_hold], 1),
        env.frictions,
        env.portfolio_value,
        (AGENT, *names),
        liquidate=True,
    )
    gap = path.growth[:, path.column(AGENT)] - path.growth[:, path.column(EQUAL_WEIGHT)]
    return sum(gap.tolist()) / len(rows) * 252


def test_a_figure_is_the_mean_over_held_out_pieces_of_growth_beyond_equal_weight(tiny, own, tmp_path):
    sweep = tiny_sweep(tiny, trials=2, **SHORT, **own)
    records = searched(sweep, tmp_path, Here())
    market = load_cached_market(sweep.asked, "")
    train = market.rows(None, sweep.asked.train_until)
    # Training at the very end of its range looks up the next row, which the sweep's market does not have.
    market = replace(market, **{k: x[: train.stop] for k, x in vars(market).items() if torch.is_tensor(x)})
    found = {row.number: row for row in summarise(sweep, records).rows}
    assert len(records) == 2
    for record in records:
        config = sweep.asked.model_copy(update={**record.settings}) if record.number else sweep.asked
        figures = [
            trained_and_judged_by_hand(config, market, train, fold)
            for fold in inner_folds(train, FOLDS, config.episode_length)
        ]
        row = found[record.number]
        assert np.allclose(row.pieces, figures, atol=1e-9)
        assert math.isclose(row.figure, sum(figures) / FOLDS, abs_tol=1e-9)
        deviation = math.sqrt(sum((x - row.figure) ** 2 for x in figures) / (FOLDS - 1))
        assert math.isclose(row.error, deviation / math.sqrt(FOLDS), abs_tol=1e-9)


def poisoned(market, rows):
    """Nothing in these rows is a number any more."""

    def spoil(x):
        if not x.is_floating_point():
            return x
        x = x.clone()
        x[rows.start : rows.stop] = math.nan
        return x

    names = ("returns", "cash_return", "features", "regime_weights", "factor_ranks", "vol_daily", "dollar_volume")
    return replace(market, **{name: spoil(getattr(market, name)) for name in names})


def test_no_row_of_the_validation_or_test_range_is_read(tiny):
    config = load_config(tiny, SHORT)
    market = load_cached_market(config, "")
    train = market.rows(None, config.train_until)
    other = poisoned(market, range(train.stop, market.n_days))
    assert other.returns.isnan().any() and not market.returns.isnan().any()
    sizes = {"n_folds": FOLDS, "n_seeds": 1, "n_trials": 1}
    one, two = (plan_sweep(config, x, parse_keys(KEYS, config), **sizes)[0] for x in (market, other))
    assert two.market.n_days == train.stop == train[-1] + 1
    settings = one.config.model_dump(mode="json")
    for fold in one.folds:
        job = PieceJob(0, fold, 0, train, settings, FOLDS)
        assert measure(job, one.market) == measure(job, two.market)


@pytest.mark.parametrize("number", [1, 3])
def test_what_happens_in_the_held_out_piece_does_not_change_what_is_trained(tiny, monkeypatch, number):
    sweep = tiny_sweep(tiny, **SHORT)
    fold, noise = sweep.folds[number - 1], torch.Generator().manual_seed(1)

    def other_days(x):
        x = x.clone()
        rows = slice(fold.held_out.start, fold.held_out.stop)
        x[rows] = 0.01 * torch.randn(x[rows].shape, generator=noise)
        return x

    names = ("returns", "cash_return", "features", "vol_daily")
    other = replace(sweep.market, **{name: other_days(getattr(sweep.market, name)) for name in names})
    job = PieceJob(0, fold, 0, sweep.train, sweep.config.model_dump(mode="json"), sweep.n_folds)
    policies, real = [], sweep_job.evaluate

    def watching(env, policy, rows):
        policies.append(policy.state_dict())
        assert rows == fold.held_out
        return real(env, policy, rows)

    monkeypatch.setattr(sweep_job, "evaluate", watching)
    one, two = measure(job, sweep.market), measure(job, other)
    assert all(torch.equal(policies[0][name], x) for name, x in policies[1].items())
    assert one["figure"] != two["figure"]


def test_the_first_trial_is_the_configuration_as_it_is(tiny, tmp_path):
    sweep = tiny_sweep(tiny)
    first, second, *_ = searched(sweep, tmp_path, Here(work=made_up))
    assert sweep.config_of(first) == sweep.config and first.settings["gamma"] == sweep.config.gamma
    assert first.settings["actor_lr"] == pytest.approx(3e-4 * 256 / 16) and sweep.config.actor_lr is None
    assert all(key.holds(second.settings[key.name]) for key in sweep.keys)
    assert sweep.config_of(second).actor_lr == second.settings["actor_lr"]


def test_trials_differ_and_the_figure_guides_them(tiny, tmp_path):
    sweep = tiny_sweep(tiny, keys=("gamma=0.1..0.9",), trials=30)
    records = searched(sweep, tmp_path, Here(work=made_up))
    tried = [record.settings["gamma"] for record in records]
    assert len(set(tried)) == 30
    assert np.mean(tried[20:]) > np.mean(tried[1:11]) + 0.1  # the larger gamma, the better


def test_the_same_sweep_twice_gives_the_same_table_and_another_seed_another(tiny, tmp_path):
    sweep = tiny_sweep(tiny, trials=14)
    tables = []
    for name, sweep_ in (("one", sweep), ("two", sweep), ("three", tiny_sweep(tiny, trials=14, seed=5))):
        (tmp_path / name).mkdir()
        tables.append(table(searched(sweep_, tmp_path / name, Here(work=made_up))))
    assert tables[0] == tables[1]
    assert [row[1] for row in tables[0]] != [row[1] for row in tables[2]]


@pytest.mark.parametrize("stop", [0, 2, 4, 47])
def test_a_stopped_sweep_goes_on_and_ends_as_one_that_was_not_stopped(tiny, tmp_path, stop):
    sweep = tiny_sweep(tiny, trials=13)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    engine = Here(work=made_up)
    whole = searched(sweep, tmp_path / "whole", engine)
    before, after = Here(work=made_up, stop_after=stop), Here(work=made_up)
    with pytest.raises(KeyboardInterrupt):
        searched(sweep, tmp_path / "parts", before)
    assert table(searched(sweep, tmp_path / "parts", after)) == table(whole)
    # The job in flight when the stop came is lost, and no other is done twice.
    assert before.asked[:stop] + after.asked == engine.asked and len(before.asked) == stop + 1


def test_a_sweep_that_was_killed_while_it_proposed_goes_on_as_if_it_had_not(tiny, tmp_path, monkeypatch):
    import optuna

    sweep = tiny_sweep(tiny, trials=13)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = searched(sweep, tmp_path / "whole", Here(work=made_up))
    with monkeypatch.context() as patch:
        real, asked = optuna.trial.Trial.set_user_attr, []

        def killed(self, key, value):
            asked.append(value)
            if len(asked) == 11:
                raise KeyboardInterrupt
            real(self, key, value)

        patch.setattr(optuna.trial.Trial, "set_user_attr", killed)
        with pytest.raises(KeyboardInterrupt):
            searched(sweep, tmp_path / "parts", Here(work=made_up))
    assert table(searched(sweep, tmp_path / "parts", Here(work=made_up))) == table(whole)


def test_a_finished_sweep_trains_nothing_again_and_more_trials_go_on(tiny, tmp_path):
    first = searched(tiny_sweep(tiny, trials=3), tmp_path, Here(work=made_up))
    again, more = Here(work=made_up), Here(work=made_up)
    assert table(searched(tiny_sweep(tiny, trials=3), tmp_path, again)) == table(first) and again.asked == []
    assert table(searched(tiny_sweep(tiny, trials=5), tmp_path, more))[:3] == table(first)
    assert len(more.asked) == 2 * FOLDS


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"keys": ("gamma=0.9..0.98",)}, "the searched keys"),
        ({"seeds": 2}, "the seeds"),
        ({"seed": 1}, "the seeds"),
        ({"clip": 0.3}, "the settings"),
        ({"timesteps": 700}, "the settings"),
        ({"train_until": "2012-11-30"}, "the settings, the training range"),
    ],
)
def test_another_sweep_in_the_same_folder_is_refused(tiny, tmp_path, other, said):
    sweep = tiny_sweep(tiny, trials=1)
    searched(sweep, tmp_path, Here(work=made_up))
    engine = Here(work=made_up)
    with pytest.raises(UserError, match=f"holds another sweep: {said} differ; give --output another folder"):
        searched(tiny_sweep(tiny, **other), tmp_path, engine)
    assert engine.asked == []


def test_other_folds_or_data_are_another_sweep(tiny, tmp_path):
    sweep = tiny_sweep(tiny, trials=1)
    searched(sweep, tmp_path, Here(work=made_up))
    store = Store(tmp_path / FILE, sweep.keys, 0)
    for other in (replace(sweep, n_folds=5), replace(sweep, market=replace(sweep.market, fingerprint="another"))):
        with pytest.raises(UserError, match="holds another sweep"):
            declare(other, store)
    declare(replace(sweep, asked=sweep.asked.model_copy(update={"save_every": 9}), n_trials=50), store)


def test_several_trials_are_in_flight_so_that_no_slot_is_idle(tiny, tmp_path):
    engine = Here(slots=3, work=made_up)
    records = searched(tiny_sweep(tiny, trials=5), tmp_path, engine)
    assert len(records) == 5 and all(len(record.results) == FOLDS and record.closed for record in records)
    busy = engine.in_flight[: 5 * FOLDS - 2]
    assert all(len(jobs) == 3 for jobs in busy)
    assert any(len({name.split(",")[0] for name in jobs}) == 2 for jobs in busy)


def test_the_order_in_which_trainings_end_does_not_change_what_a_trial_is(tiny, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    sweep = tiny_sweep(tiny, trials=4, seeds=2)
    first = searched(sweep, tmp_path / "one", Here(slots=8, work=made_up))
    last = searched(sweep, tmp_path / "other", Here(slots=8, work=made_up, lifo=True))
    assert table(first)[0] == table(last)[0]
    assert sorted(first[0].results) == [(fold, seed) for fold in range(1, FOLDS + 1) for seed in (0, 1)]
    assert figure_of(first[0]) == figure_of(last[0])


def test_each_trial_is_counted_once_per_seed_and_before_it_is_trained(tiny, own, tmp_path):
    sweep = tiny_sweep(tiny, trials=3, seeds=2, **own)
    ledger, counted = trials_beside(own["cache_path"]), []

    def watching(job, shared):
        counted.append((job.trial, read(ledger).n_trials(sweep.market.fingerprint)))
        return made_up(job, shared)

    with pytest.raises(KeyboardInterrupt):
        searched(sweep, tmp_path, Here(work=watching, stop_after=10))
    searched(sweep, tmp_path, Here(work=watching))
    assert {trial: n for trial, n in counted} == {0: 2, 1: 4, 2: 6}
    entries = read(ledger).entries
    assert all(isinstance(entry, Trial) and entry.validated is None for entry in entries)
    assert {entry.seed for entry in entries} == {0, 1} and len({entry.configuration for entry in entries}) == 3


def test_a_damaged_ledger_stops_a_sweep_before_it_trains(tiny, own, tmp_path):
    trials_beside(own["cache_path"]).write_text("nonsense\n{}\n")
    engine = Here(work=made_up)
    with pytest.raises(UserError, match="is no entry of a trial ledger"):
        searched(tiny_sweep(tiny, **own), tmp_path, engine)
    assert engine.asked == []


def test_a_setting_without_a_result_is_told_and_the_sweep_goes_on(tiny, tmp_path):
    def diverging(job, shared):
        if job.trial == 1 and job.fold.number == 2:
            return {"fault": "the loss was not finite"}
        return made_up(job, shared)

    engine = Here(work=diverging)
    sweep = tiny_sweep(tiny, trials=4)
    records = searched(sweep, tmp_path, engine)
    assert [record.fault for record in records] == [None, "the loss was not finite", None, None]
    assert sum(name.startswith("trial 1,") for name in engine.asked) == 2  # the other pieces are spared
    found = summarise(sweep, records)
    assert found.rows[-1].number == 1 and math.isnan(found.rows[-1].figure) and 1 not in found.within
    assert table(searched(sweep, tmp_path, Here(work=diverging))) == table(records)


def test_figures_that_are_not_finite_are_a_fault_of_the_setting(tiny, monkeypatch):
    sweep = tiny_sweep(tiny, **SHORT)
    job = PieceJob(0, sweep.folds[0], 0, sweep.train, sweep.config.model_dump(mode="json"), sweep.n_folds)
    real = sweep_job.iterate
    monkeypatch.setattr(
        sweep_job,
        "iterate",
        lambda *words: replace(state := real(*words), metrics={**state.metrics, "dropped_in_a_row": 16.0}),
    )
    assert "not finite" in measure(job, sweep.market)["fault"]
    monkeypatch.setattr(sweep_job, "iterate", real)
    returns = sweep.market.returns.clone()
    returns[job.fold.held_out.start + 5] = math.nan
    assert "is not a finite number" in measure(job, replace(sweep.market, returns=returns))["fault"]


def test_settings_that_contradict_one_another_are_told_and_cost_no_training(tiny, own, tmp_path):
    sweep = tiny_sweep(tiny, keys=("n_envs=8,12", "portfolios_per_window=1,8"), trials=9, **own)
    said, engine = [], Here(work=made_up)
    records = searched(sweep, tmp_path, engine, said.append)
    assert len(records) == 4 and said == ["No setting is left that was not tried; the sweep ends here."]
    (bad,) = [record for record in records if record.settings == {"n_envs": 12, "portfolios_per_window": 8}]
    assert "must be a multiple of portfolios_per_window" in bad.fault and bad.closed
    assert len(engine.asked) == 3 * FOLDS and read(trials_beside(own["cache_path"])).n_trials() == 3


def test_a_default_outside_of_the_searched_space_is_measured_all_the_same(tiny, tmp_path):
    sweep = tiny_sweep(tiny, keys=("hidden_dim=8,32", "gamma=0.5..0.6"), trials=4)
    first, *others = searched(sweep, tmp_path, Here(work=made_up))
    assert first.settings == {"hidden_dim": 16, "gamma": 0.95} and first.fault is None and first.closed
    assert all(record.settings["hidden_dim"] in (8, 32) for record in others)
    assert summarise(sweep, [first, *others]).default.figure == figure_of(first)


def test_too_many_pieces_are_refused_with_the_remedy(tiny):
    config = load_config(tiny)
    market = load_cached_market(config, "")
    keys = parse_keys(["episode_length=32,128"], config)
    with pytest.raises(
        UserError, match=r"no episode of 128 is left; use more --folds, start earlier or lower --episode-length"
    ):
        plan_sweep(config, market, keys, n_folds=4, n_seeds=1, n_trials=2)


def test_a_training_that_does_not_fit_is_refused(tiny, monkeypatch):
    sweep = tiny_sweep(tiny)
    settings = {**sweep.config.model_dump(mode="json"), "n_envs": 4096, "n_steps": 256}
    monkeypatch.setattr("tactician.training.setup.memory_budget", lambda *_: 2e7)
    with pytest.raises(UserError, match="does not fit into this machine's memory"):
        measure(PieceJob(1, sweep.folds[0], 0, sweep.train, settings, sweep.n_folds), sweep.market)


def test_a_damaged_database_is_told_with_its_name(tiny, tmp_path):
    (tmp_path / FILE).write_text("this is no database, and is long enough to be none" * 50)
    with pytest.raises(UserError, match=r"sweep\.db is damaged or cannot be written; move it away"):
        searched(tiny_sweep(tiny), tmp_path, Here(work=made_up))


def test_results_survive_the_database_to_the_bit(tiny, tmp_path):
    sweep = tiny_sweep(tiny, trials=2)
    records = searched(sweep, tmp_path, Here(work=made_up))
    store = Store(tmp_path / FILE, sweep.keys, 0)
    assert table(store.records()) == table(records)
    assert json.loads(json.dumps(store.declared)) == store.declared
