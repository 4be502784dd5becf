"""Every finding by its name: when it appears, whether it stops, and that it names symbol and date."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tactician.errors import UserError
from tactician.market import build_market, make_bars, validate
from tactician.market.market import exchange_sessions
from tests.conftest import synthetic_bars

DAY = pd.Timestamp("2010-03-16")


def bars_with(change, symbols=("AAA", "BBB", "CCC")):
    frame = synthetic_bars(symbols, "2010-01-04", "2010-06-30")
    changed = change(frame)
    return make_bars(frame if changed is None else changed, "test")


def check(bars):
    return validate(bars, exchange_sessions(bars, "XNYS")[0])


def found(bars) -> dict[str, object]:
    return {f.name: f for f in check(bars)}


def at(frame, symbol="BBB", day=DAY):
    return (frame["symbol"] == symbol) & (frame["date"] == day)


def put(column, value):
    def change(frame):
        frame.loc[at(frame), column] = value

    return change


def drop(first, last, symbol="BBB"):
    return lambda f: f[(f["symbol"] != symbol) | (f["date"] < first) | (f["date"] > last)]


def repeat(frame):
    return pd.concat([frame, frame[at(frame)]])


def on_a_sunday(frame):
    extra = frame[at(frame)].assign(date=pd.Timestamp("2010-03-14"))
    return pd.concat([frame, extra])


def test_clean_bars_have_no_findings():
    assert check(bars_with(lambda f: None)) == ()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("duplicate_rows", repeat, "BBB 2010-03-16 has two rows"),
        ("non_finite_price", put("close", np.nan), "BBB 2010-03-16 has a price that is not a finite number (close)"),
        ("non_finite_price", put("adj_close", np.inf), "a finite number (adj_close)"),
        ("non_positive_price", put("adj_close", 0.0), "BBB 2010-03-16 has a price that is not positive (adj_close)"),
        ("non_positive_price", put("low", -3.0), "not positive (low)"),
        ("ohlc_order", put("high", 1.0), "BBB 2010-03-16 has a high below or a low above its other prices"),
        ("missing_sessions", drop("2010-03-16", "2010-03-23"), "BBB 2010-03-24 follows more than 5 missing sessions"),
        ("not_a_session", on_a_sunday, "BBB 2010-03-14 has a bar although the exchange was closed"),
    ],
)
def test_errors_stop_and_name_symbol_date_and_finding(name, change, words):
    with pytest.raises(UserError) as caught:
        check(bars_with(change))
    said = str(caught.value)
    assert words in said and f"[{name}]" in said and said.startswith("test: ") and len(said.splitlines()) == 1


def test_several_errors_are_counted():
    def change(frame):
        put("close", np.nan)(frame)
        frame.loc[at(frame, "AAA"), "close"] = np.nan

    with pytest.raises(UserError, match=r"and 1 more errors?\)"):
        check(bars_with(change))


def test_one_asset_is_not_enough():
    with pytest.raises(UserError, match=r"AAA is the only asset.*\[one_asset\]"):
        check(bars_with(lambda f: None, symbols=("AAA",)))


def near_miss(frame):
    """A high one in a thousand below the close."""
    frame.loc[at(frame), "high"] = frame.loc[at(frame), "close"] * 0.999


def stale(frame):
    days = sorted(frame["date"].unique())[30:35]
    frame.loc[(frame["symbol"] == "BBB") & frame["date"].isin(days), ["open", "high", "low", "close", "adj_close"]] = (
        9.0
    )


def split(frame):
    later = (frame["symbol"] == "BBB") & (frame["date"] >= DAY)
    previous = frame.loc[(frame["symbol"] == "BBB") & (frame["date"] < DAY), "adj_close"].iloc[-1]
    first = frame.loc[at(frame), "adj_close"].iloc[0]
    frame.loc[later, ["open", "high", "low", "close", "adj_close"]] *= 0.5 * previous / first


@pytest.mark.parametrize(
    ("name", "change", "day"),
    [
        ("ohlc_order", near_miss, "2010-03-16"),
        ("missing_sessions", drop("2010-03-16", "2010-03-16"), "2010-03-17"),
        ("missing_sessions", drop("2010-03-16", "2010-03-22"), "2010-03-23"),  # five
        ("split_like_jump", split, "2010-03-16"),
        ("late_listing", drop("2010-01-01", "2010-03-15"), "2010-03-16"),
        ("early_end", drop("2010-06-01", "2010-12-31"), "2010-05-28"),
    ],
)
def test_warnings_do_not_stop_and_name_symbol_and_date(name, change, day):
    findings = found(bars_with(change))
    assert set(findings) == {name}
    finding = findings[name]
    assert (finding.severity, finding.symbol, finding.date) == ("warning", "BBB", day)
    assert "BBB" in finding.message and day in finding.message


def test_five_equal_closes_are_stale_and_four_are_not():
    assert "stale_run" in found(bars_with(stale))

    def four(frame):
        stale(frame)
        days = sorted(frame["date"].unique())[34:35]
        frame.loc[(frame["symbol"] == "BBB") & frame["date"].isin(days), "close"] = 9.001

    assert "stale_run" not in found(bars_with(four))


@pytest.mark.parametrize("factor", [1.9, 0.55, 1.5])
def test_large_moves_that_are_no_ratio_of_a_split_pass(factor):
    def move(frame):
        later = (frame["symbol"] == "BBB") & (frame["date"] >= DAY)
        frame.loc[later, ["open", "high", "low", "close", "adj_close"]] *= factor

    assert "split_like_jump" not in found(bars_with(move))


def test_warnings_are_kept_with_the_market():
    market = build_market(bars_with(drop("2010-01-01", "2010-03-15")))
    assert [f.name for f in market.findings] == ["late_listing"]


def test_what_the_reader_noticed_is_a_warning_too():
    frame = synthetic_bars(("AAA", "BBB"), "2010-01-04", "2010-03-31")
    bars = make_bars(frame, "test", notes=(("no_adjusted_close", "closes are used"),))
    assert [f.name for f in check(bars)] == ["no_adjusted_close"]


def test_the_page_describes_every_finding():
    names = set()
    for file in Path("src/tactician/market").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        names |= set(re.findall(r'"([a-z]+(?:_[a-z]+)+)", "(?:error|warning)"', text))
        names |= set(re.findall(r'\(\("(\w+)", f?"', text))
    names |= {"out_of_order"}
    assert {"duplicate_rows", "late_listing", "no_adjusted_close", "adjusted_level"} <= names
    page = Path("docs/data.md").read_text(encoding="utf-8")
    assert names == set(re.findall(r"^\| `(\w+)` \| (?:error|warning)", page, re.M))
