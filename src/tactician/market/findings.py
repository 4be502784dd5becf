"""Findings: what was noticed about bars, by name, and what was done about it. docs/data.md has the table."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "repair", "warning"]
"""An error stops; a repair was made (and stops where `on_findings` is 'strict'); a warning is only told."""


@dataclass(frozen=True)
class Finding:
    """Something noticed about bars."""

    name: str
    severity: Severity
    message: str
    """One sentence that names symbol and date."""
    symbol: str | None = None
    date: str | None = None
    count: int = 1
