"""Findings for people: a table that fits one screen, and the whole list as CSV."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence

from tactician.bars.findings import Finding, Severity
from tactician.monitor.wording import count

MAX_KINDS = 10
"""Rows of the table; further kinds are summed in one line."""
_WIDTHS = (20, 7, 7, 22)
"""Widths of the columns finding, rows, symbols and first. The last column, what was done, takes the rest of 80."""
_ACTION = 80 - sum(w + 1 for w in _WIDTHS) - 2
_ORDER = {"error": 0, "repair": 1, "warning": 2}


def findings_table(findings: Iterable[Finding], stopping: Collection[Severity] = ()) -> list[str]:
    """A heading and one row per kind of finding, errors first: at most a dozen lines of 80 columns.

    Empty if there are no findings.

    Args:
        findings: the table shows the first of each kind.
        stopping: severities that stop the build besides errors, as in `BadBars`.
    """
    kinds = _by_kind(findings)
    if not kinds:
        return []
    lines = [_line("finding", "rows", "symbols", "first", "what was done")]
    for kind in kinds[:MAX_KINDS]:
        first = kind[0]
        n_rows, symbols = sum(f.count for f in kind), _n_symbols(kind)
        where = _place(first.symbol or "", first.date or "")
        lines.append(
            _line(first.name, f"{n_rows:,}", f"{symbols:,}" if symbols else "-", where, _action(first, stopping))
        )
    rest = [f for kind in kinds[MAX_KINDS:] for f in kind]
    if rest:
        n_rows = sum(f.count for f in rest)
        lines.append(f"  and {count(len(kinds) - MAX_KINDS, 'more kind')} with {count(n_rows, 'row')}")
    return lines


def findings_csv(findings: Iterable[Finding]) -> str:
    """The whole list, one line per fault: finding, severity, symbol, date, detail, action."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["finding", "severity", "symbol", "date", "detail", "action"])
    for kind in _by_kind(findings):
        for f in kind:
            for symbol, day, detail in f.rows or ((f.symbol or "", f.date or "", f.message),):
                writer.writerow([f.name, f.severity, symbol, day, detail or f.message, f.action])
    return text.getvalue()


def _by_kind(findings: Iterable[Finding]) -> list[list[Finding]]:
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for f in findings:
        kinds.setdefault((f.name, f.severity), []).append(f)
    return sorted(kinds.values(), key=lambda kind: _ORDER[kind[0].severity])


def _n_symbols(kind: Sequence[Finding]) -> int:
    symbols = {symbol for f in kind for symbol, _, _ in f.rows if symbol}
    return len(symbols | {f.symbol for f in kind if f.symbol})


def _action(finding: Finding, stopping: Collection[Severity]) -> str:
    if finding.severity == "error" or finding.severity in stopping:
        return "stops the build"
    return finding.action or ("repaired" if finding.severity == "repair" else "told")


def _place(symbol: str, day: str) -> str:
    """Symbol and date for the table's column; a long symbol is shortened to leave room for the date."""
    room = _WIDTHS[3] - len(day) - 1 if day else _WIDTHS[3]
    return f"{_shorten(symbol, room)} {day}".strip()


def _line(name: str, rows: str, symbols: str, first: str, action: str) -> str:
    a, b, c, d = _WIDTHS
    text = f"  {_shorten(name, a):{a}} {rows:>{b}} {symbols:>{c}} {first:{d}} {_shorten(action, _ACTION)}"
    return text.rstrip()


def _shorten(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
