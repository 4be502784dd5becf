"""The market cache: comes back bit for bit, and is refused when it is not what is asked for."""

import os
import pickle

import pytest
import torch

import tactician.environment.cache as cache
from tactician.environment import load_market, save_market
from tactician.errors import UserError
from tactician.storage import load_tensors, save_tensors
from tests.markets import random_market

GROUPS = {"first": ("S0",), "second": ("S1",), "rest": ("S2", "S3", "S4")}
REBUILD = "tactician build-cache --config mine.yaml"


@pytest.fixture
def saved(tmp_path):
    market = random_market()
    path = tmp_path / "cache.pt"
    save_market(market, GROUPS, path)
    return market, path


def refusal(path, expected=None) -> str:
    with pytest.raises(UserError) as caught:
        load_market(path, expected or {}, REBUILD)
    said = str(caught.value)
    assert str(path) in said and REBUILD in said and len(said.splitlines()) == 1
    return said


def test_it_comes_back_bit_for_bit(saved):
    market, path = saved
    again = load_market(path, {}, REBUILD)
    for name, value in vars(market).items():
        other = getattr(again, name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other) and value.dtype == other.dtype, name
        elif name != "regimes":
            assert value == other, name
    assert again.regimes.names == market.regimes.names


def test_targets_are_not_stored_and_follow_the_table_that_is_asked_for(saved):
    market, path = saved
    content = load_tensors(path)
    assert "regime_weights" not in content["tensors"]
    again = load_market(path, {}, REBUILD)
    assert torch.equal(again.regime_weights, market.regime_weights) and again.with_regimes("factor", {}) is again
    other = again.with_regimes("static", GROUPS)
    assert other.regimes.kind == "static" and other.regime_weights.shape[1] == 2 + 2 * 7
    assert torch.equal(other.with_regimes("factor", {}).regime_weights, market.regime_weights)


def test_a_cache_that_still_holds_targets_is_read_all_the_same(saved):
    market, path = saved
    content = load_tensors(path)
    content["tensors"]["regime_weights"] = torch.zeros_like(market.regime_weights)
    save_tensors(content, path)
    assert torch.equal(load_market(path, {}, REBUILD).regime_weights, market.regime_weights)


def test_a_missing_one_names_the_command(tmp_path):
    assert "There is no market cache at" in refusal(tmp_path / "none.pt")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"date,close\n1,2\n"])
def test_a_truncated_empty_or_foreign_file_is_refused(saved, damage):
    path = saved[1]
    path.write_bytes(damage(path.read_bytes()))
    assert "is damaged or no market cache" in refusal(path)


def test_a_flipped_bit_in_a_price_is_found(saved):
    market, path = saved
    data = bytearray(path.read_bytes())
    place = data.find(market.returns.numpy().tobytes()[:64])
    data[place + 5] ^= 1
    path.write_bytes(data)
    assert "is damaged" in refusal(path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"model": torch.zeros(3)}, path)
    assert "no market cache" in refusal(path)


def test_a_file_with_code_is_refused_and_the_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "trap.pt"
    torch.save({"format": "tactician market cache", "x": Trap()}, path)
    refusal(path)
    path.write_bytes(pickle.dumps(Trap(), 2))
    refusal(path)
    assert not (tmp_path / "ran").exists()


def test_other_features_are_refused(saved, monkeypatch):
    monkeypatch.setattr(cache, "FEATURE_VERSION", 99)
    assert "another version of the features" in refusal(saved[1])


def test_other_settings_are_refused_by_name(saved):
    path = saved[1]
    content = load_tensors(path)
    content["built_from"] = {"start": "2000-01-03"}
    save_tensors(content, path)
    assert load_market(path, {"start": "2000-01-03"}, REBUILD)
    assert "built with start = 2000-01-03, but 2005-01-03 is asked for" in refusal(path, {"start": "2005-01-03"})
    assert "built with calendar = None, but XNYS" in refusal(path, {"calendar": "XNYS"})
