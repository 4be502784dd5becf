"""Trials and looks are counted where they are known, and a count that is not known is None."""

from dataclasses import replace

import pytest

from tactician.config import load_config
from tactician.evaluation import Piece, Turn, judge
from tactician.record.registration import Registration
from tactician.record.trials import trials_beside
from tactician.training.counting import Counting, Counts, configuration_hash
from tests.evaluation.agents import environment, network

UNKNOWN = Counts(None, (), None)


@pytest.fixture(scope="module")
def result():
    return judge([Turn(Piece(range(200, 260)), environment(), (network(),))]).result


@pytest.fixture
def config(tiny, tmp_path):
    return load_config(tiny, {"cache_path": str(tmp_path / "cache.pt")})


def never(sentence):
    raise AssertionError(sentence)


def counting(config, run="a", fingerprint="f", warn=never, **changes):
    return Counting(config.model_copy(update=changes), run, fingerprint, warn)


def look(book, result, tmp_path):
    book.look(result, Registration("sha", "2020-01-01T00:00:00Z", tmp_path / "registration.json"))


def test_without_a_ledger_nothing_is_known_and_nothing_is_written(config, result, tmp_path):
    assert counting(config).counts(result) == UNKNOWN
    assert not list(tmp_path.iterdir())


def test_a_run_counts_its_trial_once_and_each_look(config, result, tmp_path):
    book = counting(config)
    book.trial()
    assert book.counts(result) == Counts(1, (), 0)
    book.trial(result)
    look(book, result, tmp_path)
    look(book, result, tmp_path)
    known = book.counts(result)
    sharpe = result.performances["agent"].sharpe / 252**0.5
    assert (known.trials, known.looks) == (1, 2) and known.sharpes == pytest.approx((sharpe,))


def test_other_configurations_and_seeds_are_other_trials(config, result):
    for k, changes in enumerate(({}, {"seed": 1}, {"actor_lr": 0.1}, {"actor_lr": 0.1, "seed": 1})):
        counting(config, run=f"run {k}", **changes).trial()
    assert counting(config, run="run 0").counts(result).trials == 4
    counting(config, run="run 0").trial()  # resumed
    assert counting(config, run="run 0").counts(result).trials == 4


def test_a_run_that_the_ledger_did_not_see_in_training_knows_no_count(config, result, tmp_path):
    counting(config, run="other").trial(result)
    for run in ("a", "", "not known"):
        book = counting(config, run=run)
        assert book.counts(result) == UNKNOWN
        look(book, result, tmp_path)  # its own look does not make it known
        assert book.counts(result) == UNKNOWN, run


def test_a_ledger_that_cannot_be_written_is_told_once_and_knows_no_count(config, result, tmp_path):
    counting(config).trial()
    trials_beside(config.cache).unlink()
    trials_beside(config.cache).mkdir()
    said = []
    book = counting(config, warn=said.append)
    book.trial()
    book.trial(result)
    assert len(said) == 1 and "Cannot write the trial ledger" in said[0]


def test_a_sharpe_ratio_that_is_not_available_is_none(config, result):
    figures = replace(result, performances={**result.performances, "agent": result.performances["cash"]})
    book = counting(config)
    book.trial(figures)
    assert book.counts(result).sharpes == ()


def test_the_hash_is_of_what_decides_what_is_learnt(config):
    same = {"seed": 9, "timesteps": 5, "device": "cuda", "checkpoint_dir": "elsewhere"}
    assert configuration_hash(config.model_copy(update=same)) == configuration_hash(config)
    for key, value in (("actor_lr", 0.5), ("hidden_dim", 8), ("regimes", "static"), ("spread", 0.1)):
        assert configuration_hash(config.model_copy(update={key: value})) != configuration_hash(config), key
