"""Every finding by its name: when it appears, what is done about it, and that it names symbol and date."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tactician.errors import UserError
from tactician.market import Finding, build_market, check_bars, make_bars
from tactician.market.findings_table import findings_table
from tests.conftest import synthetic_bars

DAY = pd.Timestamp("2010-03-16")
PRICES = ["open", "high", "low", "close", "adj_close"]


def bars_with(change, symbols=("AAA", "BBB", "CCC")):
    frame = synthetic_bars(symbols, "2010-01-04", "2010-06-30")
    changed = change(frame)
    return make_bars(frame if changed is None else changed, "test")


def check(change, on_findings="repair"):
    return check_bars(bars_with(change), "XNYS", on_findings)


def kinds(checked) -> dict[str, Finding]:
    return {f.name: f for f in checked.findings}


def at(frame, symbol="BBB", day=DAY):
    return (frame["symbol"] == symbol) & (frame["date"] == day)


def put(column, value):
    def change(frame):
        frame.loc[at(frame), column] = value

    return change


def drop(first, last, symbol="BBB"):
    return lambda f: f[(f["symbol"] != symbol) | (f["date"] < first) | (f["date"] > last)]


def twice(frame):
    return pd.concat([frame, frame[at(frame)]])


def twice_and_different(frame):
    return pd.concat([frame, frame[at(frame)].assign(close=1.0)])


def three_times_and_one_different(frame):
    return pd.concat([frame, frame[at(frame)], frame[at(frame)].assign(close=1.0)])


def on_a_sunday(frame):
    return pd.concat([frame, frame[at(frame)].assign(date=pd.Timestamp("2010-03-14"))])


def spike(frame, factor=100.0, days=1):
    rows = (frame["symbol"] == "BBB") & (frame["date"] >= DAY)
    hit = frame.index[rows][:days]
    frame.loc[hit, PRICES] *= factor


def near_miss(frame):
    """A high one in a thousand below the close."""
    frame.loc[at(frame), "high"] = frame.loc[at(frame), "close"] * 0.999


def quiet(frame):
    previous = frame.loc[at(frame, day=DAY - pd.Timedelta(days=1)), PRICES].to_numpy()
    frame.loc[at(frame), PRICES] = previous
    frame.loc[at(frame), "volume"] = 0.0


def stale(frame, bars=5):
    days = sorted(frame["date"].unique())[30 : 30 + bars]
    rows = (frame["symbol"] == "BBB") & frame["date"].isin(days)
    frame.loc[rows, PRICES] = frame.loc[rows, "close"].iloc[0]


def constant(frame):
    frame.loc[frame["symbol"] == "BBB", PRICES] = 9.0


def split(frame):
    frame.loc[(frame["symbol"] == "BBB") & (frame["date"] >= DAY), PRICES] *= 0.5


def off_basis(frame):
    frame.loc[frame["symbol"] == "BBB", ["open", "high", "low"]] *= 2.0


REPAIRED = [
    ("empty_row", put(PRICES, np.nan)),
    ("non_finite_price", put("close", np.nan)),
    ("non_finite_price", put("adj_close", np.nan)),
    ("non_finite_price", put("adj_close", np.inf)),
    ("non_finite_price", put("close", -np.inf)),
    ("non_positive_price", put("adj_close", 0.0)),
    ("non_positive_price", put("close", -3.0)),
    ("absurd_price", put("close", 1e308)),
    ("absurd_price", put("adj_close", 1e-300)),
    ("conflicting_rows", twice_and_different),
    ("conflicting_rows", three_times_and_one_different),
    ("price_spike", spike),
]
"""What costs the bar of BBB on 2010-03-16."""


@pytest.mark.parametrize(("name", "change"), REPAIRED)
def test_a_bar_without_a_price_to_trust_is_dropped(name, change):
    checked = check(change)
    found = kinds(checked)
    assert set(found) == {name, "missing_sessions"}
    finding = found[name]
    assert (finding.severity, finding.symbol, finding.date) == ("repair", "BBB", "2010-03-16")
    assert finding.message.startswith("BBB 2010-03-16 ") and "dropped" in finding.action
    assert not any("…" in line for line in findings_table(checked.findings))
    clean = synthetic_bars(("AAA", "BBB", "CCC"), "2010-01-04", "2010-06-30")
    pd.testing.assert_frame_equal(checked.bars.frame, clean[~at(clean)].reset_index(drop=True))
    assert not checked.blocked.any() and len(checked.blocked) == len(checked.bars.frame)


@pytest.mark.parametrize(
    ("name", "change"), [*REPAIRED, ("not_a_session", on_a_sunday), ("no_trade", quiet), ("duplicate_rows", twice)]
)
def test_strict_stops_where_repair_goes_on(name, change):
    with pytest.raises(UserError, match=rf"^test: BBB .*\[{name}\].*--on-findings repair") as caught:
        check(change, "strict")
    assert len(str(caught.value).splitlines()) == 1


def test_strict_lets_warnings_pass():
    assert set(kinds(check(near_miss, "strict"))) == {"ohlc_rounding"}


def test_clean_bars_stay_as_they_are():
    bars = bars_with(lambda f: None)
    for mode in ("repair", "strict"):
        checked = check_bars(bars, "XNYS", mode)
        assert checked.findings == () and not checked.blocked.any()
        pd.testing.assert_frame_equal(checked.bars.frame, bars.frame)


def test_the_order_of_rows_does_not_matter():
    shuffled = check(lambda f: f.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(shuffled.bars.frame, bars_with(lambda f: None).frame)


def test_the_same_row_twice_is_kept_once():
    checked = check(twice)
    assert set(kinds(checked)) == {"duplicate_rows"}
    pd.testing.assert_frame_equal(checked.bars.frame, bars_with(lambda f: None).frame)


def test_a_bar_of_a_closed_day_is_dropped():
    checked = check(on_a_sunday)
    assert set(kinds(checked)) == {"not_a_session"} and kinds(checked)["not_a_session"].date == "2010-03-14"
    pd.testing.assert_frame_equal(checked.bars.frame, bars_with(lambda f: None).frame)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ohlc_order", put("high", 1.0)),
        ("ohlc_order", put("low", 1000.0)),
        ("no_trade", quiet),
    ],
)
def test_a_bar_at_which_nobody_could_trade_marks_but_fills_nothing(name, change):
    bars = bars_with(change)
    checked = check_bars(bars, "XNYS")
    finding = kinds(checked)[name]
    assert set(kinds(checked)) == {name} and (finding.severity, finding.action) == ("repair", "not fillable")
    assert checked.blocked.sum() == 1 and checked.blocked[at(checked.bars.frame)].all()
    assert checked.bars.frame["close"].equals(bars.frame["close"])
    market = build_market(bars)
    day, asset = market.sessions.get_loc(DAY), market.symbols.index("BBB")
    assert not market.fillable[day, asset] and market.fillable.sum() == market.fillable.numel() - 1


@pytest.mark.parametrize("column", ["open", "high", "low"])
@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
def test_an_open_high_or_low_that_is_no_price_is_told_and_passed_over(column, value):
    checked = check(put(column, value))
    finding = kinds(checked)["open_high_low"]
    assert set(kinds(checked)) == {"open_high_low"} and finding.severity == "warning"
    assert not checked.blocked.any() and len(checked.bars.frame) == len(bars_with(lambda f: None).frame)


def test_columns_without_any_value_are_passed_over():
    assert check(lambda f: f.assign(open=np.nan, high=np.nan, low=np.nan, volume=np.nan)).findings == ()

    def of_one_asset(frame):
        frame.loc[frame["symbol"] == "BBB", ["open", "high", "low"]] = np.nan

    assert check(of_one_asset).findings == ()


def test_bars_of_closes_alone_are_enough():
    assert check(lambda f: f[["date", "symbol", "close", "adj_close"]]).findings == ()


def test_open_high_and_low_of_another_adjustment_are_told_once_and_block_nothing():
    checked = check(off_basis)
    assert set(kinds(checked)) == {"ohlc_basis"} and kinds(checked)["ohlc_basis"].symbol == "BBB"
    assert not checked.blocked.any()


@pytest.mark.parametrize("value", [-5.0, np.inf, 1e300])
def test_a_volume_that_cannot_be_is_missing(value):
    checked = check(put("volume", value))
    assert set(kinds(checked)) == {"broken_volume"} and not checked.blocked.any()
    volume = checked.bars.frame["volume"]
    assert volume[at(checked.bars.frame)].isna().all() and volume.isna().sum() == 1


def test_whole_volumes_are_read_too():
    checked = check(lambda f: f.assign(volume=f["volume"].astype("int64")))
    assert checked.findings == ()


def test_no_volume_with_another_close_is_a_bar():
    assert check(put("volume", 0.0)).findings == ()


def test_an_asset_that_never_has_volume_is_told_once_and_can_be_filled():
    def change(frame):
        frame.loc[frame["symbol"] == "BBB", "volume"] = 0.0
        stale(frame, 3)

    checked = check(change)
    finding = kinds(checked)["no_volume"]
    assert set(kinds(checked)) == {"no_volume"} and finding.count == 1 and finding.severity == "warning"
    assert not checked.blocked.any()


@pytest.mark.parametrize("days", [1, 5])
@pytest.mark.parametrize("factor", [100.0, 0.01, 9.0])
def test_a_price_that_leaves_and_comes_back_is_dropped_for_as_long(days, factor):
    checked = check(lambda f: spike(f, factor, days))
    assert kinds(checked)["price_spike"].count == days and "split_like_jump" not in kinds(checked)
    assert len(checked.bars.frame) == len(bars_with(lambda f: None).frame) - days


@pytest.mark.parametrize(
    ("name", "change", "day"),
    [
        ("ohlc_rounding", near_miss, "2010-03-16"),
        ("missing_sessions", drop("2010-03-16", "2010-03-16"), "2010-03-17"),
        ("missing_sessions", drop("2010-03-16", "2010-03-22"), "2010-03-23"),  # five
        ("long_gap", drop("2010-03-16", "2010-03-23"), "2010-03-24"),  # six
        ("stale_run", stale, "2010-02-23"),
        ("split_like_jump", split, "2010-03-16"),
        ("late_listing", drop("2010-01-01", "2010-03-15"), "2010-03-16"),
        ("early_end", drop("2010-06-01", "2010-12-31"), "2010-05-28"),
        ("incomplete_end", drop("2010-06-29", "2010-12-31"), "2010-06-28"),
    ],
)
def test_warnings_change_nothing_and_name_symbol_and_date(name, change, day):
    bars = bars_with(change)
    checked = check_bars(bars, "XNYS")
    found = kinds(checked)
    assert set(found) == {name}
    finding = found[name]
    assert (finding.severity, finding.symbol, finding.date) == ("warning", "BBB", day)
    assert finding.message.startswith(f"BBB {day} ") and finding.action
    assert not any("…" in line for line in findings_table(checked.findings))
    assert not checked.blocked.any()
    pd.testing.assert_frame_equal(checked.bars.frame, bars.frame)


def test_four_equal_closes_are_not_stale():
    assert "stale_run" not in kinds(check(lambda f: stale(f, 4)))


def test_a_fund_of_constant_price_that_pays_dividends_is_alive():
    def change(frame):
        rows = frame["symbol"] == "BBB"
        frame.loc[rows, ["open", "high", "low", "close"]] = 1.0
        frame.loc[rows, "adj_close"] = 1.0001 ** np.arange(rows.sum())

    assert check(change).findings == ()


def test_an_asset_whose_price_never_changes_is_never_filled():
    checked = check(constant)
    assert set(kinds(checked)) == {"constant_price"} and kinds(checked)["constant_price"].severity == "repair"
    assert checked.blocked.equals(checked.bars.frame["symbol"] == "BBB")


def test_a_price_that_never_changes_stops_where_a_single_asset_would_remain():
    with pytest.raises(UserError, match=r"BBB 2010-01-04 and later: the price never changes .*\[constant_price\]"):
        check_bars(bars_with(constant, ("AAA", "BBB")), "XNYS")


def every(step):
    def change(frame):
        days = pd.DatetimeIndex(sorted(frame["date"].unique()))[::step]
        return frame[frame["date"].isin(days)]

    return change


def hourly(frame):
    hours = [frame.assign(close=frame["close"] * (1 + k / 1000)) for k in range(7)]
    return pd.concat(hours).sort_values("date", kind="stable")


def many_nan(frame):
    rows = frame.index[frame["symbol"] == "BBB"][20:40:2]
    frame.loc[rows, "close"] = np.nan


ERRORS = [
    ("weekly_bars", every(5), "AAA 2010-01-04 and later: weekly bars", "download daily bars"),
    ("monthly_bars", every(21), "AAA 2010-01-04 and later: monthly bars", "download daily bars"),
    ("intraday_bars", hourly, "AAA 2010-01-04 has several bars per day", "download daily bars"),
    (
        "too_many_repairs",
        many_nan,
        "BBB would lose more bars than a repair may take (10 of 124 bars",
        "correct the file",
    ),
    (
        "no_bars",
        lambda f: put("close", np.nan)(f) or f[(f["symbol"] != "BBB") | at(f)],
        "BBB has no usable bar",
        "remove the symbol",
    ),
]


@pytest.mark.parametrize(("name", "change", "words", "remedy"), ERRORS)
def test_what_no_repair_mends_stops_with_a_remedy(name, change, words, remedy):
    with pytest.raises(UserError) as caught:
        check(change)
    said = str(caught.value)
    assert words in said and f"[{name}]" in said and remedy in said
    assert said.startswith("test: ") and said.endswith(".") and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [("adj_close", np.nan, "non_finite_price"), ("close", 0.0, "non_positive_price")],
)
def test_an_asset_without_any_bar_says_what_removed_them(column, value, name):
    def change(frame):
        frame.loc[frame["symbol"] == "BBB", column] = value

    with pytest.raises(UserError, match=r"\[no_bars\].*correct its bars, or remove the symbol") as caught:
        check(change)
    assert f"(dropped: 124 {name} ({column} without any price))" in str(caught.value)


def test_an_asset_of_empty_rows_says_so():
    def change(frame):
        frame.loc[frame["symbol"] == "BBB", PRICES] = np.nan

    with pytest.raises(UserError, match=r"dropped: 124 empty_row .*\[no_bars\]"):
        check(change)


@pytest.mark.parametrize("column", ["volume", "open", "high", "low"])
@pytest.mark.parametrize("value", [1.0, np.nan])
def test_rows_of_one_close_that_differ_in_another_cell_lose_this_cell_alone(column, value):
    def change(frame):
        return pd.concat([frame, frame[at(frame)].assign(**{column: value})])

    checked = check(change)
    assert (
        {"conflicting_cells", "duplicate_rows"}
        <= set(kinds(checked))
        <= {
            "conflicting_cells",
            "duplicate_rows",
            "open_high_low",
        }
    )
    assert kinds(checked)["conflicting_cells"].action == f"{column} missing"
    expected = bars_with(lambda f: None).frame
    expected.loc[at(expected), column] = np.nan
    pd.testing.assert_frame_equal(checked.bars.frame, expected)


@pytest.mark.parametrize("days", ["one", "all"])
def test_bars_that_come_again_rounded_are_kept_as_they_came_first(days):
    def change(frame):
        again = frame[at(frame)] if days == "one" else frame
        return pd.concat([frame, again.assign(**{c: again[c].round(2) for c in PRICES})])

    checked = check(change)
    assert set(kinds(checked)) == {"duplicate_rows"}
    pd.testing.assert_frame_equal(checked.bars.frame, bars_with(lambda f: None).frame)


@pytest.mark.parametrize("column", ["close", "adj_close"])
def test_prices_that_differ_by_more_than_rounding_stay_a_conflict(column):
    checked = check(lambda f: pd.concat([f, f[at(f)].assign(**{column: f[at(f)][column] * 1.0011})]))
    assert kinds(checked)["conflicting_rows"].count == 2 and not at(checked.bars.frame).any()


@pytest.mark.parametrize(
    "path", [(10.0, 100.0), (10.0, 2.5), (2.5, 10.0), (0.1, 0.01, 0.4), (9.0, 2.0, 2.0, 2.0, 2.0), (8.1, 80.0, 8.1)]
)
def test_a_price_that_leaves_wherever_it_goes_meanwhile_is_dropped_until_it_is_back(path):
    def change(frame):
        rows = frame.index[(frame["symbol"] == "BBB") & (frame["date"] >= DAY)][: len(path)]
        for row, factor in zip(rows, path, strict=True):
            frame.loc[row, PRICES] = frame.loc[row, PRICES].astype(float) * factor

    checked = check(change)
    assert kinds(checked)["price_spike"].count == len(path)
    market = build_market(bars_with(change))
    assert market.returns.abs().max() < 0.5


@pytest.mark.parametrize("path", [(9.0,) * 6, (2.0, 4.0, 8.1, 3.0), (7.0,)])
def test_a_price_that_stays_away_or_wanders_is_no_spike(path):
    def change(frame):
        rows = frame.index[(frame["symbol"] == "BBB") & (frame["date"] >= DAY)][: len(path)]
        for row, factor in zip(rows, path, strict=True):
            frame.loc[row, PRICES] = frame.loc[row, PRICES].astype(float) * factor

    assert "price_spike" not in kinds(check(change))


def test_bars_between_two_spikes_stay():
    def change(frame):
        rows = frame.index[(frame["symbol"] == "BBB") & (frame["date"] >= DAY)]
        frame.loc[rows[[0, 4]], PRICES] *= 10.0

    assert kinds(check(change))["price_spike"].count == 2


def test_quarterly_bars_stop():
    frame = synthetic_bars(("AAA", "BBB"), "2010-01-04", "2013-12-31")
    days = pd.DatetimeIndex(sorted(frame["date"].unique()))[::63]
    with pytest.raises(UserError, match=r"quarterly bars, the first of 2 such assets \[quarterly_bars\]; download"):
        check_bars(make_bars(frame[frame["date"].isin(days)], "test"), "XNYS")


def test_one_weekly_asset_among_daily_ones_stops_and_is_named():
    def change(frame):
        days = pd.DatetimeIndex(sorted(frame["date"].unique()))[::5]
        return frame[(frame["symbol"] != "BBB") | frame["date"].isin(days)]

    with pytest.raises(UserError, match=r"^test: BBB .*weekly bars \[weekly_bars\]"):
        check(change)


@pytest.mark.parametrize(("step", "kind"), [(5, "weekly"), (21, "monthly")])
@pytest.mark.parametrize("symbols", [("AAA", "BBB", "CCC"), ("BBB",)])
@pytest.mark.parametrize("first", [0, 120])
def test_bars_that_are_not_daily_for_a_part_of_a_life_stop_with_the_dates_of_it(step, kind, symbols, first):
    frame = synthetic_bars(("AAA", "BBB", "CCC"), "2010-01-04", "2014-12-31")
    days = pd.DatetimeIndex(sorted(frame["date"].unique()))
    sparse = days[first : first + 25 * step : step]
    kept = frame["date"].isin(sparse) | (frame["date"] < sparse[0]) | (frame["date"] > sparse[-1])
    with pytest.raises(UserError, match=rf"\[{kind}_bars\]; download daily bars") as caught:
        check_bars(make_bars(frame[kept | ~frame["symbol"].isin(symbols)], "test"), "XNYS")
    assert f"{symbols[0]} {sparse[0]:%Y-%m-%d} begins {kind} bars (until {sparse[-1]:%Y-%m-%d})" in str(caught.value)


@pytest.mark.parametrize("seed", range(10))
def test_an_asset_that_trades_on_random_days_has_no_weekly_bars(seed):
    frame = synthetic_bars(("AAA", "BBB", "CCC"), "2010-01-04", "2019-12-31")
    rare = np.random.default_rng(seed).random(len(frame)) < 0.6
    checked = check_bars(make_bars(frame[(frame["symbol"] != "BBB") | ~rare], "test"), "XNYS")  # on 40 % of the days
    assert "missing_sessions" in kinds(checked)


def test_one_asset_is_not_enough():
    with pytest.raises(UserError, match=r"AAA is the only asset.*\[one_asset\]; add a symbol"):
        check_bars(bars_with(lambda f: None, symbols=("AAA",)), "XNYS")


def test_a_few_faults_are_repaired_and_more_than_a_twentieth_are_not():
    def broken(n):
        def change(frame):
            frame.loc[frame.index[frame["symbol"] == "BBB"][20 : 20 + 2 * n : 2], "close"] = np.nan

        return change

    assert kinds(check(broken(6)))["non_finite_price"].count == 6  # of 124
    with pytest.raises(UserError, match=r"7 of 124 bars, non_finite_price\) \[too_many_repairs\]"):
        check(broken(7))


def test_rows_without_any_price_do_not_count_as_losses():
    """A table that was written long has a row for each symbol and date, empty before the listing."""

    def change(frame):
        frame.loc[(frame["symbol"] == "BBB") & (frame["date"] < "2010-04-01"), PRICES] = np.nan

    assert set(kinds(check(change))) == {"empty_row", "late_listing"}


def test_faults_of_a_kind_are_one_finding_with_all_rows():
    def change(frame):
        put("close", np.nan)(frame)
        frame.loc[at(frame, "AAA", pd.Timestamp("2010-04-20")), "close"] = np.nan

    finding = kinds(check(change))["non_finite_price"]
    assert finding.count == 2 and len({symbol for symbol, _, _ in finding.rows}) == 2
    assert "the first of 2 such rows of 2 symbols" in finding.message
    assert [row[:2] for row in finding.rows] == [("BBB", "2010-03-16"), ("AAA", "2010-04-20")]
    assert finding.rows[0][2].startswith("close nan, adj_close ")


def test_an_error_counts_what_else_stops():
    def change(frame):
        frame.loc[at(frame, "AAA"), "close"] = np.nan
        return on_a_sunday(pd.concat([frame, frame[at(frame, "CCC")]]))

    with pytest.raises(UserError, match=r"besides 1 duplicate_rows, 1 not_a_session"):
        check(change, "strict")


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("yfinance", "choose another start or end, or other symbols"),
        ("embedded", "choose other symbols or dates"),
        ("bars.csv", "correct the file at these dates, or remove the symbol"),
    ],
)
def test_the_remedy_is_one_that_the_user_of_the_source_can_carry_out(source, remedy):
    frame = synthetic_bars(("AAA", "BBB", "CCC"), "2010-01-04", "2010-06-30")
    many_nan(frame)
    with pytest.raises(UserError, match=remedy):
        check_bars(make_bars(frame, source), "XNYS")


def test_findings_of_the_reader_come_first_and_are_kept():
    note = Finding("no_adjusted_close", "warning", "closes are used")
    frame = synthetic_bars(("AAA", "BBB"), "2010-01-04", "2010-03-31")
    bars = make_bars(twice(frame), "test", notes=(note,))
    assert [f.name for f in check_bars(bars, "XNYS").findings] == ["no_adjusted_close", "duplicate_rows"]
    market = build_market(bars)
    assert [f.name for f in market.findings][:2] == ["no_adjusted_close", "duplicate_rows"]


def test_symbols_may_be_categories():
    frame = synthetic_bars(("AAA", "BBB", "CCC"), "2010-01-04", "2010-06-30")
    frame["symbol"] = frame["symbol"].astype("category")
    assert check_bars(make_bars(frame, "test"), "XNYS").findings == ()


def names_in_the_source() -> set[str]:
    found = set()
    for file in (file for room in ("bars", "market") for file in Path("src/tactician", room).glob("*.py")):
        text = file.read_text(encoding="utf-8")
        found |= set(re.findall(r'(?:Fault|Finding|finding_of)\(\s*"(\w+)"', text))
        found |= set(re.findall(r'^ +\(\s*"(\w+_\w+)",\s', text, re.M))  # rows of a table of checks
        found |= set(re.findall(r"\((\w+)\);? ?\"", text)) & {"out_of_order"}
        found |= set(re.findall(r'"(\w+_bars)": \(', text))  # spacings of bars
        found |= set(re.findall(r'^LEVEL_LEAK = "(\w+)"', text, re.M))
    return found


def test_the_page_describes_every_finding():
    names = names_in_the_source()
    tested = {name for name, *_ in (*REPAIRED, *ERRORS)}
    assert tested | {"not_a_session", "no_trade", "stale_run", "late_listing", "extra_session", "hole"} <= names
    page = Path("docs/data.md").read_text(encoding="utf-8")
    assert names == set(re.findall(r"^\| `(\w+)` \| (?:error|repair|warning) \|", page, re.M))
