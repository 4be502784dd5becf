"""``tactician trade`` as a user meets it: a dry run first, one session once, a halt that stays, and codes for each."""

import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tactician.cli import main
from tactician.commands import clock
from tactician.storage import save_tensors
from tactician.trading.journal import Journal
from tactician.training.checkpoint import read_checkpoint
from tactician.training.lock import only_writer
from tests.conftest import synthetic_bars
from tests.trading.fake_alpaca import FakeAlpaca
from tests.trained import ensemble_of, restless, trained

NOW = datetime(2014, 1, 2, 20, 30, tzinfo=UTC)
"""Half an hour before the close of the session after the bars."""


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> Path:
    return restless(trained(tiny, tmp_path_factory.mktemp("trade")))


@pytest.fixture
def at(monkeypatch):
    def set_to(moment: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: moment)

    set_to(NOW)
    return set_to


@pytest.fixture
def account(model, at, tmp_path):
    """Write an account file."""
    synthetic_bars(last="2013-12-31").to_parquet(tmp_path / "last.parquet")

    def write(**changes) -> Path:
        path = tmp_path / "mine.yaml"
        content = {
            "account": "SIM001",
            "checkpoint": str(model),
            "bars": str(tmp_path / "last.parquet"),
            "max_order": 1.0,
            "max_position": 1.0,
            "max_turnover": 3.0,
            **changes,
        }
        path.write_text(yaml.safe_dump(content))
        return path

    write()
    return write


@pytest.fixture
def trade(account, tmp_path, capsys):
    """Run an action; its code, output and error."""

    def run(action: str, *words: str) -> tuple[int, str, str]:
        code = main(["trade", action, "--account", str(tmp_path / "mine.yaml"), *words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def journal_of(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "mine/journal.sqlite", writes=False)


def test_a_dry_run_sends_nothing_and_plans_nothing(trade, tmp_path):
    code, said, _ = trade("run")
    assert code == 0 and "Dry run for 2014-01-02" in said and "nothing sent" in said
    journal = journal_of(tmp_path)
    assert not journal.runs() and not journal.orders()
    assert journal.last("adopted", "reconciled") is None  # a deposit before the first session is no surprise
    broker = sqlite3.connect(tmp_path / "mine/broker.sqlite")
    assert broker.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_sending_trades_the_session_once(trade, tmp_path):
    code, said, _ = trade("run", "--send")
    assert code == 0 and "Session 2014-01-02 is done" in said
    orders = journal_of(tmp_path).orders()
    assert orders and all(entry.state == "filled" for entry in orders)
    code, said, _ = trade("run", "--send")
    assert code == 0 and "is done" in said
    assert journal_of(tmp_path).orders() == orders
    assert json.loads((tmp_path / "mine/last_run.json").read_text())["exit_code"] == 0


def test_an_ensemble_that_has_found_nothing_is_said_to_when_it_trades_and_afterwards(trade, account, model):
    account(checkpoint=str(ensemble_of(model, -0.1, 0.1)))
    told = "Hold equal weight: nothing found (held-out days: +0.0 % per year"
    code, said, _ = trade("run", "--send")
    assert code == 0 and told in " ".join(said.split()) and "Regime: EQUAL_WEIGHT (100 %)" in said
    code, said, _ = trade("status")
    assert code == 0 and told in " ".join(said.split()) and "done, EQUAL_WEIGHT" in said


def test_the_next_session_goes_on_from_the_first(trade, at, tmp_path, tiny, account):
    bars = synthetic_bars(last="2014-01-06")
    bars.to_parquet(tmp_path / "bars.parquet")

    def cut(until: str) -> None:
        bars[bars["date"] <= until].to_parquet(tmp_path / "bars.parquet")

    account(bars=str(tmp_path / "bars.parquet"))
    for until, now in (
        ("2013-12-31", NOW),
        ("2014-01-02", NOW + timedelta(days=1)),
        ("2014-01-03", NOW + timedelta(days=4)),
    ):
        cut(until)
        at(now)
        code, _, error = trade("run", "--send")
        assert code == 0, error
    runs = journal_of(tmp_path).runs()
    assert [run.session for run in runs] == ["2014-01-02", "2014-01-03", "2014-01-06"]
    assert all(run.status == "done" for run in runs)
    decisions = [run.plan["decision"] for run in runs]
    assert decisions[1]["regime"] == decisions[0]["next_regime"]


def test_outside_the_window_nothing_is_sent_and_both_clocks_are_told(trade, at):
    at(NOW - timedelta(hours=3))
    code, _, error = trade("run", "--send")
    assert code == 3 and "2014-01-02 15:00 EST" in error and "to the close at 2014-01-02 16:00 EST" in error
    assert trade("run")[0] == 0  # a dry run may look at any time


def test_a_timer_that_calls_too_early_or_again_hides_no_outcome(trade, at, tmp_path):
    """A timer for half days and whole days calls in vain once a day. The page and the watchdog need not hear of it."""
    assert trade("run", "--send")[0] == 0
    for moment in (NOW + timedelta(hours=1), NOW + timedelta(hours=22)):
        at(moment)
        synthetic_bars(last="2014-01-02").to_parquet(tmp_path / "last.parquet")
        code, _, error = trade("run", "--send")
        assert code == 3 and "Orders for 2014-01-03 are sent from" in error
    assert json.loads((tmp_path / "mine/last_run.json").read_text())["said"].startswith("Session 2014-01-02 is done")
    assert journal_of(tmp_path).last("refused") is None


def test_old_bars_refuse_and_the_journal_and_the_watchdog_know(trade, at, tmp_path):
    at(NOW + timedelta(days=30))
    code, _, error = trade("run", "--send")
    assert code == 3 and "end on 2013-12-31" in error
    assert "end on 2013-12-31" in json.loads((tmp_path / "mine/last_run.json").read_text())["said"]
    assert journal_of(tmp_path).last("refused").body["reason"].startswith("The bars of")


def test_a_halt_stays_until_a_person_resumes_with_a_reason(trade, tmp_path):
    trade("run", "--send")
    assert trade("halt", "--reason", "I do not like it")[0] == 0
    code, _, error = trade("run", "--send")
    assert code == 4 and "I do not like it" in error
    (tmp_path / "mine/HALT").unlink()
    assert trade("run")[0] == 4  # the journal knows it, too
    code, said, _ = trade("status")
    assert code == 4 and "HALTED: I do not like it" in said
    assert trade("resume")[0] == 2 and trade("resume", "--reason", " ")[0] == 2
    code, said, _ = trade("resume", "--reason", "looked at it")
    assert code == 0 and "Cash" in said
    assert trade("run")[0] == 0 and trade("status")[0] == 0
    assert journal_of(tmp_path).last("resumed").body["reason"] == "looked at it"


def test_a_halt_file_made_by_hand_stops_too(trade, tmp_path):
    (tmp_path / "mine").mkdir(exist_ok=True)
    (tmp_path / "mine/HALT").write_text("")
    code, _, error = trade("status")  # there is no journal yet
    assert code == 4 and "halted by" in error
    code, _, error = trade("run")
    assert code == 4 and "no reason given" in error


def test_a_halt_that_cannot_be_written_read_or_removed_is_told_in_a_sentence(trade, tmp_path):
    trade("run")
    (tmp_path / "mine/HALT").mkdir()
    code, _, error = trade("halt")
    assert code == 2 and "HALT cannot be written" in error and "nothing is halted" in error
    code, said, _ = trade("status")
    assert code == 4 and "HALT cannot be read" in said
    code, _, error = trade("resume", "--reason", "x")
    assert code == 2 and "HALT cannot be removed" in error and "by hand" in error


def test_an_account_file_without_an_ending_is_refused(refused, account):
    path = account()
    path.rename(path.with_suffix(""))
    assert "needs an ending, such as mine.yaml" in refused("trade", "halt", "--account", str(path.with_suffix("")))


def test_flatten_sells_all_and_stays_halted(trade, tmp_path):
    trade("run", "--send")
    held = {entry.symbol for entry in journal_of(tmp_path).orders()}
    code, said, _ = trade("halt", "--flatten")
    assert code == 0 and all(f"{symbol}: filled" in said for symbol in held)
    assert journal_of(tmp_path).last("reconciled").body["positions"] == {}
    assert trade("run")[0] == 4


def test_a_journal_that_was_changed_by_hand_is_not_traded_on(trade, tmp_path):
    trade("run", "--send")
    db = sqlite3.connect(tmp_path / "mine/journal.sqlite")
    db.execute("UPDATE orders SET filled = '1' WHERE number = 1")
    db.commit()
    code, _, error = trade("run", "--send")
    assert code == 4 and "is not what the program wrote" in error
    assert trade("status")[0] == 4


def test_two_at_once_one_leaves_with_a_sentence(trade, tmp_path):
    folder = tmp_path / "mine"
    with only_writer(folder / ".lock", folder, "--account"):
        done = subprocess.run(
            [sys.executable, "-m", "tactician", "trade", "run", "--account", str(tmp_path / "mine.yaml")],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 2 and "in use by another run" in done.stderr and len(done.stderr.splitlines()) == 1


def test_another_model_is_not_taken_without_a_word(trade, account, at, tmp_path, model):
    trade("run", "--send")
    content = read_checkpoint(model)
    content["model_state_dict"]["encoder.0.bias"] += 0.1
    other = model.with_name("other.pt")
    save_tensors(content, other)
    synthetic_bars(last="2014-01-02").to_parquet(tmp_path / "bars.parquet")
    account(checkpoint=str(other), bars=str(tmp_path / "bars.parquet"))
    at(NOW + timedelta(days=1))
    code, _, error = trade("run", "--send")
    assert code == 3 and "The model is another one" in error
    assert trade("resume", "--reason", "trained anew")[0] == 0
    assert trade("run", "--send")[0] == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"acount": "X"}, "unknown key 'acount'; did you mean 'account'?"),
        ({"account": 12345}, "write the account number in quotes"),
        ({"broker": "ib"}, "'broker' cannot be 'ib'"),
        ({"cash": -5}, "give an amount above zero, or all"),
        ({"max_order": 40}, "'max_order' cannot be 40: it must be at most 1"),
        ({"checkpoint": "nowhere.pt"}, "There is no checkpoint at nowhere.pt"),
        ({"bars": "nowhere.csv"}, "There are no bars at nowhere.csv"),
        ({"broker": "alpaca"}, "APCA_API_KEY_ID"),
    ],
)
def test_a_wrong_account_file_is_told_in_one_sentence(trade, account, monkeypatch, changes, said):
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    account(**changes)
    code, _, error = trade("run", "--send")
    assert code == 2 and said in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "trade needs a word: run, status"),
        ("run", "--account is missing"),
        ("run --account nowhere.yaml", "There is no account file at nowhere.yaml"),
        ("walk --account x.yaml", "cannot be 'walk': give 'run', 'status'"),
        ("status --send --account x.yaml", "--send belongs to trade run; leave it out of trade status."),
        ("replay", "--checkpoint is missing"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(refused, words, said):
    assert said in refused("trade", *words.split())


def test_the_journal_is_exported_line_by_line(trade, tmp_path):
    trade("run", "--send")
    code, said, _ = trade("export")
    assert code == 0 and "journal.jsonl" in said
    lines = [json.loads(line) for line in (tmp_path / "mine/journal.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert {"adopted", "planned", "reconciled", "done"} <= {line["kind"] for line in lines}


def test_the_page_is_written_beside_the_shadow_and_without_it(trade, account, at, tmp_path):
    bars = synthetic_bars(last="2014-01-06")
    for until, now in (
        ("2013-12-31", NOW),
        ("2014-01-02", NOW + timedelta(days=1)),
        ("2014-01-03", NOW + timedelta(days=4)),
    ):
        bars[bars["date"] <= until].to_parquet(tmp_path / "last.parquet")
        at(now)
        assert trade("run", "--send")[0] == 0
    code, said, _ = trade("report")
    assert code == 0 and "Page:" in said and "no shadow" not in said
    assert "Shadow backtest" in (tmp_path / "mine/report.html").read_text()
    account(bars="lost.csv")
    code, said, _ = trade("report", "--output", str(tmp_path / "page.html"))
    assert code == 0 and "no shadow backtest: There are no bars at lost.csv" in said.replace("\n", " ")
    assert (tmp_path / "page.html").exists()


def test_status_without_a_journal_says_so(trade):
    code, _, error = trade("status")
    assert code == 2 and "There is no journal" in error


@pytest.fixture
def alpaca(monkeypatch):
    """Alpaca on this machine, with the symbols of the tiny market at their last closes."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    bars = synthetic_bars(last="2013-12-31")
    last = bars[bars["date"] == "2013-12-31"].set_index("symbol")["close"]
    with FakeAlpaca() as fake:
        for name, value in fake.keys.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TACTICIAN_ALPACA_URL", fake.url)
        monkeypatch.setenv("TACTICIAN_ALPACA_DATA_URL", fake.url)
        fake.set_clock(NOW)
        for symbol, price in last.items():
            fake.set_price(symbol, round(price, 2))
        yield fake


def test_at_alpaca_a_session_is_traded_once_and_what_is_not_ours_stays(trade, account, alpaca, tmp_path):
    alpaca.set_price("SPY", 500)
    alpaca.hold("SPY", 3)
    account(broker="alpaca", account=alpaca.number, cash=50_000)
    assert trade("run")[0] == 0 and alpaca.accepted == 0
    code, said, error = trade("run", "--send")
    assert code == 0, error
    assert alpaca.accepted == len(journal_of(tmp_path).orders()) > 0
    assert "Left alone: 3 SPY" in said
    before = alpaca.accepted
    assert trade("run", "--send")[0] == 0 and alpaca.accepted == before
    assert trade("halt", "--flatten")[0] == 0
    assert {s: q for s, q in alpaca.positions.items() if q} == {"SPY": 3}


def test_an_emergency_needs_neither_the_model_nor_the_bars(trade, account, alpaca, tmp_path):
    account(broker="alpaca", account=alpaca.number, cash="all")
    assert trade("run", "--send")[0] == 0
    account(broker="alpaca", account=alpaca.number, cash="all", checkpoint="lost.pt", bars="lost.csv")
    code, _, error = trade("halt", "--flatten")
    assert code == 0, error
    assert not any(alpaca.positions.values())


def test_the_account_number_must_be_the_typed_one(trade, account, alpaca):
    account(broker="alpaca", account="OTHER1", cash="all")
    code, _, error = trade("run", "--send")
    assert code == 2 and "the account file says OTHER1" in error and alpaca.accepted == 0


def test_a_stand_in_for_alpaca_may_only_be_on_this_computer(trade, account, alpaca, monkeypatch):
    account(broker="alpaca", account="OTHER1", cash="all")
    monkeypatch.setenv("TACTICIAN_ALPACA_URL", "https://evil.example")
    code, _, error = trade("run")
    assert code == 2 and "may only name this computer" in error


def test_replay_equals_the_backtest_and_says_so(model, tmp_path, capsys):
    words = [
        "--checkpoint",
        str(model),
        "--from",
        "2013-05-01",
        "--to",
        "2013-05-31",
        "--folder",
        str(tmp_path / "replay"),
    ]
    assert main(["trade", "replay", *words]) == 0
    said = capsys.readouterr().out
    assert "equal: what trades is what was tested" in said
    assert main(["trade", "replay", *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["equal"] and result["orders"] > 10 and result["refused"] == []


def test_a_replay_with_an_account_uses_its_limits(model, account, tmp_path, capsys):
    path = account(max_order=0.01)
    words = ["--account", str(path), "--from", "2013-05-01", "--to", "2013-05-07", "--folder", str(tmp_path / "replay")]
    assert main(["trade", "replay", *words]) == 0
    said = capsys.readouterr().out
    assert "max_order" in said and "because of this account's limits" in said
