"""Print docs/results.md's tables from reports: ``python benchmarks/walk_forward/tables.py FOLDER/report.json ...``."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

STATISTICS = ("psr", "dsr", "spa", "pbo", "timing", "alpha", "beta")


def percent(x: float | None, sign: str = "") -> str:
    """A fraction in percent, without the sign of percent: the column's head has it."""
    return "–" if x is None else f"{100 * x:{sign}.1f}"


def number(x: float | None, sign: str = "") -> str:
    """A figure with two digits."""
    return "–" if x is None else f"{x:{sign}.2f}"


def with_ends(x: float | None, ends: Sequence[float | None] | None, shape: Any, sign: str) -> str:
    """A figure and its 95 % interval."""
    if x is None or not ends or ends[0] is None:
        return shape(x, sign)
    return f"{shape(x, sign)} ({shape(ends[0], sign)} to {shape(ends[1], sign)})"


def strategies(report: dict[str, Any]) -> Iterator[str]:
    """One row per strategy that could be followed."""
    heads = (
        "strategy",
        "return %",
        "volatility %",
        "Sharpe",
        "drawdown %",
        "turnover ×",
        "costs %",
        "Δreturn %",
        "ΔSharpe",
    )
    yield f"| {' | '.join(heads)} |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for row in report["strategies"]:
        if not row["available"]:
            continue
        figures, ends, beyond = row["figures"], row["intervals"], row["beyond"]
        cells = [
            row["label"],
            percent(figures["annual_return"]),
            percent(figures["annual_volatility"]),
            with_ends(figures["sharpe"], ends.get("sharpe"), number, ""),
            percent(figures["max_drawdown"]),
            f"{figures['annual_turnover']:.1f}",
            f"{100 * figures['annual_cost']:.2f}",
            with_ends(beyond["return"], ends.get("return_beyond_equal_weight"), percent, "+"),
            with_ends(beyond["sharpe"], ends.get("sharpe_beyond_equal_weight"), number, "+"),
        ]
        yield f"| {' | '.join(cells)} |"


def statistics(report: dict[str, Any]) -> Iterator[str]:
    """The agent's statistics in one line."""
    rows = {row["name"]: row for row in report["statistics"]}
    yield "; ".join(f"{rows[k]['label']} {rows[k]['value']}" for k in STATISTICS if k in rows)


def main() -> None:
    """Print the tables of all reports that were named."""
    for name in sys.argv[1:]:
        report = json.loads(Path(name).read_text())
        print(f"\n## {report['title']}: {report['subtitle']}\n")
        print(report["verdict"]["text"], report["verdict"]["power"], *report["verdict"]["notes"], sep="\n")
        print()
        print(*strategies(report), sep="\n")
        print()
        print(*statistics(report), sep="\n")
        print(json.dumps({key: report[key] for key in ("training", "starts", "seeds", "folds")}, indent=1))


if __name__ == "__main__":
    main()
