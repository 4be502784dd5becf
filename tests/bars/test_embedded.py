"""The embedded prices: real, offline, from 2000 on."""

import pytest

from tactician.errors import UserError
from tactician.market import FACTORS, build_market, embedded_bars


@pytest.fixture(scope="module")
def bars():
    return embedded_bars()


def test_twenty_stocks_from_the_first_session_of_2000_to_the_end_of_2022(bars):
    days = bars.frame["date"]
    assert len(bars.symbols) == 20 and (str(days.min().date()), str(days.max().date())) == ("2000-01-03", "2022-12-28")
    assert bars.frame.groupby("symbol").size().nunique() == 1


def test_their_closes_are_adjusted_so_there_is_no_size_and_no_traded_value(bars):
    """AAPL's adjusted closes rank it smallest through 2010 because it split 28:1 later."""
    market = build_market(bars)
    assert market.scores[..., FACTORS.index("size")].isnan().all() and market.closes.isnan().all()
    assert market.scores[100:, :, 0].isfinite().all()
    (finding,) = [f for f in market.findings if "leak" in f.name]
    assert "SIZE_SMALL holds equal weight" in finding.message


def test_published_moves_are_there(bars):
    market = build_market(bars)
    returns = dict(zip(market.symbols, market.returns[market.sessions.get_loc("2008-10-13")].tolist(), strict=True))
    # 13 October 2008, the S&P 500's best day since 1933 (+11.6 %): ExxonMobil rose 17.2 %, Apple 13.9 %.
    assert returns["XOM"] == pytest.approx(0.172, abs=0.002) and returns["AAPL"] == pytest.approx(0.139, abs=0.001)


def test_an_earlier_start_is_cut_and_an_unknown_symbol_refused():
    from datetime import date

    assert str(embedded_bars(("AAPL", "KO"), start=date(1995, 1, 1)).frame["date"].min().date()) == "2000-01-03"
    with pytest.raises(UserError, match="embedded has no bars of TSLA; it has: AAPL"):
        embedded_bars(("AAPL", "TSLA"))
