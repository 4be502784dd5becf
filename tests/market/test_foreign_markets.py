"""Data sets of other exchanges as users have them: closes only, late listings, gaps, stray and special days."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tactician.cli import main
from tactician.market import build_market, make_bars
from tests.conftest import exchange_sessions

N = 64
SPECIAL = {
    "XBOM": ["2015-02-28", "2020-02-01", "2016-10-30"],  # budget Saturdays and a Muhurat Sunday
    "XLON": [],
}
HOLIDAY = {"XBOM": "2016-08-15", "XLON": "2016-08-29"}
UNTOLD_CLOSURE = {"XBOM": "2018-03-14", "XLON": "2018-03-14"}


def foreign_bars(calendar: str, first: str = "2014-01-01", last: str = "2020-12-31") -> pd.DataFrame:
    """64 symbols, closes only, with every usual blemish."""
    rng = np.random.default_rng(1)
    days = exchange_sessions(calendar, first, last).astype("datetime64[ns]")
    special = pd.DatetimeIndex([d for d in SPECIAL[calendar] if d not in days])
    days = days.append(special).unique().sort_values().drop(UNTOLD_CLOSURE[calendar])
    frames = []
    for k in range(N):
        own = days[(k % 8 == 7) * 400 :]  # every eighth is listed later
        own = own[: len(own) - 300 * (k == 5)]  # one is delisted
        own = own[rng.random(len(own)) > 0.004]  # missing bars
        if k == 3:
            own = own[(own < "2017-03-01") | (own > "2017-04-10")]
        close = rng.uniform(20, 2000) * np.exp(np.cumsum(rng.normal(2e-4, 0.015, len(own))))
        frames.append(pd.DataFrame({"date": own, "symbol": f"STOCK{k:02d}.X", "close": close.round(2)}))
    frame = pd.concat(frames)
    some = frame[frame["date"] == days[600]].head(9)
    stray = some.assign(date=pd.Timestamp(HOLIDAY[calendar]))
    conflicting = frame[frame["date"] == days[800]].head(4).assign(close=1.23)
    broken = frame[frame["date"] == days[801]].head(2).assign(close=0.0)
    frame = frame[~((frame["date"] == days[801]) & frame["symbol"].isin(broken["symbol"]))]
    frame = pd.concat([frame, some, stray, conflicting, broken])
    return frame.sort_values(["symbol", "date"], kind="stable").reset_index(drop=True)


@pytest.mark.parametrize("calendar", ["XBOM", "XLON"])
def test_the_bars_become_a_market_of_the_exchanges_sessions(calendar):
    frame = foreign_bars(calendar)
    frame["adj_close"] = frame["close"]
    market = build_market(make_bars(frame, "test"), calendar=calendar)
    assert len(market.symbols) == N and market.fillable.any(1).all()
    dates = {f"{d:%Y-%m-%d}" for d in market.sessions}
    assert set(SPECIAL[calendar]) <= dates and not {HOLIDAY[calendar], UNTOLD_CLOSURE[calendar]} & dates
    expected = {"late_listing", "early_end", "missing_sessions", "long_gap", "not_a_session", "duplicate_rows"}
    expected |= {"conflicting_rows", "non_positive_price", "empty_session"} | (
        {"extra_session"} if calendar == "XBOM" else set()
    )
    # Whether one of the randomly missing bars is the last one is chance.
    assert {f.name for f in market.findings} - {"incomplete_end"} == expected | {"adjusted_level_leak"}
    count = {f.name: f.count for f in market.findings}
    assert count["not_a_session"] == 9 and count["duplicate_rows"] == 9 and count["conflicting_rows"] == 8
    assert count["non_positive_price"] == 2 and count["late_listing"] == 8 and count["long_gap"] == 1
    assert market.sessions_per_year == {"XBOM": 246, "XLON": 253}[calendar]


def settings(folder: Path, frame: pd.DataFrame, calendar: str) -> str:
    frame.to_parquet(folder / "bars.parquet")
    symbols = sorted(frame["symbol"].unique())
    content = {
        "bars": str(folder / "bars.parquet"),
        "universe": {"one": symbols[:20], "two": symbols[20:40], "three": symbols[40:]},
        "calendar": calendar,
        "train_until": "2018-12-31",
        "validation_until": "2019-12-31",
        "cache_path": str(folder / "cache.pt"),
        "checkpoint_dir": str(folder / "run"),
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "c.yaml")


@pytest.mark.parametrize("calendar", ["XBOM", "XLON"])
def test_all_is_told_in_one_screen_and_listed_whole(tmp_path, capsys, calendar):
    config = settings(tmp_path, foreign_bars(calendar), calendar)
    assert main(["build-cache", "--config", config]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) <= 25
    path = str(tmp_path)
    assert all(len(line) <= 80 or path in line for line in printed), [line for line in printed if len(line) > 80]
    listed = pd.read_csv(tmp_path / "cache.pt.findings.csv", keep_default_na=False)
    assert list(listed.columns) == ["finding", "severity", "symbol", "date", "detail", "action"]
    assert (listed["finding"] == "not_a_session").sum() == 9 and (listed["finding"] == "missing_sessions").sum() > 200
    stray = listed[listed["finding"] == "not_a_session"].iloc[0]
    assert (stray["date"], stray["action"]) == (HOLIDAY[calendar], "bar dropped")


@pytest.mark.parametrize("calendar", ["XBOM", "XLON"])
def test_with_new_yorks_calendar_the_build_stops_and_names_the_right_one(tmp_path, capsys, calendar):
    config = settings(tmp_path, foreign_bars(calendar), "XNYS")
    assert main(["build-cache", "--config", config]) == 2
    said = capsys.readouterr()
    assert f"set calendar: {calendar}" in said.err and "[wrong_calendar]" in said.err
    assert len(said.err.strip().splitlines()) == 1 and len(said.out.splitlines()) <= 25
    assert not (tmp_path / "cache.pt").exists()
    assert str(tmp_path / "cache.pt.findings.csv") in said.err
    listed = pd.read_csv(tmp_path / "cache.pt.findings.csv")
    assert (listed["finding"] == "wrong_calendar").sum() > 20
