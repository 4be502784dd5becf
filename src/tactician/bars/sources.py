"""Where bars come from: a table of sources by name, and files for every other name."""

from dataclasses import replace
from pathlib import Path

from tactician.bars.bars import Bars
from tactician.bars.embedded import embedded_bars
from tactician.bars.files import read_bars
from tactician.bars.yahoo import yahoo_bars
from tactician.config import Config
from tactician.errors import UserError


def read_source(config: Config) -> Bars:
    """The bars that ``config.bars`` names.

    Raises:
        UserError: no such source, or it lacks a symbol.
    """
    if config.bars == "embedded":
        return embedded_bars(config.symbols, config.start, config.end)
    if config.bars == "yfinance":
        return yahoo_bars(config.symbols, config.start, config.end)
    path = Path(config.bars)
    if not path.exists():
        raise UserError(
            f"There are no bars at {path}; give --bars embedded, yfinance, or a CSV/Parquet file or folder."
        )
    bars = read_bars(path, config.symbols, config.start, config.end, calendar=config.calendar)
    as_traded = config.closes == "as_traded"
    if as_traded and any(note.name == "no_close" for note in bars.notes):
        raise UserError(
            f"closes: {path} has adjusted closes alone, which are no prices as traded; add a column close, or set "
            "closes to adjusted."
        )
    return replace(bars, as_traded=as_traded)
