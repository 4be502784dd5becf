"""Layouts and oddities of vendors' files: each is read right, or refused in one true sentence."""

from datetime import date

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tactician.errors import UserError
from tactician.market import read_bars
from tests.bars.vendor_files import CASES, D4, D5, D6, NO_ADJUSTED, SPY, dated

pytestmark = pytest.mark.filterwarnings("error")


def put(case, folder):
    for name, content in case.files.items():
        if isinstance(content, pd.DataFrame):
            content.to_parquet(folder / name)
        else:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder if case.folder else folder / next(iter(case.files))


def by_symbol(frame, column):
    table = {}
    for day, symbol, value in zip(frame["date"].dt.strftime("%Y-%m-%d"), frame["symbol"], frame[column], strict=True):
        table.setdefault(symbol, {})[day] = value
    return table


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_layout_is_read_right_or_refused_in_a_sentence(case, tmp_path):
    path = put(case, tmp_path)
    if case.refused:
        with pytest.raises(UserError) as caught:
            read_bars(path, case.symbols, calendar=case.calendar)
        said = str(caught.value)
        assert all(words in said for words in case.refused) and said.endswith("."), said
        assert len(said.splitlines()) == 1, said
        return
    bars = read_bars(path, case.symbols, calendar=case.calendar)
    np.testing.assert_equal(by_symbol(bars.frame, "close"), case.closes)
    assert set(bars.symbols) == set(case.closes)
    assert bars.frame["date"].dtype == "datetime64[ns]" and bars.frame["close"].dtype == "float64"
    assert [note.name for note in bars.notes] == list(case.notes)
    if case.adjusted is not None:
        np.testing.assert_equal(by_symbol(bars.frame, "adj_close"), case.adjusted)
    elif case.notes == NO_ADJUSTED:
        assert bars.frame["adj_close"].equals(bars.frame["close"])
    if case.volume is not None:
        np.testing.assert_equal(bars.frame["volume"].tolist(), case.volume)


def test_there_are_no_two_cases_of_a_name():
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
def test_a_year_of_sessions_keeps_its_dates_through_the_changes_of_the_clock(zone, tmp_path):
    sessions = exchange_calendars.get_calendar("XNYS", start="2021-01-01", end="2021-12-31").sessions
    stamps = sessions.tz_localize("America/New_York").tz_convert(zone)
    offsets = {str(stamp)[-6:] for stamp in stamps}
    assert offsets == ({"-05:00", "-04:00"} if zone != "UTC" else {"+00:00"})
    frame = pd.DataFrame({"Date": [str(stamp) for stamp in stamps], "Ticker": "AAA", "Close": 1.5})
    frame.to_csv(tmp_path / "bars.csv", index=False)
    read = read_bars(tmp_path / "bars.csv").frame["date"]
    assert list(read) == list(sessions)


def test_what_was_noted_is_counted_once_with_its_first_example(tmp_path):
    rows = [f"{day},AAA,1" for day in (D6, D4, D5)] + [f"{day},BBB,2" for day in (D6, D4, D5)]
    (tmp_path / "bars.csv").write_text("date,symbol,close\n" + "\n".join([*rows, "2021-01-07,AAA,", "2021-01-07,BBB,"]))
    empty, order, adjusted = read_bars(tmp_path / "bars.csv").notes
    assert (empty.name, empty.severity, empty.symbol, empty.date, empty.count) == (
        "empty_row", "repair", "AAA", "2021-01-07", 2,
    )  # fmt: skip
    assert "line 8: AAA 2021-01-07 has no price" in empty.message and "first of 2 such rows" in empty.message
    assert (order.name, order.severity, order.symbol, order.date, order.count) == (
        "out_of_order", "repair", "AAA", D4, 2,
    )  # fmt: skip
    assert "line 3: AAA 2021-01-04" in order.message
    assert (adjusted.name, adjusted.severity, adjusted.count) == ("no_adjusted_close", "warning", 1)


def test_notes_of_a_folder_are_gathered_over_its_files(tmp_path):
    for symbol in ("AAA", "BBB", "CCC"):
        (tmp_path / f"{symbol}.csv").write_text(SPY + "2021-01-18,\n")
    empty, adjusted = read_bars(tmp_path).notes
    assert empty.count == adjusted.count == 3
    assert "AAA.csv, line 4" in empty.message and adjusted.message.endswith("(first of 3 such files)")


def test_a_symbol_without_any_adjusted_close_is_told_and_its_closes_make_the_returns(tmp_path):
    rows = [f"{day},{name},{close},{adjusted}" for day in (D4, D5) for name, close, adjusted in
            (("AAA", 10, 5), ("BBB", 20, ""), ("CCC", 30, ""))]  # fmt: skip
    # One that is missing among others is no basis for returns, whatever the close.
    rows += [f"{D6},AAA,12,", f"{D6},BBB,21,", f"{D6},CCC,,"]
    (tmp_path / "bars.csv").write_text("date,symbol,close,adj_close\n" + "\n".join(rows))
    bars = read_bars(tmp_path / "bars.csv")
    assert by_symbol(bars.frame, "close")["BBB"] == {D4: 20, D5: 20, D6: 21}
    np.testing.assert_equal(
        by_symbol(bars.frame, "adj_close"),
        {"AAA": {D4: 5, D5: 5, D6: np.nan}, "BBB": {D4: 20, D5: 20, D6: 21}, "CCC": {D4: 30, D5: 30}},
    )
    (note,) = (note for note in bars.notes if note.name == "no_adjusted_close")
    assert (note.severity, note.symbol, note.count, [row[0] for row in note.rows]) == (
        "warning",
        "BBB",
        2,
        ["BBB", "CCC"],
    )
    assert "no adj_close of BBB; its closes make the returns" in note.message
    assert note.message.endswith("(first of 2 such symbols)")


def test_adjusted_closes_in_another_file_keep_the_closes_out(tmp_path):
    for year, adjusted in (("a", ""), ("b", 5)):
        day = D4 if year == "a" else D5
        text = f"date,symbol,close,adj_close\n{day},AAA,10,{adjusted}\n{day},BBB,20,9\n"
        (tmp_path / f"{year}.csv").write_text(text)
    bars = read_bars(tmp_path)
    np.testing.assert_equal(by_symbol(bars.frame, "adj_close")["AAA"], {D4: np.nan, D5: 5.0})
    assert bars.notes == ()


def test_files_of_other_symbols_are_not_opened(tmp_path):
    (tmp_path / "AAA.csv").write_text(SPY)
    (tmp_path / "BBB.parquet").write_text("no Parquet")
    assert read_bars(tmp_path, ("AAA",)).symbols == ("AAA",)
    with pytest.raises(UserError, match=r"BBB\.parquet"):
        read_bars(tmp_path)


def test_a_range_of_dates_is_chosen_after_all_was_read(tmp_path):
    (tmp_path / "bars.csv").write_text(dated("13/01/2021", "04/02/2021", "05/02/2021"))
    # The rows within the range alone would leave days and months open.
    assert list(read_bars(tmp_path / "bars.csv", None, date(2021, 2, 1)).frame["close"]) == [11.0, 11.5]


doubles = st.floats(allow_nan=False, allow_infinity=False) | st.floats(1e-3, 1e6)


@given(values=st.lists(doubles, min_size=3, max_size=60).map(lambda values: [0.5, *values]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_becomes_the_nearest_double_in_any_format(values, tmp_path):
    days = pd.bdate_range("2010-01-04", periods=len(values))
    frame = pd.DataFrame({"date": days, "symbol": "AAA", "close": values})
    text = [f"{day:%Y-%m-%d};AAA;{value!r}" for day, value in zip(days, values, strict=True)]
    (tmp_path / "a.csv").write_text("date;symbol;close\n" + "\n".join(text) + "\n")
    (tmp_path / "b.csv").write_text("date;symbol;close\n" + "\n".join(text).replace(".", ",") + "\n")
    frame.to_parquet(tmp_path / "c.parquet")
    frame.astype({"close": object}).assign(close=[repr(v) for v in values]).to_parquet(tmp_path / "d.parquet")
    prints = {read_bars(tmp_path / name).fingerprint for name in ("a.csv", "b.csv", "c.parquet", "d.parquet")}
    assert len(prints) == 1
    assert read_bars(tmp_path / "a.csv").frame["close"].tolist() == [float(repr(v)) for v in values]
