"""What a sweep searches is written in one word per key; a mistake is told with the key and the remedy."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tactician.config import Config, load_config
from tactician.errors import UserError
from tactician.studies.sweep_keys import OF_COSTS, Choice, Range, parse_keys, value_in
from tactician.training.lineage import HARMLESS
from tactician.training.resume import OF_DATA

CONFIG = load_config("embedded_sp500")


def parsed(*words):
    return parse_keys(words, CONFIG)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("gamma=0.9..0.99", Range("gamma", 0.9, 0.99, log=False, whole=False)),
        ("clip=.1...3", Range("clip", 0.1, 0.3, log=False, whole=False)),
        ("actor_lr=1e-4..3e-3@log", Range("actor_lr", 1e-4, 3e-3, log=True, whole=False)),
        ("n_gru_layers=0..3", Range("n_gru_layers", 0, 3, log=False, whole=True)),
        ("hidden_dim=16..256@log", Range("hidden_dim", 16, 256, log=True, whole=True)),
        ("hidden_dim=16,32, 64,32", Choice("hidden_dim", (16, 32, 64))),
        ("--hidden-dim=16,32", Choice("hidden_dim", (16, 32))),
        ("reward=net,relative", Choice("reward", ("net", "relative"))),
        ("amp=true,false", Choice("amp", (True, False))),
        ("target_kl=None,0.02", Choice("target_kl", (None, 0.02))),
        ("network=recurrent,market_memory", Choice("network", ("recurrent", "market_memory"))),
    ],
)
def test_ranges_and_lists_are_read(word, key):
    (found,) = parsed(word)
    assert found == key and type(found) is type(key)
    assert isinstance(found, Choice) or all(isinstance(end, int) == found.whole for end in found.ends)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gama=0.9..0.99", "--keys: unknown key 'gama'; did you mean 'gamma'?"),
        ("xyz=1,2", "--keys: unknown key 'xyz'; docs/configuration.md lists the known ones."),
        ("gamma", "--keys has no values of 'gamma'; write gamma=LOW..HIGH, or gamma=A,B,C."),
        ("gamma=", "--keys has no values of 'gamma'; write gamma=LOW..HIGH, or gamma=A,B,C."),
        ("gamma=0.9,", "--keys: a value of 'gamma' is empty; write gamma=LOW..HIGH, or gamma=A,B,C."),
        ("gamma=0.9..", "--keys: a value of 'gamma' is empty; write gamma=LOW..HIGH, or gamma=A,B,C."),
        ("gamma=0.9", "--keys: 'gamma' has only one value, 0.9; add others, gamma=A,B, or set the key without searching it."),
        ("gamma=0.99..0.9", "--keys: the range of 'gamma' is empty, from 0.99 to 0.9; write the lower end first."),
        ("gamma=0.9..0.9", "--keys: the range of 'gamma' is empty, from 0.9 to 0.9; write the lower end first."),
        ("gamma=0..0.9@log", "--keys: a logarithmic range of 'gamma' cannot begin at 0; begin above 0."),
        ("gamma=0.9..1", "--keys: 'gamma' cannot be '1': it must be below 1."),
        ("gamma=0.9,high", "--keys: 'gamma' cannot be 'high': give a number."),
        ("hidden_dim=16..32.5", "--keys: 'hidden_dim' cannot be '32.5': give a whole number."),
        ("gamma=0.1..0.9@lin", "--keys: '@lin' of 'gamma' is no scale; write gamma=LOW..HIGH@log, or leave it out."),
        ("gamma=0.1,0.9@log", "--keys: @log is for a range; write gamma=LOW..HIGH@log, or leave it out of the list."),
        ("reward=net..relative", "--keys: 'reward' is no number and has no range; list its values, reward=A,B."),
        ("seed=1,2", "--keys cannot search 'seed': it is luck, not a setting; repeat each trial with --seeds N instead."),
        ("timesteps=1,2", "--keys cannot search 'timesteps': it is the same for all trials; give it as a flag, --timesteps N."),
        (
            "regimes=factor,static",
            "--keys cannot search 'regimes': it makes the market or its ranges, which all trials share; leave it out.",
        ),
        (
            "spread=0,1e-3",
            "--keys cannot search 'spread': it is what a trade costs, so trials would not be comparable; give it as a flag.",
        ),
        ("save_every=1,2", "--keys cannot search 'save_every': it does not affect what is learnt; leave it out."),
        ("best_by=growth,score", "--keys cannot search 'best_by': it does not affect what is learnt; leave it out."),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_sentence(word, said):
    with pytest.raises(UserError) as caught:
        parsed(word)
    assert str(caught.value) == said


def test_a_value_that_contradicts_another_setting_is_refused():
    with pytest.raises(UserError, match=r"n_steps .* and episode_length .* must divide one another"):
        parse_keys(["n_steps=48,64"], load_config("embedded_sp500", {"episode_length": 256}))


def test_no_key_and_a_key_named_twice_are_refused():
    with pytest.raises(UserError, match="names nothing to search; write for example --keys gamma="):
        parsed()
    with pytest.raises(UserError, match="names 'gamma' twice"):
        parsed("gamma=0.1..0.2", "gamma=0.3,0.4")


@pytest.mark.parametrize("name", sorted(HARMLESS | OF_DATA | OF_COSTS | {"seed", "validation_until"}))
def test_keys_of_the_market_the_judge_and_the_machine_are_refused(name):
    assert name in Config.model_fields
    with pytest.raises(UserError, match=f"cannot search '{name}'"):
        parsed(f"{name}=1,2")


@given(ends=st.lists(st.floats(0, 0.9999), min_size=2, max_size=2, unique=True), place=st.floats(0, 1))
def test_a_setting_lies_in_its_range_and_can_be_typed_again(ends, place):
    low, high = sorted(ends)
    (key,) = parsed(f"gamma={low!r}..{high!r}")
    assert (key.low, key.high) == (low, high) and key.holds(low) and key.holds(high)
    drawn = min(max(low + place * (high - low), low), high)
    value = key.setting(drawn)
    assert low <= value <= high and math.isclose(value, drawn, rel_tol=5.1e-4, abs_tol=1e-300)
    assert value in (low, high) or float(f"{value:.4g}") == value


def test_the_value_of_a_learning_rate_follows_the_width():
    config = load_config("embedded_sp500", {"hidden_dim": 64, "actor_lr": None})
    assert value_in(config, "actor_lr") == pytest.approx(1.2e-3) and value_in(config, "gamma") == config.gamma
