"""Leaks that sit in the input: what a vendor wrote into the past because of something that happened later.

Noise on the future (`test_no_look_ahead.py`) cannot find these: a split changes every adjusted price *before* it. Here one
stock lives through the same past before one of several futures, and is delivered in the ways that vendors have. Whatever
the future and the delivery, nothing that is seen before the split may differ.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tactician.environment import (
    FEATURE_NAMES,
    OBSERVATION_NAMES,
    Environment,
    build_market_tensors,
    first_state,
    observe,
    step,
)
from tactician.market import FACTORS, build_market, make_bars, yahoo_bars
from tactician.portfolio.frictions import Frictions
from tests.conftest import synthetic_bars

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
SPLITS = pd.Timestamp("2012-03-01")
FUTURES = {"nothing": (1.0, 0.0), "4:1": (4.0, 0.0), "1:10": (0.1, 0.0), "7:2": (3.5, 0.0), "a dividend": (1.0, 0.07)}
"""What happens to AAA: shares for one, and the dividend as a share of the price."""
DELIVERIES = ("as traded", "split-adjusted", "dividend-adjusted", "adjusted closes, traded volumes")


def delivered(future: str, delivery: str) -> pd.DataFrame:
    """Bars as a vendor shows them after it all happened."""
    frame = synthetic_bars(SYMBOLS, "2010-06-01", "2012-06-29", seed=5)
    shares, dividend = FUTURES[future]
    ours, before = frame["symbol"] == "AAA", frame["date"] < SPLITS
    prices, volumes = ["open", "high", "low", "close"], frame["volume"].copy()
    frame.loc[ours & ~before, [*prices, "adj_close"]] *= 1 / shares * (1 - dividend)
    frame.loc[ours & ~before, "volume"] *= shares
    # The total return knows neither split nor dividend: the past is scaled to today's level.
    frame.loc[ours & before, "adj_close"] *= 1 / shares * (1 - dividend)
    if delivery != "as traded":
        frame.loc[ours & before, prices] *= 1 / shares
        frame.loc[ours & before, "volume"] *= shares
    if delivery in ("dividend-adjusted", "adjusted closes, traded volumes"):
        frame.loc[ours & before, prices] *= 1 - dividend
    if delivery == "adjusted closes, traded volumes":
        frame["volume"] = volumes
    return frame


def seen(bars) -> dict[str, torch.Tensor]:
    """All that can be seen before the split: by name, a row a decision."""
    market = build_market_tensors(build_market(bars), "factor", {"all": SYMBOLS}, {})
    last = int((market.dates < (SPLITS - pd.Timestamp(0)).days).sum())
    env = Environment(market, Frictions(), range(last - 60, last + 1), 61)
    state, observed = first_state(env, torch.zeros(1, dtype=torch.int64)), []
    for k in range(60):
        observed.append(observe(env, state)[0])
        state, _ = step(env, state, torch.tensor([(5, 8, 0, 4, 6)[k % 5]]))
    table = torch.stack(observed)
    columns = {f"feature {name}": market.features[:last, k] for k, name in enumerate(FEATURE_NAMES)}
    columns |= {f"rank {name}": market.factor_ranks[:last, :, k] for k, name in enumerate(FACTORS)}
    columns |= {f"target {name}": market.regime_weights[:last, k] for k, name in enumerate(market.regimes.names)}
    columns |= {f"observed {name}": table[:, k] for k, name in enumerate(OBSERVATION_NAMES)}
    columns |= {"traded value": market.dollar_volume[:last], "volatility": market.vol_daily[:last]}
    return columns | {"tradable": market.tradable[:last].float()}


def different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    """Names of what differs by more than the rounding of scaled prices."""
    return {k for k in one if not torch.allclose(one[k], other[k], rtol=1e-5, atol=1e-6, equal_nan=True)}


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_nothing_seen_before_a_split_knows_of_it(delivery):
    traded = delivery == "as traded"
    calm = seen(make_bars(delivered("nothing", delivery), "vendor", as_traded=traded))
    for future in FUTURES:
        frame = delivered(future, delivery)
        assert different(calm, seen(make_bars(frame, "vendor", as_traded=traded))) == set(), future
        # A file whose closes nobody has called as traded.
        assert different(seen(make_bars(delivered("nothing", delivery), "v")), seen(make_bars(frame, "v"))) == set()


@pytest.mark.parametrize("delivery", DELIVERIES[1:])
def test_adjusted_closes_read_as_a_price_level_are_caught(delivery):
    """The power of the test above: what it would say if an adjusted close were taken for the price that was traded."""
    calm = seen(make_bars(delivered("nothing", delivery), "vendor", as_traded=True))
    caught = different(calm, seen(make_bars(delivered("1:10", delivery), "vendor", as_traded=True)))
    expected = {"rank size", "target SIZE_SMALL", "feature spread_size", "observed tilt_size"}
    assert expected <= caught
    assert ("traded value" in caught) == (delivery == "adjusted closes, traded volumes")


def test_without_closes_as_traded_size_is_equal_weight_and_its_entries_are_zero():
    columns = seen(make_bars(delivered("4:1", "split-adjusted"), "vendor"))
    assert torch.equal(columns["target SIZE_SMALL"], columns["target EQUAL_WEIGHT"])
    entries = {name for name in columns if "size" in name and name.startswith(("feature", "rank", "observed"))}
    assert {"feature excess_size_20", "feature spread_size", "observed tilt_size"} <= entries and len(entries) == 10
    for name in entries:
        assert columns[name].abs().max() == 0, name
    assert columns["traded value"].isnan().all()


def test_yahoos_closes_are_taken_back_to_what_was_traded(monkeypatch):
    """Yahoo adjusts for every split until today; a range that ends before it is the same as if it had never come."""
    shown: dict[str, pd.DataFrame] = {}

    class Ticker:
        def __init__(self, symbol):
            self.symbol = symbol

        def history(self, start=None, end=None, **_):
            table = shown[self.symbol]
            return table if end is None else table[table.index < pd.Timestamp(end).tz_localize(table.index.tz)]

    monkeypatch.setitem(sys.modules, "yfinance", SimpleNamespace(Ticker=Ticker))
    names = {
        "open": "Open",
        "high": "High",
        "low": "Low",
        "close": "Close",
        "adj_close": "Adj Close",
        "volume": "Volume",
    }
    found = {}
    for future in FUTURES:
        for symbol, part in delivered(future, "split-adjusted").groupby("symbol"):
            table = part.set_index("date").rename(columns=names)[list(names.values())]
            table.index = table.index.tz_localize("America/New_York")
            happened = (part["date"].to_numpy() == SPLITS.to_numpy()) & (symbol == "AAA") & (FUTURES[future][0] != 1)
            shown[symbol] = table.assign(**{"Stock Splits": np.where(happened, FUTURES[future][0], 0.0)})
        for end in ("2012-06-29", "2012-03-15", "2012-02-29"):
            found[future, end] = yahoo_bars(SYMBOLS, None, pd.Timestamp(end).date())
    calm = found["nothing", "2012-06-29"].frame
    past = calm["date"] < SPLITS
    for bars in found.values():
        assert bars.as_traded
        ours = bars.frame[bars.frame["date"] < SPLITS]
        np.testing.assert_allclose(ours["close"], calm.loc[past, "close"], rtol=1e-12)
        np.testing.assert_allclose(ours["volume"], calm.loc[past, "volume"], rtol=1e-12)
    whole = seen(found["nothing", "2012-06-29"])
    assert different(whole, seen(found["7:2", "2012-03-15"])) == set()
