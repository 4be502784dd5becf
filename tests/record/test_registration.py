"""A registration says what will be judged before it is, and cannot be changed afterwards without being seen."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tactician.errors import UserError
from tactician.record.registration import canonical, fingerprint_of, register, verify

CONTENT = {
    "configuration": {"hidden_dim": 64, "seed": 0, "universe": {"b": ["X"], "a": ["Y", "Z"]}},
    "folds": [{"train": ["2000-01-03", "2009-12-31"], "test": ["2011-01-03", "2011-12-30"]}],
    "seeds": [0, 1, 2],
    "data_fingerprint": "abc",
    "metric": "log growth beyond equal weight",
}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=15,
)


def reordered(x):
    if isinstance(x, dict):
        return {key: reordered(x[key]) for key in reversed(list(x))}
    return [reordered(y) for y in x] if isinstance(x, list) else x


@given(plain)
def test_the_order_of_keys_does_not_matter(content):
    assert canonical(content) == canonical(reordered(content))
    assert json.loads(canonical(content)) == content


@given(plain, plain)
def test_contents_that_differ_have_other_texts(one, other):
    # repr tells 1 from 1.0 and from true, which == does not.
    same = repr(_sorted(one)) == repr(_sorted(other))
    assert (canonical(one) == canonical(other)) == same


def _sorted(x):
    if isinstance(x, dict):
        return {key: _sorted(x[key]) for key in sorted(x)}
    return [_sorted(y) for y in x] if isinstance(x, list) else x


def test_the_sha256_is_that_of_a_text_written_by_hand():
    text = '{"a":[1,2.5,null],"b":{"c":"\\u00e4","d":true}}'
    assert (
        fingerprint_of({"b": {"d": True, "c": "ä"}, "a": (1, 2.5, None)}) == hashlib.sha256(text.encode()).hexdigest()
    )
    assert canonical({10: 0, 9: 0}) == canonical({"9": 0, "10": 0})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_no_content(number, tmp_path):
    with pytest.raises(ValueError):
        register(tmp_path, {**CONTENT, "folds": [number]})
    assert not list(tmp_path.iterdir())


def test_a_registration_that_lacks_something_is_refused(tmp_path):
    with pytest.raises(ValueError, match="metric"):
        register(tmp_path, {key: value for key, value in CONTENT.items() if key != "metric"})


def test_it_is_a_file_that_can_be_read_and_verified(tmp_path):
    made = register(tmp_path / "new" / "folder", CONTENT)
    whole = json.loads(made.path.read_text())
    assert made.path.name == "registration.json" and whole["content"] == CONTENT
    assert whole["sha256"] == made.sha256 == fingerprint_of(CONTENT)
    assert verify(made.path) == made


def test_the_same_content_again_keeps_the_first_file_and_its_time(tmp_path, monkeypatch):
    first = register(tmp_path, CONTENT)
    before = first.path.read_bytes().replace(first.at.encode(), b"2020-01-01T00:00:00Z")
    first.path.write_bytes(before)
    again = register(tmp_path, reordered(CONTENT))
    assert (again.sha256, again.at) == (first.sha256, "2020-01-01T00:00:00Z")
    assert first.path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_another_content_keeps_the_old_files_under_numbers(tmp_path):
    made = [register(tmp_path, {**CONTENT, "seeds": seeds}) for seeds in ([0], [1], [2])]
    found = {path.name: verify(path).sha256 for path in tmp_path.iterdir()}
    assert found == {
        "registration_1.json": made[0].sha256,
        "registration_2.json": made[1].sha256,
        "registration.json": made[2].sha256,
    }


def test_a_content_that_was_changed_afterwards_is_found_and_kept(tmp_path):
    made = register(tmp_path, CONTENT)
    changed = made.path.read_text().replace('"metric": "log', '"metric": "better log')
    made.path.write_text(changed)
    with pytest.raises(UserError, match="was changed after it was written"):
        verify(made.path)
    again = register(tmp_path, CONTENT)
    assert verify(again.path).sha256 == made.sha256
    assert (tmp_path / "registration_1.json").read_text() == changed


@pytest.mark.parametrize(
    "text", [None, "", "[]", "{}", '{"format": "another", "sha256": "x", "at": "y", "content": 1}']
)
def test_what_is_no_registration_is_told_in_a_sentence(tmp_path, text):
    path = tmp_path / "registration.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"registration\.json"):
        verify(path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        register(tmp_path / "file", CONTENT)
