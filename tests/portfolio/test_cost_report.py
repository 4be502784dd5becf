"""What the `costs` command shows: the figures against a scalar reference, and the page it prints."""

import io
import json
import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from tactician.portfolio.costs import cost_report
from tactician.portfolio.frictions import COMPONENTS, Frictions
from tactician.portfolio.regimes import regime_table
from tests.portfolio.scalar_ledger import Coefficients
from tests.portfolio.scalar_ledger import trade as scalar_trade

SYMBOLS = list("abcdef")
FRICTIONS = Frictions(commission=0.0005)
COEFFICIENTS = Coefficients(0.0002, (0.00025,) * 6, 0.01, 0.0005)


def report(frictions=FRICTIONS, table=None, **more):
    table = table or regime_table("factor", SYMBOLS)
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    tradable = torch.ones(6, dtype=torch.bool)
    targets = table.weights(scores.double()[None], tradable[None])[0].tolist()
    return cost_report(table, scores, tradable, frictions, session="2022-12-28", **more), targets


def test_every_regime_from_cash_agrees_with_the_scalar_reference():
    result, targets = report()
    for regime in range(2, 12):
        _, costs, _ = scalar_trade([0.0] * 6 + [1.0], targets[regime], COEFFICIENTS)
        assert result.from_cash[regime].tolist() == pytest.approx(costs, rel=1e-10)
    assert result.from_cash[:2].eq(0).all()


def test_every_switch_agrees_with_the_scalar_reference():
    result, targets = report()
    for i in range(1, 12):
        for j in range(1, 12):
            _, costs, _ = scalar_trade(targets[i], targets[j], COEFFICIENTS)
            expected = 0.0 if i == j else sum(costs)
            assert result.switch[i, j].item() == pytest.approx(expected, rel=1e-9, abs=1e-14), (i, j)
    assert result.switch.diagonal().eq(0).all()
    assert result.switch[0].eq(0).all()
    assert result.switch[:, 0].eq(0).all()
    torch.testing.assert_close(result.switch[1], result.from_cash.sum(-1))


def test_traded_volumes_make_the_portfolio_size_matter():
    law = {"vol_daily": torch.full((6,), 0.02), "adv": torch.full((6,), 1e7)}
    small, _ = report(Frictions(impact_adv=0.5), portfolio_value=1e4, **law)
    large, _ = report(Frictions(impact_adv=0.5), portfolio_value=1e7, **law)
    assert large.from_cash[4, 2] > 1.5 * small.from_cash[4, 2]
    assert report(Frictions())[0].from_cash[4, 2] < small.from_cash[4, 2]


def test_the_dictionary_survives_json_with_every_figure():
    result, _ = report()
    read = json.loads(json.dumps(result.as_dict()))
    assert read["session"] == "2022-12-28"
    assert read["frictions"]["impact"] == 0.01
    assert [r["name"] for r in read["regimes"]] == list(result.table.names)
    assert [r["index"] for r in read["regimes"]] == list(range(12))
    for regime, costs in zip(read["regimes"], result.from_cash.tolist(), strict=True):
        parts = regime["from_cash"]
        assert [parts[name] for name in COMPONENTS] == costs
        assert parts["total"] == pytest.approx(sum(costs))
    assert read["switch"] == result.switch.tolist()


def printed(result, width=120):
    page = io.StringIO()
    result.render(Console(file=page, width=width))
    return page.getvalue()


def test_the_page_shows_both_tables():
    result, _ = report()
    page = printed(result)
    equal = result.from_cash[4]
    assert f"{100 * equal.sum().item():.4f}" in page
    assert f"{100 * equal[2].item():.4f}" in page
    assert f"{1e4 * result.switch[4, 5].item():.1f}" in page
    assert page.count("SAFE_MOMENTUM") == 2
    for component in COMPONENTS:
        assert component in page


@pytest.mark.parametrize(("kind", "n"), [("factor", 3), ("static", 3), ("expanded", 4), ("static", 5)])
def test_the_page_is_readable_at_120_columns(kind, n):
    groups = {f"a_long_name_{i}": [SYMBOLS[i]] if i % 2 else [SYMBOLS[i], "f"] for i in range(n)}
    result, _ = report(Frictions(impact=0.05), regime_table(kind, SYMBOLS, groups))
    page = printed(result)
    assert max(map(len, page.splitlines())) <= 120
    switches = page[page.index("Cost of a switch") :]
    assert not any("…" in cell for line in switches.splitlines() for cell in line.split()[2:])
    for index in range(result.table.n_actions):
        assert f" {index} " in switches


@pytest.mark.parametrize("width", [20, 50, 60, 80])
def test_no_figure_and_no_heading_is_cut_on_a_narrow_console(width):
    result, _ = report(Frictions(impact=0.05))
    narrow, wide = printed(result, width), printed(result, 300)
    assert "…" not in narrow
    for heading in ("total", *COMPONENTS):
        assert heading in narrow
    figures = [re.findall(r"\d+\.\d+|\d{3}", page[page.index("total") :]) for page in (narrow, wide)]
    assert figures[0] == figures[1]


def test_long_names_of_regimes_go_on_in_the_next_line():
    groups = {"an_endless_name_of_a_group": SYMBOLS[:2], "another_endless_name": SYMBOLS[2:]}
    result, _ = report(table=regime_table("static", SYMBOLS, groups))
    page = printed(result, 72)
    entry = page[: page.index("Cost of a switch")]
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in entry.splitlines() if line.startswith("│")]
    names = []
    for index, part in rows:
        names = [*names, part] if index else [*names[:-1], names[-1] + part]
    assert names == list(result.table.names) and len(rows) > len(names)


def test_costs_that_round_to_zero_have_no_minus_sign():
    result, _ = report()
    page = printed(replace(result, from_cash=result.from_cash * 0 - 1e-12, switch=result.switch * 0 - 1e-12))
    assert "0.0000" in page and "-0.0" not in page
