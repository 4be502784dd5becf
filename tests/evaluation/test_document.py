"""The document: every part of the contract, whole, finite or null, and true to the path."""

import json
import math
from dataclasses import replace
from datetime import date, timedelta

import pytest
import torch

from tactician.environment import OBSERVATION_NAMES
from tactician.evaluation import AGENT, Piece, Turn, document, judge
from tactician.report import page
from tactician.report.files import numbers
from tests.evaluation.agents import EQUAL, Told, environment, network, planned
from tests.markets import random_market
from tests.report import sample

TRIALS = (3, (0.05, 0.02, -0.01))

pytestmark = pytest.mark.whole_judge


def described(judged, trials=TRIALS, **more):
    return document(
        judged,
        judged.result,
        kind="evaluation",
        title="Test range",
        subtitle="5 assets",
        trials=trials,
        training=sample.evaluation()["training"],
        provenance=sample.evaluation()["provenance"],
        **more,
    )


def short(n=30, **more):
    """A range on which little can be said."""
    return judge([Turn(Piece(range(200, 200 + n)), environment(), (network(),))], **more)


@pytest.fixture(scope="module")
def whole():
    """Two pieces, two seeds, all baselines."""
    env, policies = environment(random_market(500, listing=False), 8, rows=range(1, 250)), (network(1), network(2))
    pieces = (Piece(range(300, 420), range(251, 299)), Piece(range(420, 490), range(371, 419)))
    return judge([Turn(piece, env, policies) for piece in pieces])


@pytest.fixture(scope="module")
def told(whole):
    return described(whole)


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def all_of(told, name):
    (found,) = [part for part in told["strategies"] if part["name"] == name]
    return found


def statistic(told, name):
    (found,) = [part for part in told["statistics"] if part["name"] == name]
    return found


# Shape


def missing(expected, found, place=""):
    """Keys of the report's sample that a document lacks."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            if key not in found:
                yield f"{place}.{key}"
            else:
                yield from missing(value, found[key], f"{place}.{key}")
    elif isinstance(expected, list) and isinstance(found, list) and expected and found:
        yield from missing(expected[0], found[0], f"{place}[]")
    elif (
        type(expected) is not type(found)
        and None not in (expected, found)
        and {int, float}
        != {
            type(expected),
            type(found),
        }
    ):
        yield f"{place}: {type(found)}"


def test_every_part_of_the_contract_is_there(told):
    expected = sample.walk_forward() | {"folds": None, "run": None}
    del expected["abstained"]  # only a walk-forward has folds in which it may
    assert list(missing(expected, told)) == []
    assert set(sample.evaluation()["trading"]["components"]) == set(told["trading"]["components"])
    assert (told["format"], told["version"], told["kind"]) == ("tactician report", 1, "evaluation")
    assert list(missing({"curves": [{"absent": 1}]}, told)) == [".curves[].absent"]


def test_it_is_strict_json_and_plain(told):
    assert strict(json.dumps(told, allow_nan=False)) == told
    assert strict(numbers(told)) == told


def test_every_series_has_one_entry_per_session(told):
    n = told["range"]["sessions"]
    assert n == 190
    series = [told["dates"], told["band"]["low"], told["band"]["median"], told["allocation"]["weights"]]
    series += [told["regimes"]["chosen"], told["regimes"]["probabilities"], told["why"]["decisions"]]
    series += [told["trading"]["turnover"], told["trading"]["cost"], *told["trading"]["components"].values()]
    series += [curve["growth"] for curve in told["curves"]] + [seed["wealth"] for seed in told["band"]["seeds"]]
    assert {len(one) for one in series} == {n}


def test_the_page_renders_it(told):
    html = page(told)
    assert html.startswith("<!doctype html>") and told["verdict"]["text"].split(" (")[0] in html
    assert "Best constant regime" in html and "p-value" in html


# Numbers


def test_growths_sum_to_the_total_return_of_the_table(whole, told):
    table = {name: figures.total_return for name, figures in whole.result.performances.items()}
    curves = {curve["name"]: curve for curve in told["curves"]}
    assert set(curves) == {"agent", "equal_weight", "buy_and_hold", "cash", "best_constant"}
    assert told["curves"][0]["name"] == AGENT
    for name, total in table.items():
        assert math.expm1(math.fsum(curves[name]["growth"])) == pytest.approx(total, abs=1e-6)
    # Gross is the same trades without costs.
    for name in ("agent", "equal_weight"):
        gross = math.fsum(curves[name]["gross"])
        assert gross > math.fsum(curves[name]["growth"])
        assert gross == pytest.approx(math.fsum(curves[name]["growth"]) + cost_of(whole, name), rel=0.02, abs=2e-3)
    assert curves["cash"]["gross"] is None


def cost_of(judged, name):
    return float(judged.path.costs[:, judged.path.column(name)].sum())


def test_months_compound_to_the_total_and_follow_the_calendar(whole, told):
    for name, years in told["months"].items():
        total = math.prod(1 + year["total"] for year in years) - 1
        assert total == pytest.approx(whole.result.performances[name].total_return, abs=1e-12)
        for year in years:
            assert len(year["returns"]) == 12
            months = math.prod(1 + x for x in year["returns"] if x is not None) - 1
            assert months == pytest.approx(year["total"], abs=1e-12)
    days = [date.fromisoformat(day) for day in told["dates"]]
    there = {(day.year, day.month) for day in days}
    years = told["months"]["agent"]
    assert {(y["year"], k + 1) for y in years for k, x in enumerate(y["returns"]) if x is not None} == there
    assert len(there) < 12 * len(years)  # else no month could be missing
    # By hand, from the path: the first month in full.
    first = [float(x) for x, day in zip(whole.path.growth[:, 0], days, strict=True) if day.month == days[0].month]
    assert years[0]["returns"][days[0].month - 1] == pytest.approx(math.expm1(math.fsum(first)), abs=1e-12)


def test_dates_are_those_at_which_the_returns_end():
    market = random_market(300, listing=False)
    market = replace(market, end_dates=market.dates + torch.where(market.dates % 5 == 4, 3, 1))
    env = environment(market)
    told = described(judge([Turn(Piece(range(200, 230)), env, (network(),))]))
    ends = [date(1970, 1, 1) + timedelta(days=10_000 + t + (3 if t % 5 == 4 else 1)) for t in range(200, 230)]
    assert told["dates"] == [day.isoformat() for day in ends]
    assert told["decided"] == [
        str(market.date_of(row)) for row in range(200, 230)
    ]  # where they trade, one session before
    # The range is told by its decisions.
    assert (told["range"]["first"], told["range"]["last"]) == ("1997-12-05", "1998-01-03")


def test_allocations_and_probabilities_sum_to_one(whole, told):
    assert told["allocation"]["assets"] == [*whole.market.symbols, "cash"]
    assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in told["allocation"]["weights"])
    assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in told["regimes"]["probabilities"])
    names = told["regimes"]["names"]
    chosen = [max(range(len(names)), key=row.__getitem__) for row in told["regimes"]["probabilities"]]
    unsure = sum(a != b for a, b in zip(chosen, told["regimes"]["chosen"], strict=True))
    assert unsure <= 1, "rounding may make a tie, and nothing else differs"


def test_of_many_assets_the_largest_are_shown_and_the_others_together():
    market = random_market(300, 15, listing=False)
    env = environment(planned(market, torch.full((300,), EQUAL)))
    told = described(judge([Turn(Piece(range(200, 230)), env, (Told(),))]))
    assert len(told["allocation"]["assets"]) == 14 and told["allocation"]["assets"][-2:] == ["others", "cash"]
    for row in told["allocation"]["weights"]:
        assert sum(row) == pytest.approx(1, abs=1e-4)
        assert row[:12] == pytest.approx(12 * [1 / 15], rel=0.01) and row[12] == pytest.approx(3 / 15, rel=0.01)


def test_the_components_sum_to_the_cost(whole, told):
    parts = told["trading"]["components"].values()
    for day, cost in enumerate(told["trading"]["cost"]):
        assert sum(part[day] for part in parts) == pytest.approx(cost, abs=5e-8)
    annual = sum(part["annual"] for part in told["cost_components"])
    assert annual == pytest.approx(whole.result.performances[AGENT].annual_cost)
    assert annual == pytest.approx(math.fsum(told["trading"]["cost"]) * 252 / 190, rel=1e-4)
    assert annual > 0.01


def test_the_verdict_is_that_of_the_result_and_the_same_in_every_place(whole, told):
    assert told["verdict"]["text"] == f"The agent is {whole.result.verdict}."
    assert told["verdict"]["side"] == whole.result.side
    gap, agent = told["verdict"]["difference"], told["strategies"][0]
    assert agent["name"] == AGENT and agent["beyond"]["return"] == pytest.approx(gap["value"])
    assert agent["intervals"]["return_beyond_equal_weight"] == pytest.approx([gap["low"], gap["high"]])
    figures = whole.result.performances[AGENT].as_dict()
    assert {k: figures[k] for k in agent["figures"]} == agent["figures"]
    once, now, start = told["cost_multipliers"][1], told["delays"][0], told["starts"][0]
    assert (once["multiplier"], now["sessions"], start["name"]) == (1.0, 0, "cash")
    for headline in (once, now, start):
        assert headline["annual_return"] == pytest.approx(figures["annual_return"])
        assert headline["beyond_equal_weight"] == pytest.approx(gap["value"])
        assert [headline["low"], headline["high"]] == pytest.approx([gap["low"], gap["high"]])


def test_caveat_and_notes_are_told(whole):
    result = replace(whole.result, caveat="CONTAMINATED", notes=("looked at twice",))
    told = document(
        whole, result, kind="k", title="", subtitle="", trials=(None, ()), training=None, provenance={}, run={"a": 1}
    )
    assert told["verdict"]["text"].endswith("; CONTAMINATED.") and told["verdict"]["caveat"] == "CONTAMINATED"
    assert told["verdict"]["notes"] == ["looked at twice"] and told["run"] == {"a": 1}


def test_seeds_are_told_one_by_one(whole, told):
    assert [seed["seed"] for seed in told["seeds"]] == [0, 1]
    for k, seed in enumerate(told["band"]["seeds"]):
        growth = whole.path.growth[:, whole.path.column(f"seed:{k}")]
        assert seed["wealth"][-1] == pytest.approx(math.exp(float(growth.sum())), abs=1e-6)
        annual = seed["wealth"][-1] ** (252 / 190) - 1
        assert told["seeds"][k]["annual_return"] == pytest.approx(annual, abs=1e-5)
    last = [seed["wealth"][-1] for seed in told["band"]["seeds"]]
    assert (told["band"]["low"][-1], told["band"]["high"][-1]) == (min(last), max(last))
    assert described(short())["band"] is None and described(short())["seeds"] is None


def test_reasons_are_told_by_name_and_share_the_whole(told):
    assert told["why"]["entries"] == list(OBSERVATION_NAMES)
    shares = [part["share"] for part in told["why"]["importance"]]
    assert sum(shares) == pytest.approx(1, abs=1e-4) and shares == sorted(shares, reverse=True)
    assert {part["entry"] for part in told["why"]["importance"]} == set(OBSERVATION_NAMES)
    for day in told["why"]["decisions"]:
        assert len(day) == 10 and all(0 <= entry < 64 for entry, *_ in day)
        assert [abs(effect) for _, effect, _ in day] == sorted((abs(effect) for _, effect, _ in day), reverse=True)


def test_what_moved_told_decisions_is_the_feature_that_tells_them():
    drawn = torch.randint(1, 12, (300,), generator=torch.Generator().manual_seed(0))
    env = environment(planned(random_market(300, listing=False), drawn))
    told = described(judge([Turn(Piece(range(200, 230)), env, (Told(sure=0.1),))]))
    shares = [part["share"] for part in told["why"]["importance"]]
    assert told["why"]["importance"][0]["entry"] == OBSERVATION_NAMES[0]
    assert shares[0] == pytest.approx(1) and sum(shares[1:]) == 0
    for day, decisions in enumerate(told["why"]["decisions"]):
        ((entry, _, value),) = decisions
        assert entry == 0 and value == float(drawn[200 + day])


# What is not available


def test_statistics_of_a_long_range_have_values(told):
    for part in told["statistics"]:
        assert part["value"] is not None and part["reason"] is None and part["text"].endswith("."), part["name"]
    names = "sharpe sharpe_beyond_equal_weight growth_beyond_equal_weight detectable_sharpe_difference psr dsr spa mcs"
    assert [part["name"] for part in told["statistics"]] == [*names.split(), "pbo", "alpha", "beta", "timing"]
    members = statistic(told, "mcs")["members"]
    assert len(members) == statistic(told, "mcs")["value"] and "hindsight" not in members
    assert "3 counted" in statistic(told, "dsr")["text"]
    assert 0 <= statistic(told, "dsr")["value"] <= statistic(told, "psr")["value"] <= 1


def test_thirty_sessions_have_no_interval_and_say_why():
    told = described(short())
    assert strict(json.dumps(told, allow_nan=False)) == told
    for part in told["statistics"]:
        if part["name"] == "timing":
            continue
        assert part["value"] is None and part["low"] is None and part["high"] is None, part["name"]
        assert part["reason"], part["name"]
    assert told["verdict"]["side"] == "not available" and "not available" in told["verdict"]["text"]
    assert told["verdict"]["difference"]["low"] is None
    assert told["strategies"][0]["intervals"]["sharpe"] == [None, None]
    assert told["strategies"][0]["figures"]["annual_return"] is not None
    assert "not available" in page(told)


def test_an_unknown_number_of_trials_has_no_deflated_ratio_and_names_the_ledger(whole):
    told = statistic(described(whole, (None, ())), "dsr")
    assert told["value"] is None and "the ledger beside the market cache has no record of this run" in told["reason"]
    told = statistic(described(whole, (2, (0.1,))), "dsr")
    assert told["value"] is None and "fewer than two trials have a Sharpe ratio" in told["reason"]
    once = described(whole, (1, ()))
    assert statistic(once, "dsr")["value"] == statistic(once, "psr")["value"]


def test_a_baseline_without_a_path_says_why_and_the_page_shows_it(whole):
    lacking = [replace(s, missing="it rains") if s.name == "hindsight" else s for s in whole.strategies]
    told = described(replace(whole, strategies=tuple(lacking)))
    part = all_of(told, "hindsight")
    assert (part["available"], part["reason"], part["figures"]) == (False, "it rains", {})
    assert "it rains" in page(told)
    assert all(s["available"] and s["reason"] is None for s in told["strategies"] if s["name"] != "hindsight")
