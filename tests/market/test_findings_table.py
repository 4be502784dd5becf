"""Findings as people see them: one screen, and a list that is whole."""

import csv
import io
import pickle

import pytest

from tactician.bars.findings import Finding, finding_of
from tactician.market.findings_table import MAX_KINDS, findings_csv, findings_table

ROWS = [("RELIANCE.NS", "2020-02-03", "close nan"), ("TCS.NS", "2020-02-04", "close inf"), ("TCS.NS", "2020-02-05", "")]


def test_no_findings_no_table():
    assert findings_table(()) == []


def test_a_line_per_kind_with_rows_symbols_first_and_what_was_done():
    found = finding_of("non_finite_price", "repair", ROWS, "has no price", "bar dropped")
    header, line = findings_table([found])
    assert header.split() == ["finding", "rows", "symbols", "first", "what", "was", "done"]
    assert line.split() == ["non_finite_price", "3", "2", "RELIANCE.NS", "2020-02-03", "bar", "dropped"]


def test_columns_are_aligned():
    lines = findings_table(
        [
            finding_of("non_finite_price", "repair", ROWS, "has no price", "bar dropped"),
            finding_of("early_end", "warning", ROWS[:1], "ends", "cash afterwards"),
        ]
    )
    places = [line.index(word) for line, word in zip(lines, ("what", "bar", "cash"), strict=True)]
    assert len(set(places)) == 1


@pytest.mark.parametrize("universe", [1, 500])
def test_whatever_the_universe_it_is_a_dozen_lines_of_eighty_columns(universe):
    findings = []
    for kind in range(25):
        rows = [(f"A-VERY-LONG-SYMBOL-{k:04d}.NS", "2020-02-03", "close nan") for k in range(universe)]
        findings.append(
            finding_of(f"a_kind_with_quite_a_name_{kind}", "warning", rows, "is odd", "left as it was, and told")
        )
    lines = findings_table(findings)
    assert len(lines) <= 12 and max(map(len, lines)) <= 80
    assert lines[-1].strip() == f"and {25 - MAX_KINDS} more kinds with {(25 - MAX_KINDS) * universe:,} rows"
    assert all("2020-02-03" in line for line in lines[1:-1])  # the symbol gives way, not the date


def test_errors_come_first_then_repairs():
    kinds = [Finding(f"{s}_kind", s, "text") for s in ("warning", "repair", "error")]
    assert [line.split()[0] for line in findings_table(kinds)[1:]] == ["error_kind", "repair_kind", "warning_kind"]
    assert ["stops the build" in line for line in findings_table(kinds)] == [False, True, False, False]
    strict = findings_table(kinds, ("error", "repair"))
    assert ["stops the build" in line for line in strict] == [False, True, True, False]


def test_findings_of_the_same_kind_from_several_files_share_a_line():
    notes = [Finding("empty_row", "repair", f"{k}.csv has no price", f"S{k}", "2020-02-03", 10) for k in range(3)]
    assert findings_table(notes)[1].split()[:3] == ["empty_row", "30", "3"]


def test_the_list_has_a_line_per_fault():
    found = finding_of("non_finite_price", "repair", ROWS, "has no price", "bar dropped")
    note = Finding("no_adjusted_close", "warning", "a.csv has no adj_close, closes are used")
    rows = list(csv.DictReader(io.StringIO(findings_csv([note, found]))))
    assert [(r["symbol"], r["date"]) for r in rows[:3]] == [row[:2] for row in ROWS]
    assert rows[0] == {
        "finding": "non_finite_price",
        "severity": "repair",
        "symbol": "RELIANCE.NS",
        "date": "2020-02-03",
        "detail": "close nan",
        "action": "bar dropped",
    }
    assert rows[3]["detail"] == note.message and len(rows) == 4


def test_findings_can_be_pickled():
    found = finding_of("non_finite_price", "repair", ROWS, "has no price", "bar dropped")
    assert pickle.loads(pickle.dumps(found)) == found
