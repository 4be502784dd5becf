"""Restated bars: what a vendor says of the past now, beside what it said before."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from tactician.monitor.wording import count

_TOLERANCE = 1e-4
"""Relative difference of a price, or of one plus a return, that is taken for rounding."""


@dataclass(frozen=True)
class Restatement:
    """How the bars of a symbol differ from those that were stored."""

    symbol: str
    stored: int
    """Stored days."""
    changed: int
    """Stored days whose close or return is another one."""
    gone: int
    """Stored days that the vendor lacks now."""
    added: int
    """Days between the stored ones that are new."""
    first: date
    """The first of all these days."""
    largest: float
    """Largest change of a daily return; a decimal."""
    begins: tuple[date, date] | None
    """The first day now, and as it was stored, if it is later now."""
    ends: tuple[date, date] | None
    """The last day now, and as it was stored, if it is earlier now."""

    def told(self, source: str) -> str:
        """One sentence for the user.

        Args:
            source: name of the vendor or of the file.
        """
        did = [f"changed {self.changed:,}"] * (self.changed > 0) + [f"lacks {self.gone:,}"] * (self.gone > 0)
        clauses = [f"{' and '.join(did)} of {count(self.stored, 'stored day')}"] if did else []
        if self.added:
            clauses.append(f"added {count(self.added, 'day')} between stored ones")
        for word, moved in (("begins", self.begins), ("ends", self.ends)):
            if moved is not None:
                clauses.append(f"now {word} on {moved[0]} instead of {moved[1]}")
        largest = f", and a daily return changed by up to {100 * self.largest:.2g} %" if self.largest else ""
        return f"{self.symbol}: {source} {', '.join(clauses)}; the first such day is {self.first}{largest}."


def restatement(old: pd.DataFrame, new: pd.DataFrame, as_traded: bool) -> Restatement | None:
    """Compare the stored bars of a symbol with the vendor's.

    Adjusted prices are compared by their returns, since a vendor rescales the past at each dividend. Closes as traded are
    compared as they are. Volumes, opens, highs and lows are not compared. Days before and after the stored ones are no
    restatement.

    Args:
        old: what was stored, as `Bars.frame`, of one symbol; at least one row.
        new: what the vendor says now of the same days, and maybe of others.
        as_traded: whether ``close`` is the price as traded.

    Returns:
        None if the past is the same.
    """
    symbol = str(old["symbol"].iloc[0])
    before, now = (frame.drop_duplicates("date").set_index("date").sort_index() for frame in (old, new))
    now = now[(now.index >= before.index[0]) & (now.index <= before.index[-1])]
    common = before.index.intersection(now.index)
    a, b = before.loc[common], now.loc[common]
    moved, change = _returns_differ(a["adj_close"].to_numpy(), b["adj_close"].to_numpy())
    closes = a["close"].to_numpy(), b["close"].to_numpy()
    changed = common[moved | (_differ(*closes) if as_traded else _returns_differ(*closes)[0])]
    gone, added = before.index.difference(now.index), now.index.difference(before.index)
    days = changed.union(gone).union(added)
    if days.empty:
        return None
    largest = float(np.nanmax(change[moved], initial=0.0))
    begins = _moved(now.index[0], before.index[0]) if len(now) else None
    ends = _moved(now.index[-1], before.index[-1]) if len(now) else None
    return Restatement(symbol, len(before), len(changed), len(gone), len(added), days[0].date(), largest, begins, ends)


def _moved(now: pd.Timestamp, before: pd.Timestamp) -> tuple[date, date] | None:
    return None if now == before else (now.date(), before.date())


def _returns_differ(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which returns differ, and by how much; the first price has none. Shapes [days]."""
    if len(old) == 0:
        return np.zeros(0, dtype=bool), np.zeros(0)
    with np.errstate(all="ignore"):
        r, s = (np.r_[1.0, prices[1:] / prices[:-1]] for prices in (old, new))
        # Infinite returns come from prices of 0, which the market's checks drop.
        return _differ(r, s), np.where(np.isfinite(s - r), abs(s - r), np.nan)


def _differ(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Where numbers differ by more than rounding. Two that are missing do not differ. Shapes [days]."""
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    return ~same & ~(abs(new - old) <= _TOLERANCE * abs(old))
