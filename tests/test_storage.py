"""Files appear whole or not at all, and a changed byte is found."""

import json
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.errors import UserError
from tactician.storage import checksum, json_text, load_tensors, save_tensors, save_text, write_atomically

CONTENT = {"a": torch.arange(5.0), "b": {"c": [1, 2.5, "x", None]}, "d": torch.tensor(3)}


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "deep" / "folder" / "x.pt"
    save_tensors(CONTENT, path)
    again = load_tensors(path)
    assert again.keys() == CONTENT.keys() and torch.equal(again["a"], CONTENT["a"]) and again["b"] == CONTENT["b"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "x.txt"
    save_text("old", path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(UserError, match=r"Cannot write .*No space left on device; choose another folder or free"):
        save_text("new", path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_interruption_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    save_text("old", path)

    def half(file):
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"Cannot write .*file/x\.txt: (File exists|Not a directory); choose another folder"
    ):
        save_text("x", tmp_path / "file" / "x.txt")


def test_a_full_disk_is_told_as_such_by_torch_too(tmp_path):
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    def write(_):
        torch.save(CONTENT, Full())

    with pytest.raises(UserError, match="Cannot write"):
        write_atomically(tmp_path / "x.pt", write)
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 4), st.integers(0, 31))
def test_the_checksum_sees_every_bit(position, bit):
    other = CONTENT["a"].clone()
    other.view(torch.int32)[position] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert checksum({**CONTENT, "a": other}) != checksum(CONTENT)


@pytest.mark.parametrize(
    "other",
    [
        {**CONTENT, "a": CONTENT["a"].double()},
        {**CONTENT, "a": CONTENT["a"].view(5, 1)},
        {**CONTENT, "b": {"c": [1, 2.5, "y", None]}},
        {**CONTENT, "b": {"c": [1, 2.5, "x"]}},
        {**CONTENT, "e": 1},
        {"a": CONTENT["a"], "b": CONTENT["b"], "x": CONTENT["d"]},
    ],
)
def test_the_checksum_sees_types_shapes_names_and_values(other):
    assert checksum(other) != checksum(CONTENT)


def test_the_checksum_does_not_depend_on_memory_layout():
    x = torch.arange(12.0).view(3, 4)
    assert checksum({"x": x.t()}) == checksum({"x": x.t().contiguous()})


def test_a_file_of_another_program_is_taken_as_it_is(tmp_path):
    torch.save({"x": 1}, tmp_path / "x.pt")
    assert load_tensors(tmp_path / "x.pt") == {"x": 1}
    torch.save([1], tmp_path / "y.pt")
    with pytest.raises(ValueError, match="not a mapping"):
        load_tensors(tmp_path / "y.pt")


def test_a_damaged_name_of_the_checksum_is_found(tmp_path):
    path = tmp_path / "x.pt"
    save_tensors({"format": "ours", **CONTENT}, path)
    sealed = torch.load(path, weights_only=True)
    torch.save({name.replace("sha256", "sha257"): value for name, value in sealed.items()}, path)
    with pytest.raises(ValueError, match="checksum is missing"):
        load_tensors(path)


def test_json_is_strict_and_says_null_for_what_is_not_available():
    content = {"a": math.nan, "b": [math.inf, 1.5, {"c": -math.inf}], "d": (2, None, True, "NaN")}
    text = json_text(content, indent=2)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse) == {
        "a": None,
        "b": [None, 1.5, {"c": None}],
        "d": [2, None, True, "NaN"],
    }
