"""The figures of docs/accounting.md and the tables of docs/regimes.md say what the program does."""

import math
import re
from pathlib import Path

import pytest
import torch

from tactician.portfolio.frictions import Frictions
from tactician.portfolio.ledger import grow as batched_grow
from tactician.portfolio.ledger import move_cost, rebalance
from tactician.portfolio.regimes import regime_table
from tests.portfolio.scalar_ledger import Coefficients, grow, trade, trade_costs

DOCS = Path(__file__).resolve().parents[2] / "docs"
ACCOUNTING = (DOCS / "accounting.md").read_text(encoding="utf-8")
REGIMES = (DOCS / "regimes.md").read_text(encoding="utf-8")
START, TARGET = [40_000.0, 30_000.0, 30_000.0], [0.5, 0.5, 0.0]
COEFFICIENTS = Coefficients(0.0002, (0.00025, 0.00025), 0.01)


def row(label):
    """The cells of the table row of docs/accounting.md that starts with ``label``."""
    (line,) = [line for line in ACCOUNTING.splitlines() if line.startswith(f"| {label} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def evaluation(after):
    amounts = [after * 0.5 - START[0], after * 0.5 - START[1]]
    cost = sum(trade_costs(amounts, 100_000.0, COEFFICIENTS))
    return [f"{number:,.4f}" for number in (after, *map(abs, amounts), cost)], 100_000.0 - cost


def test_the_worked_example_iterates_as_printed():
    first, after = evaluation(100_000.0)
    second, _ = evaluation(after)
    holdings, costs, _ = trade(START, TARGET, COEFFICIENTS)
    limit, _ = evaluation(100_000.0 - sum(costs))
    assert row("1")[1:] == first
    assert row("2")[1:] == second
    assert row("limit")[1:] == limit
    assert sum(holdings) == pytest.approx(99_866.2596, abs=1e-4)


def test_the_worked_example_ends_as_printed():
    holdings, (spread, slippage, impact, _), turnover = trade(START, TARGET, COEFFICIENTS)
    later = sum(grow(holdings, [0.01, -0.005], 0.0))
    said = " ".join(ACCOUNTING.split())
    assert f"{spread:.4f} spread, {slippage:.4f} slippage and {impact:.4f} impact" in said
    assert f"{(spread + slippage + impact) / 1000:.4f} % of the portfolio for a turnover of {turnover:.2%}" in (
        said.replace("29.87 %", "29.87%")
    )
    assert f"{holdings[0]:,.4f} of each asset" in said
    assert f"worth {later:,.4f} one session later" in said
    ours = rebalance(torch.tensor(START, dtype=torch.float64), torch.tensor(TARGET, dtype=torch.float64), Frictions())
    end = batched_grow(
        ours.holdings, torch.tensor([0.01, -0.005], dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    )
    assert end.sum().item() == pytest.approx(later, rel=1e-13)


@pytest.mark.parametrize(
    ("label", "invested"),
    [("DEFENSIVE (50 % invested)", 0.5), ("LIGHT_CASH (75 % invested)", 0.75), ("EQUAL_WEIGHT", 1.0)],
)
def test_the_comparison_with_the_specification_is_what_the_formulas_give(label, invested):
    printed = row(label)[2:]
    for cell, n in zip(printed, (1, 3, 12, 20), strict=True):
        cash = torch.tensor([0.0] * n + [1.0], dtype=torch.float64)
        target = torch.tensor([[invested / n] * n + [1 - invested]], dtype=torch.float64)
        assert cell == f"{100 * move_cost(cash, target, Frictions())[0].item():.3f} %"


def test_no_number_of_assets_gives_the_specification_its_table():
    # 0.00045·c + 0.01·c·√(c/n) = claim, solved for n
    needed = [1e-4 * c**3 / (claim - 0.00045 * c) ** 2 for c, claim in ((1, 0.0098), (0.75, 0.0056), (0.5, 0.0006))]
    said = " ".join(ACCOUNTING.split())
    assert [f"{n:.1f}" for n in needed[:2]] + [f"{needed[2]:.0f}"] == ["1.1", "1.5", "89"]
    assert (
        "would need 1.1 assets, a LIGHT_CASH of 0.56 % would need 1.5, and a DEFENSIVE of 0.06 % would need 89" in said
    )
    assert math.isclose(0.5**1.5, 0.35, abs_tol=0.005)  # DEFENSIVE by EQUAL_WEIGHT if all were impact; 0.5 if none
    assert "between 0.35 and 0.50 of EQUAL_WEIGHT" in said


def test_the_factor_table_is_documented_row_by_row():
    table = regime_table("factor", ["a"])
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\w+) \| (.+) \|$", REGIMES, flags=re.MULTILINE)
    assert [(int(i), name, kind) for i, name, kind, _ in rows] == list(
        zip(range(12), table.names, table.kinds, strict=True)
    )
    for (*_, text), regime in zip(rows, table.regimes, strict=True):
        said, short = (re.sub(r"[\s,]", "", s).lower() for s in (text, regime.description))
        assert said.startswith(short)


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("static", {"large_cap": ["SPY"], "growth": ["QQQ"], "small_cap": ["IWM"]}),
        ("expanded", {name: [name[0], name[1]] for name in ("index_funds", "platforms", "chips", "disruptors")}),
    ],
)
def test_the_generated_tables_are_documented_name_by_name(kind, groups):
    symbols = [s for group in groups.values() for s in group]
    section = REGIMES.split(f"## `{kind}`")[1].split("\n## ")[0]
    listed = [name for line in section.splitlines() if line.startswith("    ") for name in line.split()]
    assert listed == list(regime_table(kind, symbols, groups).names)
