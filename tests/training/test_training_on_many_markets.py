"""Training on many markets: a function of settings and cache alone, that knows nothing of what follows the training range."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml

from tactician.cli import main
from tactician.commands.announcement import told_markets
from tactician.config import load_config
from tactician.environment import MarketTensors, load_cached_market
from tactician.errors import UserError
from tactician.monitor.progress import Reporter
from tactician.studies.learnability import problem_setup
from tactician.synthetic import PROBLEMS
from tactician.training.loop import iterate
from tactician.training.setup import Setup, prepare_run
from tactician.training.state import first_train_state
from tests.training.test_resume_is_bit_exact import differences, run, state

SOURCES = {
    "bootstrap": {"bootstrap_markets": 2, "cost_multipliers": [0.5, 3]},
    "sub_universes": {"sub_universes": 2, "sub_universe_size": [3, 4]},
    "more_universes": {"more_universes": {"one": {"a": ["AAA"], "b": ["CCC", "DDD"]}, "two": {"all": ["BBB", "DDD"]}}},
}
OFF = {"bootstrap_markets": 0, "cost_multipliers": [1, 1], "sub_universes": 0, "more_universes": {}}


@pytest.fixture(scope="module", params=list(SOURCES))
def config_file(request, tiny, tmp_path_factory) -> Path:
    """A configuration with one of the sources, and its cache."""
    return configured(tiny, tmp_path_factory.mktemp(request.param), **SOURCES[request.param])


def configured(tiny: Path, folder: Path, **changes) -> Path:
    settings = {**yaml.safe_load(tiny.read_text()), **changes, "cache_path": str(folder / "cache.pt")}
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert main(["build-cache", "--config", str(path)]) == 0
    return path


def setup_of(path: Path, market: MarketTensors | None = None, **changes) -> Setup:
    config = load_config(path, changes)
    return prepare_run(config, load_cached_market(config, "unused") if market is None else market)


def weights_after(setup: Setup, iterations: int = 2) -> dict[str, torch.Tensor]:
    now = first_train_state(setup)
    for _ in range(iterations):
        now = iterate(setup, now, Reporter("quiet", silent=True))
    return now.learner.policy.state_dict()


@pytest.mark.parametrize("changes", [{"n_steps": 8, "dropout": 0.2}, {"network": "market_memory"}])
def test_n_and_resume_and_n_equal_2n(config_file, tmp_path, changes):
    settings = {**yaml.safe_load(config_file.read_text()), **changes}
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert run(path, tmp_path / "whole", "--iterations", "4") == 0
    assert run(path, tmp_path / "halves", "--iterations", "2") == 0
    assert run(path, tmp_path / "halves", "--iterations", "4", "--resume") == 0
    whole, halves = (state(tmp_path / name / "model_final.pt") for name in ("whole", "halves"))
    assert differences(whole, halves) == []


def poisoned(market: MarketTensors, stop: int) -> MarketTensors:
    """The market with garbage in all that a training up to a row may not know."""
    seen = {"dates", "features", "regime_weights", "tradable", "factor_ranks", "vol_daily", "dollar_volume"}
    changed = {}
    for f in fields(market):
        x = getattr(market, f.name)
        if torch.is_tensor(x) and f.name not in ("dates", "end_dates"):
            first = stop + (f.name in seen)  # row `stop` is seen for the value of the last state, its session is not
            bad = torch.nan if x.is_floating_point() else False
            changed[f.name] = torch.cat([x[:first], torch.full_like(x[first:], bad)])
    offset = [int((market.dates < each.dates[0]).sum()) for each in market.beside]
    changed["beside"] = tuple(poisoned(x, stop - k) for x, k in zip(market.beside, offset, strict=True))
    return replace(market, **changed)


@pytest.mark.parametrize("network", ["recurrent", "market_memory"])
def test_garbage_after_the_training_range_leaves_the_weights_as_they_are(config_file, network):
    config = load_config(config_file)
    market = load_cached_market(config, "unused")
    stop = setup_of(config_file).splits["train"].stop
    clean, dirty = (setup_of(config_file, each, network=network) for each in (market, poisoned(market, stop)))
    assert differences(weights_after(clean), weights_after(dirty)) == []
    # The test of the test: garbage inside the range is noticed.
    rolled = [replace(each, returns=each.returns.roll(1, 0)) for each in (*market.beside, market)]
    inside = setup_of(config_file, replace(rolled[-1], beside=tuple(rolled[:-1])), network=network)
    assert differences(weights_after(clean), weights_after(inside))


def test_windows_live_in_all_markets_and_the_judged_one_stays_as_it_is(config_file):
    setup, alone = setup_of(config_file), setup_of(config_file, **OFF)
    env = setup.training_environment
    assert len(env.markets) > 1
    assert alone.training_environment is alone.environment and not alone.training_environment.markets
    assert setup.splits == alone.splits and setup.environment.rows == alone.environment.rows
    assert torch.equal(setup.environment.market.returns, alone.environment.market.returns)
    wide = replace(setup, windows=range(512))
    day = first_train_state(wide).env_state.day
    visited = [sum(rows.start < int(d) < rows.stop for d in day) for rows in env.markets]
    assert min(visited) > 512 / len(env.markets) / 2 and sum(visited) == 512
    last = torch.tensor([int(env.market.end_dates[part.stop - 1]) for part in env.stretches])
    trained_until = (load_config(config_file).train_until - setup.environment.market.date_of(0)).days
    assert int(last.max() - setup.environment.market.dates[0]) <= trained_until


def test_the_announcement_tells_markets_and_sessions(config_file):
    setup = setup_of(config_file)
    env = setup.training_environment
    told = told_markets(setup)
    assert told.startswith(f"{len(env.markets)} markets in training: the judged one, 2 ")
    assert f"{sum(map(len, env.stretches)):,} sessions" in told
    assert told_markets(setup_of(config_file, **OFF)) == ""


def test_costs_are_multiplied_in_training_alone(tiny, tmp_path):
    config = tmp_path / "costs.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(tiny.read_text()), "cost_multipliers": [0.5, 3]}))
    assert run(config, tmp_path / "whole", "--iterations", "4") == 0
    assert run(config, tmp_path / "halves", "--iterations", "2") == 0
    assert run(config, tmp_path / "halves", "--iterations", "4", "--resume") == 0
    whole, halves = (state(tmp_path / name / "model_final.pt") for name in ("whole", "halves"))
    assert differences(whole, halves) == []
    setup, plain = setup_of(config), setup_of(tiny)
    assert setup.training_environment.cost_multipliers == (0.5, 3) and not setup.training_environment.markets
    assert setup.environment.cost_multipliers == (1, 1) and setup.environment.frictions == plain.environment.frictions
    assert differences(weights_after(setup), weights_after(plain))


def test_bootstrapped_markets_leave_the_normaliser_as_it_is(tiny):
    one, many = setup_of(tiny), setup_of(tiny, bootstrap_markets=3)
    assert differences(one.normaliser, many.normaliser) == []
    assert differences(one.feature_range, many.feature_range) == []


def test_another_seed_draws_other_markets(tiny):
    first, second = (setup_of(tiny, bootstrap_markets=1, seed=seed).training_environment for seed in (0, 1))
    assert not torch.equal(first.market.returns, second.market.returns)
    assert torch.equal(first.market.returns[: first.markets[0].stop], second.market.returns[: second.markets[0].stop])


def test_more_markets_than_memory_holds_are_refused(tiny, refused):
    with pytest.raises(UserError, match=r"bootstrap_markets 100,000,000, .* would take .* GB.*lower bootstrap_markets"):
        setup_of(tiny, bootstrap_markets=100_000_000)


def test_a_synthetic_market_is_trained_on_with_the_same_keys():
    problem = PROBLEMS["observable"](0)
    settings = {"hidden_dim": 16, "n_gru_layers": 1, "timesteps": 16_384, "bootstrap_markets": 2}
    setup = problem_setup(problem.with_training_rows(600), settings)
    assert [len(part) for part in setup.training_environment.stretches] == [len(setup.splits["train"])] * 3
    assert all(x.isfinite().all() for x in weights_after(setup, 1).values())
