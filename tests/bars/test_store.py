"""The local store: only what is new is downloaded, and a vendor that restates the past is told."""

import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tactician.bars import Refreshed, read_source, refresh
from tactician.bars.kept import file_name, read_kept
from tactician.config import load_config
from tactician.errors import UserError
from tests.conftest import synthetic_bars

DAYS = pd.bdate_range("2020-01-02", periods=80)
STORED = DAYS[59]
"""The last session of the first download in most tests."""
SINCE = DAYS[49]
"""Ten sessions before it."""
NEXT = DAYS[60]


class Vendor:
    """A Yahoo of its own: prices as traded, splits and dividends, from which it computes what it shows on a day."""

    def __init__(self):
        self.traded, self.volume, self.splits, self.dividends, self.holes = {}, {}, {}, {}, {}
        self.asked, self.today, self.meanwhile, self.twice = [], DAYS[-1], None, []

    def list(self, *symbols):
        for k, symbol in enumerate(symbols, len(self.traded)):
            steps = np.random.default_rng(k).normal(3e-4, 0.012, len(DAYS))
            self.traded[symbol] = pd.Series(100 * np.exp(np.cumsum(steps)), DAYS)
            self.volume[symbol] = pd.Series(1000.0 + np.arange(len(DAYS)), DAYS)
            self.splits[symbol], self.dividends[symbol] = pd.Series(0.0, DAYS), pd.Series(0.0, DAYS)
            self.holes[symbol] = []

    def shown(self, symbol, start):
        seen = DAYS[self.today >= DAYS]
        ratio = self.splits[symbol][seen].replace(0.0, 1.0)
        later = np.array([ratio.iloc[k + 1 :].prod() for k in range(len(seen))])
        close = self.traded[symbol][seen] / later
        paid = 1 - self.dividends[symbol][seen] / self.traded[symbol][seen].shift(1)
        kept = np.array([paid.iloc[k + 1 :].prod() for k in range(len(seen))])
        table = pd.DataFrame({"Open": close, "High": close * 1.01, "Low": close * 0.99, "Close": close})
        table = table.assign(**{"Adj Close": close * kept, "Volume": self.volume[symbol][seen] * later})
        table = table.assign(**{"Stock Splits": self.splits[symbol][seen]})
        table = table[(table.index >= pd.Timestamp(start)) & ~table.index.isin(self.holes[symbol])]
        table = table.loc[table.index.repeat(1 + table.index.isin(self.twice))]
        return table.set_axis(table.index.tz_localize("America/New_York"))

    def history(self, symbol, start):
        self.asked.append((symbol, start))
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        if symbol not in self.traded:
            raise ConnectionError("no such symbol")
        return self.shown(symbol, start)

    def starts(self):
        """What was asked for since the last look."""
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def vendor(monkeypatch):
    made = Vendor()
    made.list("AAA", "BBB")

    class Ticker:
        def __init__(self, symbol):
            self.symbol = symbol

        def history(self, start, **_):
            return made.history(self.symbol, start)

    monkeypatch.setitem(sys.modules, "yfinance", SimpleNamespace(Ticker=Ticker))
    return made


def config(*symbols, bars="yfinance", **changes):
    universe = {"all": list(symbols or ("AAA", "BBB"))}
    values = {"bars": str(bars), "universe": universe, "start": "2020-01-02", "train_until": "2020-12-31", **changes}
    return load_config("configs/embedded_sp500.yaml", {"validation_until": "2021-12-31", **values})


def day(stamp):
    return stamp.date()


def filled(vendor, tmp_path, wanted=None):
    """A store that was filled up to `STORED`."""
    refresh(wanted or config(), tmp_path, day(STORED))
    vendor.asked = []
    return tmp_path


def at_once(wanted, until):
    """The same bars, read without a store."""
    return read_source(wanted.model_copy(update={"end": until}))


def agree(one: Refreshed, other):
    """All but the adjusted closes are the same to the last bit; these are rescaled."""
    left, right = one.bars.frame, other.frame
    assert left.drop(columns="adj_close").equals(right.drop(columns="adj_close"))
    np.testing.assert_allclose(left["adj_close"], right["adj_close"], rtol=1e-12)
    assert (
        one.bars.symbols == other.symbols and one.bars.source == other.source and one.bars.as_traded == other.as_traded
    )


def returns(frame, symbol="AAA"):
    return frame[frame["symbol"] == symbol].set_index("date")["adj_close"].pct_change().dropna()


def test_the_first_refresh_downloads_all_and_the_second_nothing(vendor, tmp_path):
    first = refresh(config(), tmp_path, day(STORED))
    assert vendor.starts() == [("AAA", "2020-01-02"), ("BBB", "2020-01-02")]
    assert first.bars.fingerprint == at_once(config(), day(STORED)).fingerprint
    assert first.told == ("yfinance: 2 symbols read whole; 120 new bars until 2020-03-25.",) and not first.restated
    vendor.starts()
    second = refresh(config(), tmp_path, day(STORED))
    assert vendor.starts() == [] and second.bars.fingerprint == first.bars.fingerprint and second.bars.as_traded
    assert second.told == ("yfinance: 2 symbols already stored; 0 new bars until 2020-03-25.",) and not second.restated
    assert sorted(p.name for p in (tmp_path / "yfinance").iterdir()) == ["AAA.parquet", "BBB.parquet"]


def test_the_next_session_downloads_the_overlap_only(vendor, tmp_path):
    filled(vendor, tmp_path)
    found = refresh(config(), tmp_path, day(NEXT))
    assert vendor.starts() == [("AAA", str(day(SINCE))), ("BBB", str(day(SINCE)))]
    assert found.bars.fingerprint == at_once(config(), day(NEXT)).fingerprint
    assert found.told == ("yfinance: 2 symbols extended; 2 new bars until 2020-03-26.",) and not found.restated


def test_a_bar_that_still_moves_is_left_out_and_taken_when_its_session_has_closed(vendor, tmp_path):
    filled(vendor, tmp_path)
    vendor.traded["AAA"][NEXT] = 55.0
    found = refresh(config(), tmp_path, day(STORED))
    assert found.bars.frame["date"].max() == STORED
    vendor.traded["AAA"][NEXT] = 56.0
    found = refresh(config(), tmp_path, day(NEXT))
    assert found.bars.frame.query("symbol == 'AAA'")["close"].iloc[-1] == 56.0 and not found.restated


def test_a_dividend_rescales_the_stored_adjusted_closes_and_changes_no_return(vendor, tmp_path):
    filled(vendor, tmp_path)
    before = refresh(config(), tmp_path, day(STORED)).bars.frame
    vendor.dividends["AAA"][NEXT] = 2.0
    found = refresh(config(), tmp_path, day(NEXT))
    assert len(vendor.starts()) == 2 and not found.restated and len(found.told) == 1
    agree(found, at_once(config(), day(NEXT)))
    old, now = returns(before), returns(found.bars.frame)
    np.testing.assert_allclose(now[:-1], old, rtol=0, atol=4e-16)
    # The owner has the price's change and the dividend: Yahoo takes 1 - D/P(t-1) off the earlier prices.
    a, b = vendor.traded["AAA"][STORED], vendor.traded["AAA"][NEXT]
    assert now.iloc[-1] == pytest.approx(b / (a - 2.0) - 1, rel=1e-12)


def test_a_split_between_two_refreshes_leaves_the_closes_as_they_were_traded(vendor, tmp_path):
    filled(vendor, tmp_path)
    # Of three splits, one lies before the overlap, one in what is new, and one comes after the last session asked for.
    for where, ratio in ((DAYS[20], 3.0), (NEXT, 4.0), (DAYS[70], 2.0)):
        vendor.traded["AAA"][where <= DAYS] /= ratio
    old = refresh(config(), tmp_path / "old", day(STORED))
    for where, ratio in ((DAYS[20], 3.0), (NEXT, 4.0), (DAYS[70], 2.0)):
        vendor.splits["AAA"][where] = ratio
    vendor.today = DAYS[65]
    told = refresh(config(), tmp_path / "new", day(STORED))
    vendor.starts()
    for today in (DAYS[65], DAYS[-1]):
        vendor.today = today
        found = refresh(config(), tmp_path / "new", day(today) if today < DAYS[-1] else day(DAYS[72]))
        assert len(vendor.starts()) == 2 and not found.restated
        closes = found.bars.frame.query("symbol == 'AAA'").set_index("date")["close"]
        np.testing.assert_allclose(closes, vendor.traded["AAA"][closes.index], rtol=1e-12)
    agree(found, at_once(config(), day(DAYS[72])))
    assert old.bars.frame["close"].to_numpy() == pytest.approx(told.bars.frame["close"].to_numpy(), rel=1e-12)


def test_a_restated_close_is_told_and_read_whole_and_the_old_bars_are_kept(vendor, tmp_path):
    filled(vendor, tmp_path)
    old = refresh(config(), tmp_path, day(STORED)).bars.frame
    vendor.traded["AAA"][DAYS[55]] *= 1.02  # in the overlap
    vendor.traded["AAA"][DAYS[5]] *= 0.97  # before it: seen only because the symbol is read whole
    found = refresh(config(), tmp_path, day(NEXT))
    assert vendor.starts() == [("AAA", str(day(SINCE))), ("AAA", "2020-01-02"), ("BBB", str(day(SINCE)))]
    assert found.restated and found.bars.fingerprint == at_once(config(), day(NEXT)).fingerprint
    # Each of the two closes is part of two returns.
    change = returns(found.bars.frame)[: len(DAYS[1:60])] - returns(old)
    assert found.told == (
        "yfinance: 1 symbol read whole, 1 symbol extended; 2 new bars until 2020-03-26.",
        f"AAA: yfinance changed 4 of 60 stored days; the first such day is {day(DAYS[5])}, and a daily return changed by up "
        f"to {100 * change.abs().max():.2g} %.",
        f"The bars as they were are in {tmp_path / 'yfinance'}, in files that end in .before.",
    )
    assert 0.029 < change.abs().max() < 0.032
    before = pd.read_parquet(tmp_path / "yfinance" / "AAA.parquet.before")
    assert before["close"].tolist() == old.query("symbol == 'AAA'")["close"].tolist()
    assert not (tmp_path / "yfinance" / "BBB.parquet.before").exists()
    assert not refresh(config(), tmp_path, day(DAYS[61])).restated


def test_a_dividend_that_a_vendor_learns_late_is_a_restatement(vendor, tmp_path):
    filled(vendor, tmp_path)
    vendor.dividends["AAA"][DAYS[55]] = 1.0
    found = refresh(config(), tmp_path, day(NEXT))
    assert found.restated and "changed 1 of 60 stored days; the first such day is 2020-03-19" in found.told[1]
    agree(found, at_once(config(), day(NEXT)))


def test_rounding_is_no_restatement(vendor, tmp_path):
    filled(vendor, tmp_path)
    vendor.traded["AAA"][DAYS[50:60]] *= 1 + np.array([3e-5, -3e-5] * 5)
    found = refresh(config(), tmp_path, day(NEXT))
    assert len(vendor.starts()) == 2 and not found.restated


def test_a_volume_alone_is_not_told_and_the_later_one_is_kept(vendor, tmp_path):
    filled(vendor, tmp_path)
    vendor.volume["AAA"][STORED] = 5e6
    found = refresh(config(), tmp_path, day(NEXT))
    assert len(vendor.starts()) == 2 and not found.restated and len(found.told) == 1
    assert found.bars.fingerprint == at_once(config(), day(NEXT)).fingerprint


def test_a_symbol_that_joins_the_universe_is_read_whole_and_the_others_are_not(vendor, tmp_path):
    filled(vendor, tmp_path)
    vendor.list("CCC")
    found = refresh(config("AAA", "BBB", "CCC"), tmp_path, day(NEXT))
    assert vendor.starts() == [("AAA", str(day(SINCE))), ("BBB", str(day(SINCE))), ("CCC", "2020-01-02")]
    assert found.told[0] == "yfinance: 1 symbol read whole, 2 symbols extended; 63 new bars until 2020-03-26."
    assert found.bars.fingerprint == at_once(config("AAA", "BBB", "CCC"), day(NEXT)).fingerprint
    assert set(refresh(config("BBB"), tmp_path, day(NEXT)).bars.frame["symbol"]) == {"BBB"}


def test_a_hole_in_the_overlap_is_told_and_stays_a_hole(vendor, tmp_path):
    filled(vendor, tmp_path)
    vendor.holes["AAA"] = [DAYS[52], DAYS[53]]
    found = refresh(config(), tmp_path, day(NEXT))
    assert found.restated and "AAA: yfinance lacks 2 of 60 stored days; the first such day is 2020-03-16." in found.told
    assert found.bars.fingerprint == at_once(config(), day(NEXT)).fingerprint
    assert len(found.bars.frame) == 120
    vendor.holes["AAA"] = []
    back = refresh(config(), tmp_path, day(DAYS[61]))
    assert (
        back.restated
        and "AAA: yfinance added 2 days between stored ones; the first such day is 2020-03-16." in back.told
    )


def test_a_day_that_a_vendor_shows_twice_is_compared_once(vendor, tmp_path):
    filled(vendor, tmp_path)
    vendor.twice = [DAYS[55], STORED]
    found = refresh(config(), tmp_path, day(NEXT))
    assert not found.restated and len(vendor.starts()) == 2 and len(found.bars.frame) == 122
    vendor.twice = [NEXT]
    assert len(refresh(config(), tmp_path / "new", day(NEXT)).bars.frame) == 124  # the market's checks see it
    assert not refresh(config(), tmp_path / "new", day(DAYS[61])).restated


def test_a_session_that_a_vendor_delivers_late_is_asked_for_again(vendor, tmp_path):
    vendor.today = DAYS[58]
    assert refresh(config(), tmp_path, day(STORED)).bars.frame["date"].max() == DAYS[58]
    vendor.today = DAYS[-1]
    vendor.starts()
    found = refresh(config(), tmp_path, day(STORED))
    assert vendor.starts()[0] == ("AAA", str(day(DAYS[48]))) and found.bars.frame["date"].max() == STORED


def test_a_row_without_a_price_is_no_bar_yet(vendor, tmp_path):
    vendor.traded["AAA"][STORED] = np.nan  # as Yahoo shows a dividend before the first trade of its day
    filled(vendor, tmp_path)
    vendor.traded["AAA"][STORED] = 100.0
    found = refresh(config(), tmp_path, day(STORED))
    assert [symbol for symbol, _ in vendor.starts()] == ["AAA"] and not found.restated
    assert found.bars.frame.query("symbol == 'AAA'")["close"].iloc[-1] == 100.0


def test_an_earlier_start_reads_whole_and_a_later_one_does_not_shorten_the_store(vendor, tmp_path):
    filled(vendor, tmp_path, config(start="2020-02-03"))
    found = refresh(config(), tmp_path, day(STORED))
    assert vendor.starts() == [("AAA", "2020-01-02"), ("BBB", "2020-01-02")] and not found.restated
    assert found.bars.fingerprint == at_once(config(), day(STORED)).fingerprint
    vendor.starts()
    late = config(start="2020-03-02")
    assert refresh(late, tmp_path, day(STORED)).bars.fingerprint == at_once(late, day(STORED)).fingerprint
    vendor.starts()
    vendor.traded["AAA"][DAYS[55]] *= 1.02
    refresh(late, tmp_path, day(NEXT))
    assert vendor.starts()[1] == ("AAA", "2020-01-02")
    refresh(config(start=None), tmp_path, day(NEXT))
    assert vendor.starts()[0] == ("AAA", "1990-01-01")
    refresh(config(), tmp_path, day(NEXT))
    assert vendor.starts() == []


def test_a_symbol_that_was_listed_after_the_start_is_not_read_whole_each_time(vendor, tmp_path):
    early = config(start="2019-01-02")
    filled(vendor, tmp_path, early)
    for k in (60, 61):
        refresh(early, tmp_path, day(DAYS[k]))
        assert {start for _, start in vendor.starts()} == {str(day(DAYS[k - 11]))}
    # What was asked for first is remembered with the bars that were appended.
    refresh(config(start="2018-01-02"), tmp_path, day(DAYS[61]))
    assert {start for _, start in vendor.starts()} == {"2018-01-02"}


def test_an_earlier_session_is_cut_from_the_store_and_does_not_shorten_it(vendor, tmp_path):
    filled(vendor, tmp_path)
    found = refresh(config(), tmp_path, day(DAYS[30]))
    assert vendor.starts() == [] and found.bars.fingerprint == at_once(config(), day(DAYS[30])).fingerprint
    refresh(config(start="2019-01-02"), tmp_path, day(DAYS[30]))
    assert read_kept(tmp_path / "yfinance" / "AAA.parquet").last == day(STORED)


def test_the_end_of_the_configuration_does_not_count(vendor, frame, tmp_path):
    assert refresh(config(end="2020-02-03"), tmp_path, day(STORED)).bars.frame["date"].max() == STORED
    path = written(frame, tmp_path / "bars.csv")
    assert refresh(of_file(path, end="2010-02-26"), tmp_path, LAST).bars.frame["date"].max() == pd.Timestamp(LAST)


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def damage_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def damage_empty(path):
    path.write_bytes(b"")


def damage_foreign(path):
    pd.DataFrame({"date": DAYS, "close": 1.0}).to_parquet(path)


def damage_folder(path):
    path.unlink()
    path.mkdir()
    (path / "x").touch()


@pytest.mark.parametrize("damage", [damage_cut, damage_bit, damage_empty, damage_foreign])
def test_a_damaged_file_is_told_and_read_anew(vendor, tmp_path, damage):
    filled(vendor, tmp_path)
    path = tmp_path / "yfinance" / "AAA.parquet"
    damage(path)
    found = refresh(config(), tmp_path, day(NEXT))
    assert vendor.starts() == [("AAA", "2020-01-02"), ("BBB", str(day(SINCE)))] and not found.restated
    assert found.told[1:] == (f"{path} was damaged; AAA was read anew, without a look at what was stored.",)
    assert found.bars.fingerprint == at_once(config(), day(NEXT)).fingerprint
    assert len(refresh(config(), tmp_path, day(NEXT)).told) == 1


def test_a_folder_that_cannot_be_written_is_told_with_a_remedy(vendor, tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(UserError, match=r"Cannot write .*AAA.parquet: .*; choose another folder"):
        refresh(config(), tmp_path / "store", day(STORED))
    filled(vendor, tmp_path)
    damage_folder(tmp_path / "yfinance" / "AAA.parquet")
    with pytest.raises(UserError, match=r"Cannot write .*AAA.parquet: .*; choose another folder"):
        refresh(config(), tmp_path, day(STORED))


def test_an_interrupted_write_leaves_the_old_file(vendor, tmp_path, monkeypatch):
    filled(vendor, tmp_path)
    path = tmp_path / "yfinance" / "AAA.parquet"
    content = path.read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.replace", stop)
        refresh(config(), tmp_path, day(NEXT))
    assert path.read_bytes() == content and not list(path.parent.glob(".*"))
    assert refresh(config(), tmp_path, day(NEXT)).bars.fingerprint == at_once(config(), day(NEXT)).fingerprint


def test_what_is_to_be_told_is_not_lost_if_a_later_symbol_cannot_be_read(vendor, tmp_path):
    filled(vendor, tmp_path)
    vendor.traded["AAA"][DAYS[55]] *= 1.02
    damage_cut(tmp_path / "yfinance" / "BBB.parquet")
    with pytest.raises(UserError, match="could not download NONE"):
        refresh(config("AAA", "BBB", "NONE"), tmp_path, day(NEXT))
    found = refresh(config(), tmp_path, day(NEXT))
    assert (
        found.restated
        and "BBB.parquet was damaged" in found.told[1]
        and found.told[2].startswith("AAA: yfinance changed")
    )


def test_two_processes_at_once_leave_whole_files_and_the_old_bars(vendor, tmp_path):
    filled(vendor, tmp_path)
    vendor.traded["AAA"][DAYS[55]] *= 1.02
    others = []
    vendor.meanwhile = lambda: others.append(refresh(config(), tmp_path, day(DAYS[62])))
    found = refresh(config(), tmp_path, day(NEXT))
    assert found.restated and others[0].restated
    assert found.bars.fingerprint == at_once(config(), day(NEXT)).fingerprint
    folder = tmp_path / "yfinance"
    assert sorted(p.name for p in folder.iterdir()) == ["AAA.parquet", "AAA.parquet.before", "BBB.parquet"]
    assert read_kept(folder / "AAA.parquet.before").last == day(STORED)
    again = refresh(config(), tmp_path, day(DAYS[62]))
    assert not again.restated and again.bars.fingerprint == others[0].bars.fingerprint


def test_at_most_five_restated_symbols_are_told_and_the_others_counted(vendor, tmp_path):
    symbols = [f"S{k}" for k in range(8)]
    vendor.list(*symbols)
    wanted = config(*symbols)
    filled(vendor, tmp_path, wanted)
    for symbol in symbols[:7]:
        vendor.traded[symbol][DAYS[55]] *= 1.02
    told = refresh(wanted, tmp_path, day(NEXT)).told
    assert [line[:2] for line in told[1:6]] == symbols[:5]
    assert told[6] == "yfinance restated 2 more symbols." and len(told) == 8


def test_a_symbol_without_a_finished_session_is_told(vendor, tmp_path):
    vendor.list("NEW")
    vendor.holes["NEW"] = list(DAYS[:60])
    with pytest.raises(UserError, match="yfinance has no bars of NEW until 2020-03-25; take the symbol out"):
        refresh(config("AAA", "NEW"), tmp_path, day(STORED))


ODD = ("BRK.B", "^GSPC", "EURUSD=X", "A/B", "A_B", "A:B", "..", "aaa", "AAA", "CON", "NUL.DE", "日経", ".B", "X" * 300)


def test_odd_symbols_have_safe_and_distinct_names(vendor, tmp_path):
    names = {file_name(symbol) for symbol in ODD}
    assert len({name.casefold() for name in names}) == len(ODD)
    assert file_name("BRK.B") == "BRK.B" and file_name("^GSPC").startswith("__GSPC-")
    vendor.list(*ODD)
    found = refresh(config(*ODD), tmp_path, day(STORED))
    assert found.bars.symbols == ODD and len(list((tmp_path / "yfinance").iterdir())) == len(ODD)
    vendor.starts()
    again = refresh(config(*ODD), tmp_path, day(STORED))
    assert vendor.starts() == [] and again.bars.fingerprint == found.bars.fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["yfinance"]
    for name in names:
        assert "/" not in name and len(name) < 60 and name[0] != "." and name.split(".")[0] not in ("CON", "NUL")


def test_the_embedded_bars_are_not_stored(tmp_path):
    wanted = config("AAPL", "KO", bars="embedded", start="2010-01-04", end="2010-01-05")
    found = refresh(wanted, tmp_path / "store", date(2010, 2, 26))
    assert found.told == () and not found.restated and not (tmp_path / "store").exists()
    assert found.bars.fingerprint == at_once(wanted, date(2010, 2, 26)).fingerprint


FIRST, LAST = "2010-01-04", date(2010, 3, 31)


@pytest.fixture
def frame():
    return synthetic_bars(("AAA", "BBB"), FIRST, "2010-04-30")


def written(frame, path):
    path.parent.mkdir(exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.17g")
    return path


def of_file(path, **changes):
    return config(bars=path, start=FIRST, **changes)


def test_a_file_is_read_whole_and_stored_and_what_is_new_is_no_restatement(frame, tmp_path):
    path = written(frame[frame["date"] <= "2010-03-31"], tmp_path / "in" / "bars.csv")
    first = refresh(of_file(path), tmp_path / "store", LAST)
    assert first.bars.fingerprint == at_once(of_file(path), LAST).fingerprint and not first.restated
    assert first.told == (f"{path}: 2 symbols read whole; 122 new bars until 2010-03-31.",)
    (folder,) = (tmp_path / "store").iterdir()
    assert folder.name.startswith("_bars.csv-") and (folder / "AAA.parquet").exists()
    written(frame, path)
    found = refresh(of_file(path), tmp_path / "store", date(2010, 4, 15))
    assert found.told == (f"{path}: 2 symbols read whole; 20 new bars until 2010-04-15.",) and not found.restated
    assert found.bars.frame["date"].max() == pd.Timestamp("2010-04-15")
    assert not list(folder.glob("*.before"))


def test_files_of_one_name_in_two_folders_are_stored_apart(frame, tmp_path, monkeypatch):
    for k, folder in enumerate(("one", "two")):
        path = written(frame.assign(close=frame["close"] * (1 + k)), tmp_path / folder / "bars.csv")
        assert not refresh(of_file(path), tmp_path / "store", LAST).restated
    assert len(list((tmp_path / "store").iterdir())) == 2
    monkeypatch.chdir(tmp_path / "one")
    assert not refresh(of_file("bars.csv"), tmp_path / "store", LAST).restated
    assert len(list((tmp_path / "store").iterdir())) == 2


@pytest.mark.parametrize("closes", ["adjusted", "as_traded"])
def test_a_restated_file_is_told(frame, tmp_path, closes):
    path = written(frame, tmp_path / "bars.csv")
    refresh(of_file(path, closes=closes), tmp_path / "store", LAST)
    row = frame.index[(frame["symbol"] == "BBB") & (frame["date"] == "2010-02-01")]
    changed = frame.copy()
    changed.loc[row, ["close", "adj_close"]] *= 1.05
    written(changed, path)
    found = refresh(of_file(path, closes=closes), tmp_path / "store", LAST)
    assert found.restated and found.bars.as_traded == (closes == "as_traded")
    assert found.told[1].startswith(f"BBB: {path} changed 2 of 61 stored days; the first such day is 2010-02-01, and")
    (folder,) = (tmp_path / "store").iterdir()
    assert read_kept(folder / "BBB.parquet.before").frame["close"].tolist() == pytest.approx(
        frame[(frame["symbol"] == "BBB") & (frame["date"] <= "2010-03-31")]["close"].tolist(), rel=1e-15
    )
    assert not refresh(of_file(path, closes=closes), tmp_path / "store", LAST).restated


def test_a_price_that_is_missing_is_the_same_as_long_as_it_is_missing(frame, tmp_path):
    row = frame.index[(frame["symbol"] == "AAA") & (frame["date"] == "2010-02-01")]
    with_hole = frame.copy()
    with_hole.loc[row, "adj_close"] = np.nan
    path = written(with_hole, tmp_path / "bars.csv")
    for _ in range(2):
        assert not refresh(of_file(path), tmp_path / "store", LAST).restated
    written(frame, path)
    told = refresh(of_file(path), tmp_path / "store", LAST).told[1]
    # The return into the day and the one out of it were not known.
    assert told == f"AAA: {path} changed 2 of 61 stored days; the first such day is 2010-02-01."


def test_closes_as_traded_are_compared_as_they_are_and_adjusted_ones_by_their_returns(frame, tmp_path):
    path = written(frame, tmp_path / "bars.csv")
    for closes, restated in (("adjusted", False), ("as_traded", True)):
        written(frame, path)
        refresh(of_file(path, closes=closes), tmp_path / closes, LAST)
        written(frame.assign(close=frame["close"] / 2), path)
        found = refresh(of_file(path, closes=closes), tmp_path / closes, LAST)
        assert found.restated == restated
    assert found.told[1] == f"AAA: {path} changed 61 of 61 stored days; the first such day is 2010-01-04."


def test_a_file_that_lost_its_recent_past_or_its_beginning_is_told(frame, tmp_path):
    path = written(frame, tmp_path / "bars.csv")
    refresh(of_file(path), tmp_path / "store", LAST)
    written(frame[(frame["date"] >= "2010-01-11") | (frame["symbol"] == "BBB")], path)
    found = refresh(of_file(path), tmp_path / "store", LAST)
    lost = "now begins on 2010-01-11 instead of 2010-01-04; the first such day is 2010-01-04."
    assert found.restated and found.told[1] == f"AAA: {path} lacks 5 of 61 stored days, {lost}"
    written(frame[frame["date"] <= "2010-03-24"], path)
    found = refresh(of_file(path), tmp_path / "store", LAST)
    lost = "now ends on 2010-03-24 instead of 2010-03-31; the first such day is 2010-03-25."
    assert found.restated and found.told[1:3] == (
        f"AAA: {path} lacks 5 of 56 stored days, {lost}",
        f"BBB: {path} lacks 5 of 61 stored days, {lost}",
    )


def test_a_file_that_has_no_stored_day_of_a_symbol_any_more_is_told_and_the_stored_ones_stay(frame, tmp_path):
    path = written(frame, tmp_path / "bars.csv")
    refresh(of_file(path), tmp_path / "store", LAST)
    written(frame[(frame["date"] > "2010-03-31") | (frame["symbol"] == "BBB")], path)
    for _ in range(2):
        found = refresh(of_file(path), tmp_path / "store", LAST)
        assert found.restated and len(found.told) == 2
        assert found.told[1] == f"AAA: {path} lacks 61 of 61 stored days; the first such day is 2010-01-04."


def test_a_symbol_of_a_file_may_begin_after_the_last_session(frame, tmp_path):
    path = written(frame[(frame["date"] > "2010-03-31") | (frame["symbol"] == "BBB")], tmp_path / "bars.csv")
    for new in (61, 0):
        found = refresh(of_file(path), tmp_path / "store", LAST)
        assert found.told == (f"{path}: 2 symbols read whole; {new} new bars until 2010-03-31.",) and not found.restated
    assert "; 42 new bars until" in refresh(of_file(path), tmp_path / "store", date(2010, 4, 30)).told[0]


def test_a_later_start_or_an_earlier_session_does_not_make_a_file_shorter(frame, tmp_path):
    path = written(frame, tmp_path / "bars.csv")
    refresh(of_file(path), tmp_path / "store", LAST)
    late = of_file(path).model_copy(update={"start": date(2010, 2, 1)})
    for wanted, until in ((late, LAST), (of_file(path), date(2010, 2, 26)), (of_file(path), LAST)):
        found = refresh(wanted, tmp_path / "store", until)
        assert not found.restated and found.bars.fingerprint == at_once(wanted, until).fingerprint
        assert "; 0 new bars until" in found.told[0]


def test_the_findings_of_a_file_come_along(frame, tmp_path):
    path = written(frame.drop(columns="adj_close"), tmp_path / "bars.csv")
    found = refresh(of_file(path), tmp_path / "store", LAST)
    assert found.bars.notes == at_once(of_file(path), LAST).notes and found.bars.notes


def test_nothing_is_written_where_nothing_changed(vendor, frame, tmp_path):
    filled(vendor, tmp_path / "store")
    path = written(frame, tmp_path / "bars.csv")
    refresh(of_file(path), tmp_path / "store", LAST)
    times = {p: p.stat().st_mtime_ns for p in Path(tmp_path / "store").rglob("*.parquet")}
    refresh(config(), tmp_path / "store", day(STORED))
    refresh(of_file(path), tmp_path / "store", LAST)
    assert times == {p: p.stat().st_mtime_ns for p in times} and len(times) == 4
