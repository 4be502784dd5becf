"""What a sweep's table says: differences paired by session, luck told as luck, and the one-standard-error rule."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tactician.evaluation.inference import growth_difference
from tactician.studies.sweep_report import verdict
from tactician.studies.sweep_result import summarise
from tests.studies.sweeps import FOLDS, Here, made_up, searched, tiny_sweep


def test_the_difference_from_the_default_is_paired_by_session(tiny, tmp_path):
    sweep = tiny_sweep(tiny, trials=3, seeds=2)
    records = searched(sweep, tmp_path, Here(work=made_up))
    found = {row.number: row for row in summarise(sweep, records).rows}

    def growth(record):
        pieces = [[record.results[fold, seed]["growth"] for seed in (0, 1)] for fold in range(1, FOLDS + 1)]
        return np.array([(a + b) / 2 for one, two in pieces for a, b in zip(one, two, strict=True)])

    for record in records[1:]:
        mine, theirs = growth(record), growth(records[0])
        assert len(mine) == len(sweep.train)
        expected = growth_difference(mine, theirs, 252)
        assert found[record.number].beside_default.value == pytest.approx(expected.value, abs=1e-12)
        assert found[record.number].turnover == 2.5


def test_a_best_trial_that_chance_explains_is_not_told_apart_from_the_default(tiny, tmp_path):
    def noisy(job, shared):
        rng = np.random.default_rng([job.trial, job.fold.number])
        growth = rng.normal(0, 0.01, len(job.fold.held_out))
        return {"figure": float(growth.mean() * 252), "turnover": 1.0, "growth": growth.tolist()}

    def better(job, shared):
        made = noisy(replace(job, trial=0), shared)
        more = 0.002 * (job.trial == 2)
        return {
            **made,
            "figure": made["figure"] + 252 * more,
            "growth": [x + more * (1 + k % 2) for k, x in enumerate(made["growth"])],
        }

    for name in ("luck", "edge"):
        (tmp_path / name).mkdir()
    sweep = tiny_sweep(tiny, trials=4)
    luck = summarise(sweep, searched(sweep, tmp_path / "luck", Here(work=noisy)))
    edge = summarise(sweep, searched(sweep, tmp_path / "edge", Here(work=better)))
    said = " ".join(verdict(luck))
    if luck.best.number:
        assert "not distinguishable from the default" in said
        assert "No trial can be shown to beat the default when all trials are counted" in said
    assert edge.best.number == 2 and edge.best.told_apart
    said = " ".join(verdict(edge))
    assert (
        "if it were the only trial" in said and "Some trial beats the default also when all trials are counted" in said
    )


def test_a_difference_that_is_only_rounding_is_not_told_apart(tiny, tmp_path):
    def alike(job, shared):
        made = made_up(replace(job, settings={**job.settings, "gamma": 0.95, "hidden_dim": 16}), shared)
        return {
            **made,
            "figure": made["figure"] + 1e-15 * job.trial,
            "growth": [x + 1e-18 * job.trial for x in made["growth"]],
        }

    sweep = tiny_sweep(tiny, trials=3)
    found = summarise(sweep, searched(sweep, tmp_path, Here(work=alike)))
    assert not any(row.told_apart for row in found.rows)
    assert found.best.number == 0 or "It is not distinguishable from the default" in verdict(found)[1]


def test_the_earliest_trial_within_one_standard_error_of_the_best_is_named(tiny, tmp_path):
    offsets = {0: 0.00, 1: 0.05, 2: 0.06, 3: 0.01}

    def known(job, _):
        figure = offsets[job.trial] + 0.02 * (job.fold.number - 2.5)
        return {"figure": figure, "turnover": 1.0, "growth": [figure / 252] * len(job.fold.held_out)}

    sweep = tiny_sweep(tiny, trials=4)
    found = summarise(sweep, searched(sweep, tmp_path, Here(work=known)))
    # The pieces deviate by 0.02 · √(5/3), so the error is 0.0129.
    assert found.best.error == pytest.approx(0.02 * math.sqrt(5 / 3) / 2)
    assert [row.number for row in found.rows] == [2, 1, 3, 0] and found.within == (1, 2)
    assert "Within one standard error of the best: trials 1, 2. The earliest of them is trial 1." in verdict(found)
