"""``tactician signal`` as a user meets it: what to hold, from what is held, and what it refuses."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

import tactician
from tactician.cli import main
from tactician.commands import clock
from tests.conftest import synthetic_bars
from tests.trained import restless, trained

LAST = "2013-12-31"


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> Path:
    return restless(trained(tiny, tmp_path_factory.mktemp("signal")))


@pytest.fixture
def at(monkeypatch):
    """Set the clock."""

    def set_to(text: str) -> None:
        monkeypatch.setattr(clock, "now", lambda: datetime.fromisoformat(text).replace(tzinfo=UTC))

    set_to("2014-01-02T20:30")
    return set_to


@pytest.fixture(scope="module")
def bars(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    synthetic_bars(last=LAST).to_parquet(path)
    return path


@pytest.fixture
def given(model, bars, at, tmp_path) -> list[str]:
    """The flags that every call has."""
    return ["signal", "--checkpoint", str(model), "--bars", str(bars), "--store", str(tmp_path / "store")]


@pytest.fixture
def signal(given, capsys):
    """The answer as JSON."""

    def run(*words: str) -> dict:
        assert main([*given, "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_it_says_what_to_hold_at_the_next_close_and_what_that_takes(signal):
    said = signal("--cash", "50000")
    assert said["session"] == "2014-01-02" and said["known_until"] == LAST
    assert said["closes"].startswith("2014-01-02T21:00")
    assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert said["probability"] == max(said["probabilities"].values())
    assert said["value"] == 50_000
    assert len(said["why"]) == 8 and said["model"] and said["data"]


def test_orders_lead_from_the_holdings_to_the_target_weights(signal, tmp_path):
    bars = synthetic_bars(last=LAST)
    closes = bars[bars["date"] == LAST].set_index("symbol")["close"]
    held = tmp_path / "held.csv"
    held.write_text("Symbol,Shares\nAAA,900\nZZZ,5\nCASH,1000.50\n")
    said = signal("--holdings", str(held), "--since", "5", "--regime", "equal_weight")
    assert not said["hold"] and len(said["orders"]) > 2
    assert said["left_alone"] == {"ZZZ": "5"}
    assert said["value"] == pytest.approx(900 * closes["AAA"] + 1000.5)
    after = {"AAA": 900.0, "BBB": 0.0, "CCC": 0.0, "DDD": 0.0}
    for order in said["orders"]:
        after[order["symbol"]] += float(order["shares"]) * (1 if order["side"] == "buy" else -1)
    for symbol, weight in said["weights"].items():
        if symbol != "CASH":
            held_then = after[symbol] * closes[symbol]
            assert held_then == pytest.approx(weight * (said["value"] - said["cost"]), rel=1e-6, abs=1.0)


def test_orders_can_be_typed_in_by_hand(signal, tmp_path):
    path = tmp_path / "orders.csv"
    said = signal("--orders", str(path), "--whole-shares")
    rows = list(csv.DictReader(path.open()))
    assert [row["symbol"] for row in rows] == [order["symbol"] for order in said["orders"]]
    assert rows and all(float(row["shares"]) == int(float(row["shares"])) and row["limit"] for row in rows)


def test_the_page_for_people_names_times_costs_and_reasons(given, capsys):
    assert main(given) == 0
    said = capsys.readouterr().out
    (coming,) = [line for line in said.splitlines() if line.startswith("  Next:")]
    assert coming.endswith(" %") and coming.count("%") == 3
    for words in ("2014-01-02 16:00 EST", "Regime:", "features of the market", "What moved the decision", "No promise"):
        assert words in said


def test_python_gets_the_same_sheet(signal, model, bars, tmp_path):
    sheet = tactician.signal(model, bars=bars, cash=50_000, store=tmp_path / "store")
    assert sheet.as_dict()["orders"] == signal("--cash", "50000")["orders"]
    assert "Regime:" in repr(sheet) and "Holdings and orders" in repr(sheet)


def test_a_past_session_can_be_asked_for(signal):
    assert signal("--on", "2013-11-29")["known_until"] == "2013-11-27"  # Thanksgiving in between


def test_a_market_far_from_the_training_is_told_loudly(model, at, tmp_path, capsys):
    wild = synthetic_bars(last=LAST)
    late = wild["date"] > "2013-10-01"
    noise = pd.Series(range(late.sum()), index=wild.index[late]).mod(7).sub(3).div(9)
    wild.loc[late, ["open", "high", "low", "close", "adj_close"]] *= (1 + noise).to_numpy()[:, None]
    wild.to_csv(tmp_path / "wild.csv", index=False)
    words = ["--bars", str(tmp_path / "wild.csv"), "--store", str(tmp_path / "store")]
    assert main(["signal", "--checkpoint", str(model), *words]) == 0
    said = capsys.readouterr().out
    assert "Warning: far from the training" in said


def test_old_bars_are_refused_with_a_code_of_their_own(given, at, capsys):
    at("2014-03-03T15:00")
    assert main(given) == 3
    said = capsys.readouterr().err
    assert "end on 2013-12-31, and the last finished session is 2014-02-28" in said and "--on" in said


def test_on_the_evening_the_session_that_has_closed_is_known(signal, at):
    at("2013-12-31T21:00")  # the close itself
    assert signal()["session"] == "2014-01-02"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("symbol,shares\nAAA,ten\nCASH,1", "line 2: 'ten' is no number"),
        ("symbol,shares\nAAA,1\nAAA,2\nCASH,1", "line 3: AAA is there a second time"),
        ("symbol,shares\nAAA,-1\nCASH,1", "line 2: AAA is short"),
        ("symbol,shares\nAAA,1", "no row CASH"),
        ("name,number\nAAA,1", "no columns symbol and shares"),
        ("symbol,shares\nAAA,NaN\nCASH,1", "line 2: 'NaN' is no number"),
    ],
)
def test_holdings_that_cannot_be_read_are_named_by_their_line(given, tmp_path, refused, rows, said):
    (tmp_path / "held.csv").write_text(rows)
    assert said in refused(*given, "--holdings", str(tmp_path / "held.csv"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--cash 0", "--cash 0 is no amount"),
        ("--cash nan", "--cash"),
        ("--regime momentun", "did you mean MOMENTUM?"),
        ("--since -1", "--since cannot be negative"),
        ("--on 2013-12-25", "--on 2013-12-25 is no session of XNYS"),
        ("--on 2014-06-02", "lies too far ahead"),
        ("--checkpoint nowhere.pt", "There is no checkpoint at nowhere.pt"),
        ("--holdings nowhere.csv", "Cannot read the holdings nowhere.csv"),
        ("--bars nowhere.csv", "There are no bars at nowhere.csv"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(given, refused, words, said):
    assert said in refused(*given, *words.split())


def test_without_a_model_it_says_which_flag_is_missing(refused):
    assert "--checkpoint is missing" in refused("signal")
