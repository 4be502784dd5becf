"""Findings: faults of bars, by name, and what was done about them. docs/data.md has the table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tactician.errors import UserError

Severity = Literal["error", "repair", "warning"]
"""An error stops. A repair was made, and stops if `on_findings` is 'strict'. A warning is only reported."""

Row = tuple[str, str, str]
"""Symbol, date and detail of one fault; an empty string where one does not apply."""


@dataclass(frozen=True)
class Finding:
    """All faults of one kind in the bars."""

    name: str
    severity: Severity
    message: str
    """One sentence that names symbol and date of the first fault, and how many there are."""
    symbol: str | None = None
    """Of the first fault."""
    date: str | None = None
    """Of the first fault."""
    count: int = 1
    action: str = ""
    """What was done, in a few words; for an error, what the user can do."""
    rows: tuple[Row, ...] = ()
    """Every fault of this kind."""


class BadBars(UserError):
    """Bars that cannot become a market, with all findings."""

    def __init__(self, source: str, findings: Sequence[Finding], stopping: Sequence[Finding], remedy: str) -> None:
        """Say which finding stops, where it is first, and what to do.

        Args:
            source: of the bars, for the message.
            findings: all findings.
            stopping: the findings that stop.
            remedy: what the user can do, as a clause.
        """
        self.findings = tuple(findings)
        self.stopping: frozenset[Severity] = frozenset(f.severity for f in stopping)
        self.problem = f"{source}: {stopping[0].message} [{stopping[0].name}]{_others(stopping[1:])}"
        self.remedy = stopping[0].action if stopping[0].severity == "error" and stopping[0].action else remedy
        super().__init__(f"{self.problem}; {self.remedy}.")

    def with_list(self, path: object) -> UserError:
        """The same error, which also names the file that lists every fault."""
        return UserError(f"{self.problem}; {path} lists every fault; {self.remedy}.")


def finding_of(
    name: str, severity: Severity, rows: Sequence[Row], what: str, action: str, *, unit: str = "such rows"
) -> Finding:
    """Make one finding from all faults of a kind.

    Args:
        name: of the kind.
        severity: of the kind.
        rows: every fault, in order; at least one.
        what: text after the symbol and date of the first fault.
        action: see `Finding`.
        unit: what is counted.
    """
    symbol, day, detail = rows[0]
    where = " ".join(word for word in (symbol, day) if word)
    symbols = len({s for s, _, _ in rows if s})
    more = f", the first of {len(rows):,} {unit}" if len(rows) > 1 else ""
    more += f" of {symbols} symbols" if symbols > 1 and unit == "such rows" else ""
    shown = f" ({detail})" if detail else ""
    message = f"{where} {what}{shown}{more}".strip()
    return Finding(name, severity, message, symbol or None, day or None, len(rows), action, tuple(rows))


def _others(findings: Sequence[Finding]) -> str:
    """What else stops, by kind."""
    kinds: dict[str, int] = {}
    for finding in findings:
        kinds[finding.name] = kinds.get(finding.name, 0) + finding.count
    if not kinds:
        return ""
    shown = ", ".join(f"{count:,} {name}" for name, count in list(kinds.items())[:5])
    return f" (besides {shown}{', …' if len(kinds) > 5 else ''})"
