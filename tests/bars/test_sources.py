"""Sources by name: the table's own, and files for every other name."""

from pathlib import Path

import pytest

from tactician.bars import SOURCES, read_source
from tactician.config import load_config
from tactician.errors import UserError


def config(**changes):
    return load_config(Path("configs/embedded_sp500.yaml"), changes)


def test_every_source_is_listed_where_a_name_is_none(tmp_path):
    missing = tmp_path / "none.csv"
    with pytest.raises(UserError) as caught:
        read_source(config(bars=str(missing)))
    said = str(caught.value)
    assert said == f"There are no bars at {missing}; give --bars embedded, yfinance, or a CSV/Parquet file or folder."
    assert all(f"{name}, " in said for name in SOURCES)


def test_a_sources_bars_bear_its_name_and_hold_the_configurations_symbols_and_dates():
    wanted = config(start="2010-01-04", end="2010-02-26")
    bars = read_source(wanted)
    assert bars.source == "embedded" in SOURCES and bars.symbols == wanted.symbols
    assert str(bars.frame["date"].min().date()) == "2010-01-04" and str(bars.frame["date"].max().date()) == "2010-02-26"
