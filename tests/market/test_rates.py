"""What cash earns: constants that can be rates, and files as publishers write them."""

from pathlib import Path

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
import yaml

from tactician.config import make_config
from tactician.errors import UserError
from tactician.market import build_market, make_bars
from tactician.market.rates import cash_returns, rate_findings
from tests.conftest import TINY, synthetic_bars

SESSIONS = exchange_calendars.get_calendar("XNYS", start="2020-09-28", end="2020-10-30").sessions.astype(
    "datetime64[ns]"
)
COLUMBUS = pd.Timestamp("2020-10-12")  # stocks trade, bonds do not
SHARED = Path("../shared/data/risk_free.csv")


def per_session(annual: float) -> float:
    """Compounds to the annual rate over 252 sessions."""
    return float(np.expm1(np.log1p(annual) / 252))


def write(folder: Path, text: str, name: str = "rates.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def lines(header: str, rate: object, sessions: pd.DatetimeIndex = SESSIONS) -> str:
    return header + "\n" + "\n".join(f"{d:%Y-%m-%d},{rate}" for d in sessions) + "\n"


def config(rate: object):
    rest = {"train_until": "2012-12-31", "validation_until": "2013-06-28", "cache_path": "a", "checkpoint_dir": "b"}
    return make_config({**TINY, **rest, "cash_rate": rate}, "c.yaml")


@pytest.mark.parametrize("rate", [-0.05, 0.0, 0.02, 0.3])
def test_a_constant_between_the_bounds_compounds_to_itself(rate):
    daily = cash_returns(rate, SESSIONS)
    assert np.prod(1 + np.full(252, daily[0])) - 1 == pytest.approx(rate, abs=1e-12)
    assert np.prod(1 + np.full(365, cash_returns(rate, SESSIONS, 365)[0])) - 1 == pytest.approx(rate, abs=1e-12)
    assert config(rate).cash_rate == rate


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1.7, "write 1.7 % as 0.017"),
        (5.25, "write 5.25 % as 0.0525"),
        (-0.5, "between -0.05 and 0.3; write -0.5 % as -0.005"),
        (-40.0, "between -0.05 and 0.3"),
        (float("nan"), "between -0.05 and 0.3"),
        (float("inf"), "between -0.05 and 0.3"),
        (True, "is a number"),
        (0.02 + 0.01j, "is a number"),
    ],
)
def test_a_constant_that_is_no_rate_is_refused_in_the_configuration_and_by_itself(rate, words):
    with pytest.raises(UserError, match=words):
        cash_returns(rate, SESSIONS)
    with pytest.raises(UserError, match=words) as caught:
        config(rate)
    assert "'cash_rate' cannot be" in str(caught.value)


def test_a_rate_in_quotation_marks_is_a_rate_and_a_name_is_a_file():
    assert config(yaml.safe_load("'0.02'")).cash_rate == 0.02
    assert config("rates.csv").cash_rate == Path("rates.csv")
    with pytest.raises(UserError, match=r"write 1.7 % as 0.017"):
        cash_returns(config("1.7%").cash_rate, SESSIONS)


@pytest.mark.parametrize("unpublished", [".", "", "NA", "nan", "N/A", "ND"])
def test_what_was_not_published_takes_the_last_rate(tmp_path, unpublished):
    text = lines("date,rate_annual", 0.015).replace("2020-10-12,0.015", f"2020-10-12,{unpublished}")
    text = text.replace("2020-10-09,0.015", "2020-10-09,0.025")
    daily = cash_returns(write(tmp_path, text), SESSIONS)
    k = SESSIONS.get_loc(COLUMBUS)
    assert daily[k] == pytest.approx(per_session(0.025)) and daily[k + 1] == pytest.approx(per_session(0.015))


def test_a_rate_is_earned_from_the_session_of_its_quote_on(tmp_path):
    rising = pd.DataFrame({"date": SESSIONS, "rf_daily": np.arange(len(SESSIONS)) * 1e-5})
    rising.to_csv(tmp_path / "r.csv", index=False)
    assert cash_returns(tmp_path / "r.csv", SESSIONS) == pytest.approx(np.arange(len(SESSIONS)) * 1e-5)


@pytest.mark.parametrize("series", ["DTB3", "DGS3MO", "DTB4WK", "DFF", "SOFR", "EFFR", "IORB", "ECBESTRVOLWGTTRMDMNRT"])
@pytest.mark.parametrize("heading", ["DATE", "observation_date"])
def test_freds_own_exports_are_in_percent(tmp_path, series, heading):
    text = lines(f"{heading},{series}", 5.25).replace("2020-10-12,5.25", "2020-10-12,.")
    assert cash_returns(write(tmp_path, text), SESSIONS) == pytest.approx(per_session(0.0525))


@pytest.mark.parametrize("series", ["TB3MS", "FEDFUNDS"])
def test_a_monthly_mean_is_refused_since_it_is_dated_before_it_is_known(tmp_path, series):
    months = pd.date_range("2020-06-01", "2020-10-01", freq="MS")
    with pytest.raises(UserError, match=r"monthly series.*give the daily series D"):
        cash_returns(write(tmp_path, lines(f"DATE,{series}", 5.25, months)), SESSIONS)


def test_a_rate_grows_too_old_after_ten_sessions(tmp_path):
    kept = SESSIONS[:5]
    path = write(tmp_path, lines("date,rate_annual", 0.01, kept))
    assert cash_returns(path, SESSIONS[:15]) == pytest.approx(per_session(0.01))
    with pytest.raises(UserError, match=f"no rate for {SESSIONS[15]:%Y-%m-%d}"):
        cash_returns(path, SESSIONS[:16])


def test_quotes_of_closed_days_do_not_make_a_rate_older(tmp_path):
    """Dead quotes of many weekend days once counted as sessions."""
    days = pd.date_range(SESSIONS[0], SESSIONS[-1])
    text = lines("date,rate_annual", ".", days).replace(f"{SESSIONS[0]:%Y-%m-%d},.", f"{SESSIONS[0]:%Y-%m-%d},0.01")
    assert len(cash_returns(write(tmp_path, text), SESSIONS[:11])) == 11


def test_a_rate_from_before_the_first_session_ages_too(tmp_path):
    path = write(tmp_path, "date,rate_annual\n2020-09-25,0.01\n")
    assert len(cash_returns(path, SESSIONS[:10])) == 10
    old = write(tmp_path, "date,rate_annual\n2018-09-25,0.01\n", "old.csv")
    with pytest.raises(UserError, match="no rate for 2020-09-28"):
        cash_returns(old, SESSIONS)
    with pytest.raises(UserError, match="no rate for 2020-09-28"):
        cash_returns(old, SESSIONS, 365)


def test_rates_in_any_order_and_case_and_with_zones_and_digits(tmp_path):
    expected = cash_returns(0.01, SESSIONS)
    shuffled = "Date,Rate Annual\n" + "\n".join(f"{d:%Y-%m-%d},0.01" for d in SESSIONS[::-1])
    zoned = lines("date,rate_annual", 0.01).replace(",", "T00:00:00+09:00,").replace("dateT00:00:00+09:00", "date")
    digits = lines("date,rate_annual", 0.01).replace("-", "")
    for k, text in enumerate((shuffled, zoned, digits)):
        assert cash_returns(write(tmp_path, text, f"{k}.csv"), SESSIONS) == pytest.approx(expected)


def test_parquet_with_zones_takes_the_date_as_it_is_written(tmp_path):
    table = pd.DataFrame({"date": SESSIONS.tz_localize("Asia/Tokyo"), "rf_daily": 1e-5})
    table.to_parquet(tmp_path / "r.parquet")
    assert cash_returns(tmp_path / "r.parquet", SESSIONS) == pytest.approx(1e-5)
    table.assign(date=SESSIONS).set_index("date").to_parquet(tmp_path / "indexed.parquet")
    assert cash_returns(tmp_path / "indexed.parquet", SESSIONS) == pytest.approx(1e-5)
    table.assign(date=SESSIONS.strftime("%Y%m%d").astype(int)).to_parquet(tmp_path / "whole.parquet")
    assert cash_returns(tmp_path / "whole.parquet", SESSIONS) == pytest.approx(1e-5)


def test_a_day_twice_with_the_same_rate_counts_once_and_with_two_rates_is_refused(tmp_path):
    text = lines("date,rate_annual", 0.01)
    same = write(tmp_path, text + "2020-10-12,0.0100\n", "same.csv")
    assert cash_returns(same, SESSIONS) == pytest.approx(per_session(0.01))
    with pytest.raises(UserError, match="two different rates for 2020-10-12"):
        cash_returns(write(tmp_path, text + "2020-10-12,0.02\n"), SESSIONS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("date,rate_annual\n2020-09-28,0.01\n2020-09-29,lots\n", "row 2: 'lots' in column rate_annual is no rate"),
        ('date,rate_annual\n2020-09-28,"0,01"\n', "row 1: '0,01' in column rate_annual is no rate"),
        ("date,rate_annual\n28/09/2020,0.01\n", "row 1: '28/09/2020' is no date; write it as 2020-03-16"),
        ("date,rate_annual\n2020-02-30,0.01\n", "row 1: '2020-02-30' is no date"),
        ("date;rate_annual\n2020-09-28;0,01\n", "separated by semicolons"),
        ("date,rate_annual\n2020-09-28,.\n", "has no rate in column rate_annual"),
        ("date,DTB3,DFF\n2020-09-28,1,1\n", r"several series \(dtb3, dff\)"),
        ("date,price\n2020-09-28,1\n", "neither a column rf_daily nor rate_annual"),
        ("date,rate_annual\n2020-09-28,5.25\n", "5.25 in column rate_annual on 2020-09-28, which looks like percent"),
        ("date,rate_annual\n2020-09-28,inf\n", "which looks like percent"),
        ("date,rate_annual\n2020-09-28,-0.2\n", "between -0.05 and 0.3"),
        ("date,rf_daily\n2020-09-28,0.0525\n", "looks like an annual rate or percent"),
        ("date,DTB3\n2020-09-28,525\n", "looks like no rate in percent"),
        ("", "cannot read"),
    ],
)
def test_files_of_other_meaning_are_refused_in_one_sentence(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as caught:
        cash_returns(write(tmp_path, text), SESSIONS)
    assert "rates.csv" in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("column", "text", "remedy"),
    [
        ("DTB3", "5.25%", "5.25"),
        ("rate_annual", "5.25%", "0.0525"),
        ("rate_annual", "5.25 %", "0.0525"),
        ("rf_daily", "5.25%", "0.0002"),
        ("rf_daily", "lots", "0.0002"),
        ("DTB3", "lots", "5.25"),
        ("rate_annual", '"0,01"', "0.01"),
        ("DTB3", '"5,25"', "5.25"),
    ],
)
def test_what_is_no_rate_is_to_be_written_in_the_unit_of_its_column(tmp_path, column, text, remedy):
    with pytest.raises(UserError, match=rf"is no rate; write it as {remedy}\.$"):
        cash_returns(write(tmp_path, f"date,{column}\n2020-09-28,{text}\n"), SESSIONS)


@pytest.mark.parametrize(
    ("column", "rate", "bounds"),
    [("rate_annual", 0.45, "0.45 .*-0.05 and 0.3"), ("DTB3", 45, "45 .*-5 and 30"), ("DTB3", 525, "525 .*-5 and 30")],
)
def test_a_rate_above_thirty_percent_is_sent_to_rf_daily(tmp_path, column, rate, bounds):
    with pytest.raises(UserError, match=f"has {bounds}, or a truly larger one as rf_daily, per session"):
        cash_returns(write(tmp_path, lines(f"date,{column}", rate)), SESSIONS)
    daily = per_session(0.45)
    assert cash_returns(write(tmp_path, lines("date,rf_daily", daily)), SESSIONS) == pytest.approx(daily)


@pytest.mark.parametrize("header", ["date,rate_annual,rate_annual", "date,DTB3,DTB3", "date,Rate Annual,rate_annual"])
def test_two_columns_of_one_name_are_refused(tmp_path, header):
    with pytest.raises(UserError, match="has two columns"):
        cash_returns(write(tmp_path, f"{header}\n2020-09-28,0.01,0.02\n"), SESSIONS)
    with pytest.raises(UserError, match="has two columns date"):
        cash_returns(write(tmp_path, "date,Date,rate_annual\n2020-09-28,2020-09-28,0.02\n"), SESSIONS)


@pytest.mark.parametrize(
    ("column", "rate", "said"),
    [
        ("rate_annual", 0.09, "9.0%"),
        ("rate_annual", 0.25, "25.0%"),
        ("rf_daily", 0.001, "28.6%"),
        ("DTB3", 9.0, "9.0%"),
    ],
)
def test_much_that_cash_earns_is_told(tmp_path, column, rate, said):
    path = write(tmp_path, lines(f"date,{column}", rate))
    (finding,) = rate_findings(cash_returns(path, SESSIONS), 252, path)
    assert (finding.name, finding.severity) == ("cash_rate", "warning")
    assert f"{said} per year on average, between {said} and {said}" in finding.message
    assert "rates.csv" in finding.message and "looks like rates in percent" in finding.message


def test_a_rate_that_moves_by_a_percent_from_one_session_to_the_next_is_told():
    """0.05 and 0.06 % written where 0.05 is 5 %."""
    annual = np.array([0.05, 0.06, 0.05, 0.04])
    (finding,) = rate_findings((1 + annual) ** (1 / 252) - 1, 252, Path("r.csv"))
    assert "5.0% per year on average, between 4.0% and 6.0%, with moves up to 1.0%" in finding.message


def test_usual_rates_are_not_told():
    annual = np.array([-0.005, 0.0, 0.009, 0.018])
    assert rate_findings((1 + annual) ** (1 / 252) - 1, 252, Path("r.csv")) == ()
    assert rate_findings(cash_returns(0.08, SESSIONS), 252, 0.08) == ()


def test_a_market_tells_what_cash_earns():
    bars = make_bars(synthetic_bars(("AAA", "BBB"), "2010-01-04", "2010-06-30"), "test")
    assert "cash_rate" not in [f.name for f in build_market(bars, cash_rate=0.02).findings]
    (finding,) = [f for f in build_market(bars, cash_rate=0.09).findings if f.name == "cash_rate"]
    assert "by 0.09, cash earns 9.0% per year" in finding.message


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UserError, match="cannot read"):
            cash_returns(path, SESSIONS)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data/risk_free.csv is not here")
def test_the_treasury_bill_file_gives_the_rates_it_holds():
    table = pd.read_csv(SHARED)
    sessions = pd.DatetimeIndex(pd.to_datetime(table["date"])).astype("datetime64[ns]")
    assert cash_returns(SHARED, sessions) == pytest.approx(table["rf_daily"].to_numpy())
