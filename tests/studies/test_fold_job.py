"""One training of a walk-forward is a pure function of settings, training and validation range, and seed."""

import io
from dataclasses import replace

import pytest
import torch

from tactician.environment import LOOK_BACK, normalise
from tactician.errors import UserError
from tactician.evaluation import AGENT, EQUAL_WEIGHT, evaluate
from tactician.studies import fold_job
from tactician.studies.fold_job import found_by, load_model, train_fold
from tactician.training.markets import make_environment
from tests.studies.walk_forwards import tiny_job, tiny_study


@pytest.fixture(autouse=True)
def one_thread():
    """As in a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def first(tiny, short_validation, tmp_path_factory):
    """The first job of a study, its market and its result."""
    job, market = tiny_job(tiny, tmp_path_factory.mktemp("study"))
    before, threads = torch.get_num_threads(), 1
    torch.set_num_threads(threads)
    result = train_fold(job, market)
    torch.set_num_threads(before)
    return job, market, result


def tensors(result):
    content = torch.load(io.BytesIO(result["model"]), weights_only=True)
    return {**content["model_state_dict"], **{f"normaliser {name}": x for name, x in content["normaliser"].items()}}


def same(one, other):
    """Whether models and figures are equal to the bit; durations are not compared."""
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()
    figures = [
        {name: x for name, x in result["metrics"].items() if not name.startswith(("seconds", "steps_per"))}
        for result in (one, other)
    ]
    return all(torch.equal(a[name], b[name]) for name in a) and repr(figures[0]) == repr(figures[1])


def test_the_same_job_twice_gives_equal_bytes(first):
    job, market, result = first
    again = train_fold(job, market)
    assert again["model"] == result["model"] and same(again, result)
    assert again["training"] == result["training"] and again["best_iteration"] == result["best_iteration"]


def test_another_seed_gives_another_model_and_another_key(first):
    job, market, result = first
    other = replace(job, seed=job.seed + 1)
    assert not same(train_fold(other, market), result) and other.key != job.key


def test_what_happens_from_the_test_piece_on_changes_nothing(first):
    job, market, result = first
    begin, noise = job.fold.test.start, torch.Generator().manual_seed(1)

    def other_future(x):
        x = x.clone()
        x[begin:] = torch.randn(x[begin:].shape, generator=noise)
        return x

    names = ("returns", "cash_return", "features", "vol_daily")
    future = replace(market, **{name: other_future(getattr(market, name)) for name in names})
    assert same(train_fold(job, future), result)


def test_the_rows_before_the_test_piece_do_matter(first):
    job, market, result = first
    for row in (job.fold.train[-1], job.fold.validation[-1]):
        returns = market.returns.clone()
        returns[row] += 0.1
        assert not same(train_fold(job, replace(market, returns=returns)), result)


def test_the_key_names_all_that_the_training_depends_on_and_nothing_else(first):
    job, _, _ = first
    fold = job.fold
    equal = [
        replace(job, fold=replace(fold, test=range(fold.test.start, fold.test.stop - 5))),
        replace(job, fold=replace(fold, number=9)),
        replace(job, settings={**job.settings, "checkpoint_dir": "elsewhere", "device": "cuda"}),
    ]
    other = [
        replace(job, fold=replace(fold, train=range(2, fold.train.stop))),
        replace(job, fold=replace(fold, validation=range(fold.validation.start, fold.validation.stop - 1))),
        replace(job, settings={**job.settings, "gamma": 0.5}),
        replace(job, settings={**job.settings, "timesteps": 10}),
        replace(job, settings={**job.settings, "n_envs": 16}),
        replace(job, fingerprint="another"),
        replace(job, members=2, member=1),
        replace(job, members=2, member=2),
        replace(job, members=3, member=1),
    ]
    assert {x.key for x in equal} == {job.key}
    assert len({job.key, *(x.key for x in other)}) == 1 + len(other)


def test_a_study_gives_each_training_its_own_key(tiny_longer, tmp_path):
    jobs = tiny_study(tiny_longer, tmp_path).jobs
    assert len({job.key for job in jobs}) == len({job.name for job in jobs}) == 4
    assert [(job.fold.number, job.seed) for job in jobs] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    assert [job.config.seed for job in jobs] == [0, 0, 1, 1]
    assert [(job.config.members, job.config.member) for job in jobs] == [(2, 1), (2, 1), (2, 2), (2, 2)]
    (alone,) = {(job.config.members, job.config.member) for job in tiny_study(tiny_longer, tmp_path, 1).jobs}
    assert alone == (1, None)


def test_the_kept_model_is_the_one_with_the_best_validation(first):
    job, market, result = first
    policy, normaliser = load_model(result["model"])
    env = make_environment(job.config, normalise(market, *normaliser), job.fold.train)
    judged = evaluate(env, policy, job.fold.validation)
    assert judged.growth_beyond_equal_weight == result["metrics"]["validation_beyond_equal_weight"]
    assert 1 <= result["best_iteration"] <= result["iterations"]


def test_a_later_model_that_is_not_better_does_not_replace_the_best(first, monkeypatch):
    job, market, _ = first
    real, policies = fold_job.validated, []

    def worse_and_worse(setup, state, reporter):
        policies.append({name: x.clone() for name, x in state.learner.policy.state_dict().items()})
        return real(setup, state, reporter)[0], len(policies) == 1

    monkeypatch.setattr(fold_job, "validated", worse_and_worse)
    kept = load_model(train_fold(job, market)["model"])[0].state_dict()
    assert len(policies) > 1
    assert all(torch.equal(kept[name], x) for name, x in policies[0].items())
    assert not all(torch.equal(kept[name], x) for name, x in policies[-1].items())


def test_the_normaliser_is_fitted_on_the_training_range(first):
    job, market, result = first
    mean, std = load_model(result["model"])[1]
    known = market.features[job.fold.train.start : job.fold.train.stop].double()
    assert torch.allclose(mean.double(), known.mean(0), atol=1e-5)
    moves = known.std(0) > 0  # a constant is divided by one
    assert torch.allclose(std.double()[moves], known.std(0)[moves], rtol=2e-2) and (std[~moves] == 1).all()


def test_a_model_holds_tensors_and_plain_values_only(first):
    content = torch.load(io.BytesIO(first[2]["model"]), weights_only=True)
    assert set(content) == {"architecture", "value_scale", "normaliser", "model_state_dict"}
    assert all(x.device.type == "cpu" for x in content["model_state_dict"].values())


def test_sizes_that_do_not_fit_are_refused_because_others_would_learn_something_else(first, monkeypatch):
    job, market, _ = first
    job = replace(job, settings={**job.settings, "n_envs": 4096, "n_steps": 256, "episode_length": 32})
    monkeypatch.setattr("tactician.training.setup.memory_budget", lambda *_: 2e7)
    with pytest.raises(UserError, match="does not fit into this machine's memory") as caught:
        train_fold(job, market)
    assert "--n-envs" in str(caught.value) and "--processes" in str(caught.value)


def test_figures_that_are_not_finite_are_told_with_fold_and_seed(first):
    job, market, _ = first
    returns = market.returns.clone()
    returns[job.fold.train.start : job.fold.train.stop] = float("nan")
    with pytest.raises(UserError, match="Fold 1, seed 0 has no result"):
        train_fold(job, replace(market, returns=returns))


def test_a_training_whose_updates_are_dropped_is_no_result(first, monkeypatch):
    job, market, _ = first
    real = fold_job.iterate

    def dropping(setup, state, reporter):
        state = real(setup, state, reporter)
        return replace(state, metrics={**state.metrics, "dropped_in_a_row": 16.0})

    monkeypatch.setattr(fold_job, "iterate", dropping)
    with pytest.raises(UserError, match="Fold 1, seed 0 has no result: 16 updates in a row"):
        train_fold(job, market)


# Members of an ensemble


@pytest.fixture(scope="module")
def members(tiny_longer, short_validation, tmp_path_factory):
    """Both members of a study's first fold, with their results, and the market."""
    study = tiny_study(tiny_longer, tmp_path_factory.mktemp("members"))
    jobs, before = [job for job in study.jobs if job.fold.number == 1], torch.get_num_threads()
    torch.set_num_threads(1)
    results = [train_fold(job, study.market) for job in jobs]
    torch.set_num_threads(before)
    return jobs, results, study.market


def without(market, rows, seed=1):
    """The market with other prices in some rows."""
    noise = torch.Generator().manual_seed(seed)

    def other(x):
        x = x.clone()
        x[rows.start : rows.stop] = 0.01 * torch.randn(x[rows.start : rows.stop].shape, generator=noise)
        return x

    return replace(market, returns=other(market.returns))


def test_a_member_never_trains_on_the_piece_that_it_leaves_out_and_the_others_do(members, monkeypatch):
    jobs, _, market = members
    train = jobs[0].fold.train
    first, second = (
        range(train.start, train.start + len(train) // 2),
        range(train.start + len(train) // 2, train.stop),
    )
    # Value errors are counted in the spread of equal weight over the whole training range, which all members share.
    monkeypatch.setattr("tactician.training.setup.value_scale", lambda *_: 1.0)
    weights = [load_model(train_fold(job, market)["model"])[0].state_dict() for job in jobs]
    for changed, touched in ((first, jobs[1]), (second, jobs[0])):
        for job, before in zip(jobs, weights, strict=True):
            after = load_model(train_fold(job, without(market, changed))["model"])[0].state_dict()
            assert all(torch.equal(after[name], before[name]) for name in before) is (job is not touched)


def test_a_member_is_its_last_model_judged_on_its_piece(members, monkeypatch):
    jobs, results, market = members
    train = jobs[0].fold.train
    half = train.start + len(train) // 2
    for job, result, piece in zip(jobs, results, (range(train.start, half), range(half, train.stop)), strict=True):
        policy, normaliser = load_model(result["model"])
        env = make_environment(job.config, normalise(market, *normaliser), train)
        judged = evaluate(env, policy, piece)
        growth = judged.path.growth
        gap = growth[:, judged.path.column(AGENT)] - growth[:, judged.path.column(EQUAL_WEIGHT)]
        assert result["gap"] == gap.tolist() and len(gap) == len(piece)
        assert (result["piece"]["first"], result["piece"]["last"]) == market.dates_of(piece)
        assert result["piece"]["beyond_equal_weight"] == pytest.approx(float(gap.mean()) * 252)
        assert result["best_iteration"] is None
    states, real = [], fold_job.iterate

    def watched(setup, state, reporter):
        states.append(real(setup, state, reporter))
        return states[-1]

    monkeypatch.setattr(fold_job, "iterate", watched)
    kept = load_model(train_fold(jobs[0], market)["model"])[0].state_dict()
    last = states[-1].learner.policy.state_dict()
    assert len(states) > 1 and all(torch.equal(kept[name], x) for name, x in last.items())


def test_a_member_does_not_read_the_validation_range(members):
    jobs, results, market = members
    changed = without(market, range(jobs[0].fold.validation.start, market.n_days))
    assert same(train_fold(jobs[1], changed), results[1])


def test_all_members_of_a_fold_have_the_normaliser_of_its_whole_training_range(members):
    jobs, _, market = members
    # With further markets a training fits its normaliser on its own days, unless it is given one.
    more = [replace(job, settings={**job.settings, "bootstrap_markets": 1, "timesteps": 64}) for job in jobs]
    results = [train_fold(job, market) for job in more]
    known = market.features[jobs[0].fold.train.start : jobs[0].fold.train.stop].double()
    (mean, std), other = (load_model(result["model"])[1] for result in results)
    assert torch.equal(mean, other[0]) and torch.equal(std, other[1])
    assert torch.allclose(mean.double(), known.mean(0), atol=1e-5)


def test_what_the_members_of_a_fold_find_is_counted_over_all_their_pieces(members):
    _, results, _ = members
    gaps = [[0.001 + 0.0005 * (k % 3) for k in range(90)], [0.002 - 0.0005 * (k % 2) for k in range(60)]]
    found = found_by([{**result, "gap": gap} for result, gap in zip(results, gaps, strict=True)], 252)
    # By hand: the first 90 days earn 0.0015 on average, the other 60 earn 0.00175.
    assert found.difference.value == pytest.approx(252 * (90 * 0.0015 + 60 * 0.00175) / 150)
    assert found.strength == 1 and [piece.first for piece in found.pieces] == [r["piece"]["first"] for r in results]
    against = found_by([{**result, "gap": [-x for x in gap]} for result, gap in zip(results, gaps, strict=True)], 252)
    assert against.strength == 0
    assert found_by(results[:1], 252) is None


def test_a_training_range_without_room_for_its_pieces_is_told_with_fold_and_flags(tiny, short_validation, tmp_path):
    # Half of the range left out and a year of look-back after it leave no day.
    with pytest.raises(UserError, match=r"Fold 1 has .* without one of 2 pieces") as caught:
        tiny_study(tiny, tmp_path)
    assert "--seeds 1" in str(caught.value) and "--test-from" in str(caught.value) and LOOK_BACK == 252
