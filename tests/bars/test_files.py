"""Bars from files: long, wide, folders, CSV and Parquet say the same; what cannot be read is named."""

import pandas as pd
import pytest

from tactician.errors import UserError
from tactician.market import read_bars
from tests.conftest import synthetic_bars

SYMBOLS = ("AAA", "BBB")


@pytest.fixture(scope="module")
def frame():
    return synthetic_bars(SYMBOLS, "2010-01-04", "2010-02-26")


def write(frame, path):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False, float_format="%.17g")
    else:
        frame.to_parquet(path)
    return path


def test_long_csv_and_parquet_and_a_folder_of_either_are_the_same_bars(frame, tmp_path):
    expected = read_bars(write(frame, tmp_path / "bars.parquet"))
    assert len(expected.frame) == len(frame) and expected.symbols == SYMBOLS
    others = [read_bars(write(frame, tmp_path / "bars.csv"))]
    for suffix in ("csv", "parquet"):
        folder = tmp_path / suffix
        for symbol, part in frame.groupby("symbol"):
            write(part.drop(columns="symbol"), folder / f"{symbol}.{suffix}")
        others.append(read_bars(folder))
    for other in others:
        assert other.fingerprint == expected.fingerprint
        pd.testing.assert_frame_equal(other.frame, expected.frame)


def test_column_names_in_any_case_with_spaces_and_a_byte_order_mark(frame, tmp_path):
    renamed = frame.rename(columns={"date": "Date", "symbol": "Ticker", "close": "Close", "adj_close": "Adj Close"})
    path = tmp_path / "bars.csv"
    renamed.to_csv(path, index=False, float_format="%.17g", encoding="utf-8-sig")
    assert read_bars(path).fingerprint == read_bars(write(frame, tmp_path / "plain.csv")).fingerprint


def test_further_columns_are_passed_over(frame, tmp_path):
    path = write(frame.assign(vwap=1.0, comment="x"), tmp_path / "bars.csv")
    assert "vwap" not in read_bars(path).frame


def test_a_wide_table_holds_prices_and_an_empty_cell_is_no_bar(frame, tmp_path):
    wide = frame.pivot(index="date", columns="symbol", values="close").reset_index()
    wide.loc[:4, "BBB"] = None
    for name in ("wide.csv", "wide.parquet"):
        bars = read_bars(write(wide, tmp_path / name))
        assert (bars.frame["symbol"] == "BBB").sum() == len(wide) - 5
        assert (bars.frame["close"] == bars.frame["adj_close"]).all()
        assert [note.name for note in bars.notes] == ["no_adjusted_close"]


def test_a_date_index_is_taken_too(frame, tmp_path):
    wide = frame.pivot(index="date", columns="symbol", values="close")
    wide.columns.name = None
    wide.to_parquet(tmp_path / "wide.parquet")
    assert read_bars(tmp_path / "wide.parquet").symbols == SYMBOLS


def test_times_and_zones_become_the_exchanges_day(frame, tmp_path):
    stamped = frame.assign(
        date=(frame["date"] + pd.Timedelta(hours=16)).dt.tz_localize("America/New_York").dt.tz_convert("UTC")
    )
    path = tmp_path / "bars.parquet"
    stamped.to_parquet(path)
    assert read_bars(path).frame["date"].equals(read_bars(write(frame, tmp_path / "p.parquet")).frame["date"])


def test_symbols_are_chosen_in_the_order_asked_for_and_odd_ones_pass(frame, tmp_path):
    odd = frame.replace({"symbol": {"AAA": "BRK.B", "BBB": "^GSPC"}})
    path = write(odd, tmp_path / "bars.csv")
    assert read_bars(path, ("^GSPC", "BRK.B")).symbols == ("^GSPC", "BRK.B")


def test_dates_are_chosen_with_both_ends(frame, tmp_path):
    path = write(frame, tmp_path / "bars.csv")
    days = read_bars(path, None, pd.Timestamp("2010-01-11").date(), pd.Timestamp("2010-01-15").date()).frame["date"]
    assert (str(days.min().date()), str(days.max().date())) == ("2010-01-11", "2010-01-15")


def text_file(tmp_path, text, name="bars.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("date,symbol,close\n", "is empty below its headings"),
        ("when,symbol,close\n2010-01-04,A,1\n", "has no date column among 'when', 'symbol', 'close'; name one 'date'"),
        ("date,symbol,nav\n2010-01-04,A,1\n", "has no column 'close' among 'date', 'symbol', 'nav'"),
        ("date,close\n2010-01-04,1\n", "has no column 'symbol'"),
        ("date,symbol,close\nsoon,A,1\n", "line 2: 'soon' is no date; write dates as 2020-03-16"),
        ("date,symbol,close\n2010-01-04,A,1\n2010-01-05,A,one\n", "line 3: 'one' in column close is no number"),
        ("date,symbol,close\n2010-01-04,A,1\n2010-01-05, ,1\n", "line 3: the symbol is missing"),
        ("date,symbol,close\n2010-01-04,A,1\n,A,1\n", "line 3: the date is missing"),
        ("date,symbol,close\n2010-01-04,A,1\n" * 40 + "2010-01-05,A,1,7\n", "line 81 has 4 cells where 3 are expected"),
        ("date\n2010-01-04\n", "a date column and no prices"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_row_and_a_remedy(tmp_path, text, words):
    with pytest.raises(UserError) as caught:
        read_bars(text_file(tmp_path, text))
    assert words in str(caught.value) and "bars.csv" in str(caught.value)


def test_other_files_folders_without_bars_and_broken_parquet_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither .csv nor .parquet"):
        read_bars(text_file(tmp_path, "x", "bars.xlsx"))
    with pytest.raises(UserError, match=r"holds no .csv or .parquet file"):
        read_bars(tmp_path)
    with pytest.raises(UserError, match="Cannot read bars from"):
        read_bars(text_file(tmp_path, "x", "bars.parquet"))
    with pytest.raises(UserError, match=r"Cannot read bars from .*none.csv"):
        read_bars(tmp_path / "none.csv")


def test_symbols_and_dates_that_are_not_there_are_named(frame, tmp_path):
    path = write(frame, tmp_path / "bars.csv")
    with pytest.raises(UserError, match="has no bars of XXX; it has: AAA, BBB"):
        read_bars(path, ("AAA", "XXX"))
    with pytest.raises(UserError, match="no bars between 2030-01-01"):
        read_bars(path, None, pd.Timestamp("2030-01-01").date())


def test_the_fingerprint_moves_with_any_number(frame, tmp_path):
    before = read_bars(write(frame, tmp_path / "a.parquet")).fingerprint
    for column in ("open", "close", "volume"):
        other = frame.copy()
        other.loc[7, column] *= 1 + 1e-12
        assert read_bars(write(other, tmp_path / "b.parquet")).fingerprint != before
