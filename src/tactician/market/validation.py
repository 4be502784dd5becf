"""Validation: find the faults of bars, repair what can be repaired, and stop at the rest.

No repair invents a price. A bar is dropped, or its close only marks holdings and no order is filled at it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from tactician.bars.bars import Bars
from tactician.bars.exchanges import FROM_BARS, sessions_between
from tactician.bars.findings import BadBars, Finding, Row, finding_of
from tactician.bars.sources import SOURCES
from tactician.market.calendar import (
    HOLE,
    Agreement,
    Attendance,
    Sessions,
    agree,
    attendance,
    better_calendar,
    off_by_a_day,
)
from tactician.market.checks import (
    Fault,
    duplicates,
    ohlc,
    rows_of,
    spacing,
    sparse_stretches,
    spikes,
    stale_runs,
    unpriced,
    volumes,
)
from tactician.market.factors import MAX_GAP
from tactician.market.splits import split_jumps

MAX_DROPPED = 0.05
"""Largest share of an asset's bars that a repair may drop."""
_FEW = 3
"""This many bars may be dropped whatever their share."""
_ENOUGH = 0.95
"""An asset that keeps this share of the sessions of its life may lose any number of bars on other days."""
_MISFIT, _NO_FIT, _MISFIT_DAYS = 0.015, 0.2, 4
"""Share of disputed days above which another calendar is tried; share above which none fits; and least number of days."""
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class CheckedBars:
    """Bars that are fit for a market."""

    bars: Bars
    """Repaired: one row per symbol and session, with finite positive prices."""
    blocked: pd.Series
    """bool, one per row of the bars: the price is known, but no order may be filled at it."""
    sessions: Sessions
    findings: tuple[Finding, ...]


@dataclass
class _Repair:
    """Bars under repair, sorted by symbol, then date."""

    bars: Bars
    frame: pd.DataFrame
    """As `Bars.frame`, with a column 'blocked'."""
    strict: bool
    findings: list[Finding]
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows dropped so far by symbol and finding."""

    def apply(self, faults: Iterable[Fault]) -> None:
        """Note the faults of the current frame, and repair them."""
        dropped = np.zeros(len(self.frame), dtype=bool)
        for fault in faults:
            if not fault.rows.any():
                continue
            self.findings.append(fault.finding(self.frame))
            if fault.effect == "block":
                self.frame.loc[fault.rows, "blocked"] = True
            elif fault.effect == "clear":
                self.frame.loc[fault.rows, list(fault.columns)] = np.nan
            elif fault.effect == "drop":
                dropped |= fault.rows
                self._count(fault)
        if dropped.any():
            self.frame = self.frame[~dropped].reset_index(drop=True)

    def _count(self, fault: Fault) -> None:
        for symbol, count in self.frame.loc[fault.rows, "symbol"].value_counts().items():
            self.dropped.setdefault(str(symbol), {})[fault.name] = int(count)

    @property
    def lost(self) -> dict[str, dict[str, int]]:
        """Bars dropped so far that count as lost. An empty row was no bar, and one of several equal rows stays."""
        free = ("empty_row", "duplicate_rows")
        lost = {s: {n: k for n, k in kinds.items() if n not in free} for s, kinds in self.dropped.items()}
        return {symbol: kinds for symbol, kinds in lost.items() if kinds}

    def stop(self, *, at_repairs: bool = False) -> None:
        """Refuse the bars if there is an error, or at the end of a strict check a repair."""
        kinds = ("error", "repair") if at_repairs and self.strict else ("error",)
        stopping = sorted((f for f in self.findings if f.severity in kinds), key=lambda f: f.severity)
        if stopping:
            raise BadBars(self.bars.source, self.findings, stopping, _remedy(self.bars.source, stopping))


def check_bars(bars: Bars, calendar: str, on_findings: str = "repair") -> CheckedBars:
    """Find the sessions, check the bars against them and against one another, and repair what can be repaired.

    Args:
        bars: as they were read.
        calendar: exchange calendar by its ISO 10383 code; 'bars' takes the sessions from the bars.
        on_findings: 'repair', or 'strict' to stop instead.

    Raises:
        BadBars: there is an error, or with 'strict' a repair. It holds all findings.
        UserError: no such calendar.
    """
    # The order matters: each step relies on what the steps before it removed. Errors stop as soon as they are known,
    # since later checks would only report their consequences.
    repair = _Repair(bars, _by_symbol(bars), on_findings == "strict", list(bars.notes))
    repair.findings += _one_asset(bars)
    repair.stop()
    repair.apply(unpriced(repair.frame))
    repair.findings += _without_bars(repair, calendar)
    repair.stop()
    repair.apply(spacing(repair.frame))
    repair.stop()
    repair.findings += sparse_stretches(repair.frame)
    repair.stop()
    repair.apply(duplicates(repair.frame))
    repair.findings += _without_bars(repair, calendar)
    repair.stop()
    repair.apply(spikes(repair.frame))
    # The sessions are found only now, because wrong and repeated rows would count as trades.
    days = attendance(repair.frame)
    agreement = agree(days, calendar, bars.source)
    sessions = agreement.sessions
    repair.findings += _of_calendar(agreement, days, calendar, bars.source)
    repair.stop()
    repair.apply(_stray(repair.frame, sessions))
    repair.findings += _losses(repair, sessions, calendar)
    repair.findings += _without_bars(repair, calendar)
    repair.stop()
    # These checks compare neighbouring bars, so they come after the bars on days without a session are gone.
    for check in (volumes, ohlc, stale_runs, split_jumps):
        repair.apply(check(repair.frame))
    repair.findings += [*_gaps(repair.frame, sessions), *_lives(repair.frame, sessions)]
    repair.stop(at_repairs=True)
    done = repair.frame.sort_values(["date", "symbol"], kind="stable").reset_index(drop=True)
    blocked = done.pop("blocked").astype(bool)
    return CheckedBars(replace(bars, frame=done), blocked, sessions, tuple(repair.findings))


def _by_symbol(bars: Bars) -> pd.DataFrame:
    """The bars sorted by symbol, then date, with no bar blocked."""
    frame = bars.frame.assign(symbol=bars.frame["symbol"].astype(str), blocked=False)
    if "volume" in frame:
        frame["volume"] = frame["volume"].astype("float64")
    return frame.sort_values(["symbol", "date"], kind="stable").reset_index(drop=True)


def _one_asset(bars: Bars) -> list[Finding]:
    if len(bars.symbols) > 1:
        return []
    text = f"{bars.symbols[0]} is the only asset, and allocation needs at least two"
    return [Finding("one_asset", "error", text, bars.symbols[0], action="add a symbol to the universe")]


def _without_bars(repair: _Repair, calendar: str) -> list[Finding]:
    there = set(repair.frame["symbol"].unique())
    gone = [symbol for symbol in repair.bars.symbols if symbol not in there]
    if not gone:
        return []
    rows = [(symbol, "", _why_gone(repair, symbol)) for symbol in gone]
    what = f"has no usable bar between the dates asked for (calendar {calendar})"
    action = "choose other dates, or remove the symbol from the universe"
    if rows[0][2]:
        action = "correct its bars, or remove the symbol from the universe"
    return [finding_of("no_bars", "error", rows, what, action, unit="such assets")]


def _why_gone(repair: _Repair, symbol: str) -> str:
    """Which findings removed the bars of an asset; '' if it never had a bar."""
    dropped = [f"{count:,} {name}" for name, count in repair.dropped.get(symbol, {}).items()]
    if not dropped:
        return ""
    came = repair.bars.frame.loc[repair.bars.frame["symbol"].astype(str) == symbol, ["close", "adj_close"]]
    never = [column for column in came if not (np.isfinite(came[column]) & (came[column] > 0)).any()]
    whose = f" ({' and '.join(never)} without any price)" if never else ""
    return f"dropped: {', '.join(dropped)}{whose}"


def _of_calendar(agreement: Agreement, days: Attendance, calendar: str, source: str) -> list[Finding]:
    """Findings where the calendar and the bars disagree about sessions."""
    found = []
    for name, dates, what, action in (
        (
            "extra_session",
            agreement.extra,
            f"is no session of {calendar}, but at least half of the listed assets traded",
            "kept as session",
        ),
        ("outside_calendar", agreement.beyond, f"is beyond what calendar {calendar} knows", "session by bars"),
        ("empty_session", agreement.empty, f"is a session of {calendar} on which nobody has a bar", "no session"),
    ):
        if len(dates):
            rows = [("", f"{day:%Y-%m-%d}", "") for day in dates]
            found.append(finding_of(name, "warning", rows, what, action, unit="such days"))
    dates = agreement.sessions.dates
    gap = np.diff(dates.to_numpy("datetime64[D]")).astype(int)
    if (gap > HOLE).any():
        rows = [("", f"{dates[k]:%Y-%m-%d}", f"{gap[k]} days") for k in np.flatnonzero(gap > HOLE)]
        what = "is followed by days on which nobody has a bar"
        found.append(finding_of("hole", "warning", rows, what, "one return across it", unit="holes"))
    return found + _misfit(agreement, days, calendar, source)


def _misfit(agreement: Agreement, days: Attendance, calendar: str, source: str) -> list[Finding]:
    disputed = agreement.disputed
    if calendar == FROM_BARS or agreement.mismatch <= _MISFIT or len(disputed) < _MISFIT_DAYS:
        return []
    better = better_calendar(days, agreement.mismatch, calendar, source)
    if better is None and agreement.mismatch <= _NO_FIT:
        return []
    rows: list[Row] = [("", f"{day:%Y-%m-%d}", "") for day in disputed]
    what = f"is a day on which bars and calendar {calendar} disagree"
    action = f"set calendar: {better}" if better else "set 'calendar' to that of the exchange, or to bars"
    known = sessions_between(calendar, days.dates[0] - _DAY, days.dates[-1] + _DAY)
    if not better and (shift := off_by_a_day(days.dates, known)):
        action = (
            f"correct the dates if they are {shift} (times in UTC may be), or set 'calendar' to that of the exchange"
        )
    return [finding_of("wrong_calendar", "error", rows, what, action, unit="such days")]


def _stray(f: pd.DataFrame, sessions: Sessions) -> list[Fault]:
    stray = ~f["date"].isin(sessions.dates).to_numpy()
    what = "has a bar on a day that is no session"
    return [Fault("not_a_session", "repair", stray, what, "drop")]


def _losses(repair: _Repair, sessions: Sessions, calendar: str) -> list[Finding]:
    """Assets that would lose more bars than a repair may take."""
    kept = repair.frame.groupby("symbol")["date"].agg(["min", "max", "size"])
    losers: list[Row] = []
    reasons = set()
    for symbol, lost in sorted(repair.lost.items()):
        left = int(kept["size"].get(symbol, 0))
        strays = lost.get("not_a_session", 0)
        if strays and left:
            first, last = kept.loc[symbol, "min"], kept.loc[symbol, "max"]
            if left >= _ENOUGH * ((sessions.dates >= first) & (sessions.dates <= last)).sum():
                strays = 0  # it has nearly all sessions, and also trades on other days, as a coin does
        all_of_it = sum(lost.values()) - lost.get("not_a_session", 0) + strays
        # A few bars may always be dropped, since their share means little in a short history.
        if all_of_it > max(_FEW, MAX_DROPPED * (all_of_it + left)):
            worst = max(lost, key=lost.__getitem__)
            reasons.add(worst)
            losers.append((symbol, "", f"{all_of_it} of {all_of_it + left} bars, {worst}"))
    if not losers:
        return []
    what = "would lose more bars than a repair may take"
    action = ""
    if reasons == {"not_a_session"}:
        action = _of_strays(repair, [symbol for symbol, _, _ in losers], sessions, calendar)
    return [finding_of("too_many_repairs", "error", losers, what, action, unit="such assets")]


def _of_strays(repair: _Repair, symbols: Sequence[str], sessions: Sessions, calendar: str) -> str:
    """What the user can do about assets with many bars on days without a session."""
    named = ", ".join(symbols[:5]) + (", …" if len(symbols) > 5 else "")
    if calendar == FROM_BARS:
        return f"set 'calendar' to that of the exchange, or remove {named} from the universe"
    came = repair.bars.frame
    shifts = {off_by_a_day(pd.DatetimeIndex(came.loc[came["symbol"] == s, "date"]), sessions.dates) for s in symbols}
    if len(shifts) == 1 and (shift := shifts.pop()):
        return f"correct the dates of {named}, which look {shift} (times in UTC may be)"
    return f"check whether the dates of {named} are off by a day, or set 'calendar' to that of the exchange, or to bars"


def _gaps(f: pd.DataFrame, sessions: Sessions) -> list[Finding]:
    position = pd.Series(sessions.dates.get_indexer(f["date"]))
    gap = (position.groupby(f["symbol"].to_numpy()).diff() - 1).fillna(0).astype(int)
    found = []
    for name, rows, what, action in (
        ("long_gap", gap > MAX_GAP, f"follows more than {MAX_GAP} missing sessions", "not held in gap"),
        ("missing_sessions", gap.between(1, MAX_GAP), f"follows up to {MAX_GAP} missing sessions", "no fills there"),
    ):
        hits = f.assign(missing=gap)[rows.to_numpy()].sort_values(["date", "symbol"], kind="stable")
        if len(hits):
            found.append(finding_of(name, "warning", rows_of(hits, ("missing",)), what, action))
    return found


def _lives(f: pd.DataFrame, sessions: Sessions) -> list[Finding]:
    """Assets that begin after the first session or end before the last."""
    life = f.groupby("symbol")["date"].agg(["min", "max"])
    before = sessions.dates.searchsorted(life["min"])
    after = len(sessions.dates) - sessions.dates.searchsorted(life["max"], side="right")
    found = []
    for name, dates, count, chosen, what, action in (
        ("late_listing", life["min"], before, before > MAX_GAP, "is the first bar of an asset", "not held before"),
        ("early_end", life["max"], after, after > MAX_GAP, "is the last bar of an asset", "cash afterwards"),
        (
            "incomplete_end",
            life["max"],
            after,
            (after > 0) & (after <= MAX_GAP),
            f"is the last bar, up to {MAX_GAP} sessions before the end",
            "held at that price",
        ),
    ):
        rows = [
            (str(symbol), f"{day:%Y-%m-%d}", f"{n} sessions {'late' if name == 'late_listing' else 'early'}")
            for symbol, day, n, hit in zip(life.index, dates, count, chosen, strict=True)
            if hit
        ]
        if rows:
            found.append(finding_of(name, "warning", rows, what, action, unit="such dates"))
    return found


def _remedy(source: str, stopping: Sequence[Finding]) -> str:
    """What the user can do, if the finding itself names no action."""
    if all(f.severity == "repair" for f in stopping):
        return "let it be repaired with --on-findings repair"
    if source in SOURCES:
        return SOURCES[source].remedy
    return "correct the file at these dates, or remove the symbol from the universe"
