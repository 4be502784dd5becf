"""Bars: daily prices in tidy long form, whatever they were read from."""

import hashlib
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import pandas as pd

from tactician.bars.findings import Finding
from tactician.errors import UserError


class MissingSymbols(UserError):
    """A source lacks the bars of a wanted symbol."""


COLUMNS = ("open", "high", "low", "close", "adj_close", "volume")


@dataclass(frozen=True)
class Bars:
    """One row per symbol and session, sorted by date, then symbol."""

    frame: pd.DataFrame
    """Columns: date (datetime64[ns], midnight, no zone), symbol, close, adj_close; optional open, high, low, volume.
    ``close`` is a price level, ``adj_close`` the total-return price (splits and dividends)."""
    symbols: tuple[str, ...]
    """In the order in which the universe names them."""
    source: str
    """Name for messages: a file, 'embedded', 'yfinance'."""
    notes: tuple[Finding, ...] = ()
    """Findings of the reader."""
    as_traded: bool = False
    """Whether ``close`` is the price that was traded on the day. A close adjusted for splits or dividends contains later
    information, so it is no price level. Then there is no size score and no traded value."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of dates, symbols and numbers; the same for the same bars in any file format, order or place."""
        digest = hashlib.sha256()
        frame = self.frame
        digest.update(frame["date"].to_numpy("datetime64[D]").astype("<i8").tobytes())
        digest.update("\n".join(frame["symbol"]).encode())
        for column in COLUMNS:
            if column in frame:
                digest.update(column.encode())
                digest.update(frame[column].to_numpy("<f8").tobytes())
        return digest.hexdigest()


def make_bars(
    frame: pd.DataFrame,
    source: str,
    symbols: tuple[str, ...] | None = None,
    start: date | None = None,
    end: date | None = None,
    notes: tuple[Finding, ...] = (),
    as_traded: bool = False,
) -> Bars:
    """Choose symbols and dates, and sort.

    Args:
        frame: tidy long, as `Bars.frame`, in any order.
        source: name for messages.
        symbols: those wanted, in order; None for all.
        start: first date; None for the earliest.
        end: last date; None for the latest.
        notes: the reader's findings.
        as_traded: whether ``close`` is the price as traded, without any later adjustment.

    Raises:
        UserError: a symbol is missing, or nothing is left.
    """
    available = set(frame["symbol"].unique())
    wanted = tuple(sorted(available)) if symbols is None else symbols
    require_symbols(source, wanted, available)
    chosen = frame[frame["symbol"].isin(wanted)]
    if start is not None:
        chosen = chosen[chosen["date"] >= pd.Timestamp(start)]
    if end is not None:
        chosen = chosen[chosen["date"] <= pd.Timestamp(end)]
    if chosen.empty:
        raise UserError(f"{source} has no bars between {start} and {end}; choose other dates.")
    columns = ["date", "symbol", *(c for c in COLUMNS if c in chosen)]
    ordered = chosen[columns].sort_values(["date", "symbol"], kind="stable").reset_index(drop=True)
    return Bars(ordered, wanted, source, notes, as_traded)


def require_symbols(source: str, wanted: tuple[str, ...], available: set[str]) -> None:
    """Refuse a source that lacks the bars of a wanted symbol.

    Raises:
        MissingSymbols: names the missing symbols, and those that the source has.
    """
    missing = [symbol for symbol in wanted if symbol not in available]
    if missing:
        shown = ", ".join(sorted(available)[:20]) + (" …" if len(available) > 20 else "")
        raise MissingSymbols(f"{source} has no bars of {', '.join(missing)}; it has: {shown or 'nothing'}.")
