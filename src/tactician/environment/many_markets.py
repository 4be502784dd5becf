"""Several markets as one: their days one after another, so that a window belongs to a market by the day it begins on.

Nothing of the step changes. `Environment.markets` names the rows of each market, and `Environment.stretches` the rows in which
its episodes lie. A market is cut off where its training range ends, so what came later does not exist (docs/many_markets.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor

from tactician.environment.market_tensors import MarketTensors
from tactician.environment.noise import Stream, uniform

MEAN_BLOCK = 40
"""Mean length of a bootstrapped block in sessions: two months, the middle of 20 to 60. It keeps trends and bursts of volatility
of weeks, and a training range of ten years has 60 blocks."""

_ASSET_BLANKS: dict[str, Any] = {
    "returns": 0.0,
    "tradable": False,
    "fillable": True,
    "delisted": False,
    "vol_daily": 0.0,
    "dollar_volume": torch.nan,
}
"""What a column without an asset holds. Nobody may hold it, so it needs no mask either."""


@dataclass(frozen=True)
class Part:
    """A market to train on, and the rows of it in which episodes lie."""

    market: MarketTensors
    """Its last row is the one after the last stretch, where only the value of the state reached is read."""
    stretches: tuple[range, ...]
    """Rows of this market. Each has a row before and after it."""

    @property
    def n_rows(self) -> int:
        """Rows to train on."""
        return sum(map(len, self.stretches))


@dataclass(frozen=True)
class Joined:
    """Markets one after another."""

    market: MarketTensors
    markets: tuple[range, ...]
    """Rows of each part."""
    stretches: tuple[tuple[range, ...], ...]
    """Of each part, as rows of the joined market."""


def training_part(market: MarketTensors, stretches: Sequence[range]) -> Part:
    """The part of a market that training may know: its rows up to the last stretch's end.

    One row follows, as it was known when it was decided. Its return, fills and delistings are blank.

    Args:
        market: as a whole.
        stretches: rows in which episodes lie, in order, none of them empty.
    """
    stop = stretches[-1].stop
    # A market may end with its training range. Then the last row is seen again.
    part = _rows(market, torch.arange(stop + 1).clamp(max=market.n_days - 1))
    last: dict[str, Tensor] = {
        "end_dates": part.dates[-1:],
        "returns": torch.zeros_like(part.returns[-1:]),
        "cash_return": part.cash_return[-2:-1],
        "fillable": torch.ones_like(part.fillable[-1:]),
        "delisted": part.delisted[-2:-1],
    }
    blank: dict[str, Any] = {name: torch.cat([getattr(part, name)[:-1], row]) for name, row in last.items()}
    return Part(replace(part, **blank), tuple(stretches))


def same_days(market: MarketTensors, other: MarketTensors, rows: range) -> range:
    """The rows of another market whose decisions and returns lie between the first decision and the last return of some rows.

    Args:
        market: to which the rows belong.
        other: the other market.
        rows: not empty.
    """
    first, last = market.dates[rows.start], market.end_dates[rows.stop - 1]
    start = max(1, int((other.dates < first).sum()))
    return range(start, max(start, int((other.end_dates <= last).sum())))


def bootstrapped(market: MarketTensors, stretches: Sequence[range], seed: int, number: int) -> Part:
    """A market of the same days in another order: the stationary bootstrap of whole cross-sections.

    Blocks of consecutive rows follow one another. Their lengths are geometric with mean `MEAN_BLOCK`, and they begin anywhere
    in the stretches, which are closed to a circle (Politis and Romano 1994, "The Stationary Bootstrap"). All that belongs to a
    row travels with it: returns, features, targets, ranks, masks.

    At a join the holdings drift through the last return of one block, and the next decision sees features of another. That is
    consistent: wealth earns the returns of this path, one after the other, and each row's features stay beside the return that
    followed them. Only the look-back of the features tells of the days before the block in the market itself.

    Args:
        market: with features in any unit.
        stretches: rows to draw from; no other row is read.
        seed: of the run.
        number: of this market; each number is another draw.

    Returns:
        As many rows to train on as the stretches have, one before them and one after.
    """
    pool = torch.cat([torch.arange(part.start, part.stop) for part in stretches])
    rows = pool[stationary_blocks(len(pool), len(pool) + 2, seed, number)]
    part = _rows(market, rows)
    # Before its listing an asset has no bar, and in the market itself nobody holds it then. Here a portfolio may come from a
    # later day. It is paid out at the last mark, as at a delisting. Otherwise it would be locked in for years.
    listed = (market.fillable | market.tradable).cumsum(0) > 0
    return Part(replace(part, delisted=part.delisted | ~listed[rows]), (range(1, len(pool) + 1),))


def stationary_blocks(n: int, length: int, seed: int, number: int, mean: float = MEAN_BLOCK) -> Int64[Tensor, " row"]:
    """Places in a circle of ``n``, by the stationary bootstrap of Politis and Romano (1994).

    Each place follows the one before it, or with probability 1/mean is drawn anew from all of them.

    Args:
        n: number of places.
        length: number of places to draw.
        seed: of the run.
        number: of the draw.
        mean: length of a block.
    """
    row = torch.arange(length)
    begins = uniform(seed, Stream.BLOCK_END, number, row) < 1 / mean
    begins[0] = True
    # Double precision, because a float32 product may round up to n.
    drawn = (uniform(seed, Stream.BLOCK_START, number, row).double() * n).long()
    begun = torch.where(begins, row, 0).cummax(0).values
    return (drawn[begun] + row - begun) % n


def join(parts: Sequence[Part]) -> Joined:
    """The parts' days one after another. Markets of fewer assets get columns that nobody can hold.

    The symbols are the widest part's. Regimes and fingerprint are the first part's.

    Raises:
        ValueError: the regime tables have different numbers of regimes.
    """
    if len({part.market.regimes.n_actions for part in parts}) > 1:
        raise ValueError("markets that are trained on together need the same regimes")
    width = max(part.market.returns.shape[1] for part in parts)
    columns = [_columns(part.market, width) for part in parts]
    tensors: dict[str, Any] = {name: torch.cat([each[name] for each in columns]) for name in columns[0]}
    markets, stretches, first = [], [], 0
    for part in parts:
        markets.append(range(first, first + part.market.n_days))
        stretches.append(tuple(range(first + rows.start, first + rows.stop) for rows in part.stretches))
        first += part.market.n_days
    symbols = max((part.market.symbols for part in parts), key=len)
    return Joined(replace(parts[0].market, **tensors, symbols=symbols), tuple(markets), tuple(stretches))


def market_bytes(market: MarketTensors) -> int:
    """Bytes of a market's tensors."""
    return sum(x.nbytes for f in fields(market) if isinstance(x := getattr(market, f.name), Tensor))


def _rows(market: MarketTensors, rows: Int64[Tensor, " row"]) -> MarketTensors:
    """Some rows of a market, in any order."""
    taken: dict[str, Any] = {
        f.name: value[rows] for f in fields(market) if isinstance(value := getattr(market, f.name), Tensor)
    }
    return replace(market, **taken, beside=(), remaining=None, held_out=None)


def _columns(market: MarketTensors, width: int) -> dict[str, Tensor]:
    """A market's tensors with blank columns up to a number of assets."""
    tensors = {f.name: value for f in fields(market) if isinstance(value := getattr(market, f.name), Tensor)}
    # What nobody can hold yet needs no mask. Otherwise an asset of another market would ask for one.
    held = market.tradable.cumsum(0) > 0
    tensors |= {"fillable": market.fillable | ~held, "delisted": market.delisted & held}
    more = width - market.returns.shape[1]
    if not more:
        return tensors
    tensors |= {name: F.pad(tensors[name], (0, more), value=value) for name, value in _ASSET_BLANKS.items()}
    tensors["factor_ranks"] = F.pad(market.factor_ranks, (0, 0, 0, more))
    risky, cash = market.regime_weights[..., :-1], market.regime_weights[..., -1:]
    return {**tensors, "regime_weights": torch.cat([F.pad(risky, (0, more)), cash], -1)}
