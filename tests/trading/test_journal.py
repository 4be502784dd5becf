"""The journal of an account: its chain, its tables, and what happens when it is written by nobody who may."""

import os
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tactician.errors import Halted, UserError
from tactician.trading.broker import Placed
from tactician.trading.journal import FINAL, Entry, Journal, Run

AT = datetime(2025, 6, 3, 19, 30, tzinfo=UTC)


def entry(number=1, **changes):
    values = {
        "id": f"tac-X-20250603-S{number}-b-1",
        "session": "2025-06-03",
        "symbol": f"S{number}",
        "side": "buy",
        "planned": Decimal("10.5"),
        "quantity": Decimal("10.5"),
        "reference": 100.0,
    }
    return Entry(**(values | changes))


def run(session="2025-06-03", status="planned"):
    return Run(session, status, {"value": 1000.0, "weights": {"S1": 0.5}}, "model", "data")


@pytest.fixture
def path(tmp_path):
    """A journal of two runs, three orders and seven events."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal.record("adopted", AT, positions={"S1": "3"}, cash=10.0)
    journal.record("planned", AT, run=run(), orders=[entry(1), entry(2)])
    journal.record("sending", AT, orders=[entry(1, state="sending")])
    journal.record("placed", AT, orders=[entry(1, state="filled", filled=Decimal("10.5"), price=99.5)])
    journal.record("done", AT, run=run(status="done"))
    journal.record("planned", AT, run=run("2025-06-04"), orders=[entry(3, session="2025-06-04")])
    journal.record("checked", AT, cash=11.0)
    journal.close()
    return path


def change(path, *statements):
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


# ------------------------------------------------------------------------------------------------- what is kept


def test_what_was_written_is_there_when_it_is_opened_again(path):
    journal = Journal(path)
    assert journal.runs() == [run(status="done"), run("2025-06-04")] and journal.run("2025-06-05") is None
    assert [e.id for e in journal.orders("2025-06-03")] == [entry(1).id, entry(2).id]
    assert journal.orders()[0] == entry(1, state="filled", filled=Decimal("10.5"), price=99.5)
    assert journal.n_orders == 3
    assert journal.last("adopted").body == {"positions": {"S1": "3"}, "cash": 10.0} and journal.last("halted") is None
    assert [event.kind for event in journal.events("planned", "done")] == ["planned", "done", "planned"]
    assert [event.seq for event in journal.events()] == [*range(1, 8)]


def test_each_event_carries_the_hash_of_the_one_before(path):
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT previous, hash FROM events ORDER BY seq").fetchall()
    assert rows[0][0] == "0" * 64 and len({digest for _, digest in rows}) == 7
    assert [previous for previous, _ in rows[1:]] == [digest for _, digest in rows[:-1]]


def test_a_changed_order_keeps_its_place(path):
    journal = Journal(path)
    journal.record("seen", AT, orders=[entry(2, state="open")])
    assert [e.symbol for e in Journal(path).orders()] == ["S1", "S2", "S3"]


def test_a_number_that_is_none_is_kept_as_none(path):
    Journal(path).record("checked", AT, cash=float("nan"))
    assert Journal(path).last("checked").body == {"cash": None}


shares = st.decimals(min_value=0, max_value=10**12, allow_nan=False, allow_infinity=False, places=9)
money = st.floats(0, 1e12, allow_nan=False)
entries = st.builds(
    Entry,
    id=st.uuids().map(str),
    session=st.just("2025-06-03"),
    symbol=st.text(min_size=1, max_size=8),
    side=st.sampled_from(["buy", "sell"]),
    planned=shares,
    quantity=shares,
    reference=money,
    limit=st.none() | shares,
    state=st.sampled_from(["planned", "sending", "unknown", "open", *FINAL]),
    filled=shares,
    price=st.none() | money,
    fees=money,
    reason=st.text(max_size=20),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(entries, min_size=1, max_size=4, unique_by=lambda e: e.id))
def test_entries_come_back_exactly(tmp_path_factory, given_entries):
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    journal = Journal(path)
    journal.record("planned", AT, orders=given_entries)
    journal.close()
    back = Journal(path, writes=False)
    assert back.orders() == given_entries
    assert [str(e.planned) for e in back.orders()] == [str(e.planned) for e in given_entries]
    back.close()


def test_what_is_filled_never_falls():
    seen = Placed("i", "S1", "buy", Decimal("10.5"), "open", Decimal(4), 100.0)
    later = Placed("i", "S1", "buy", Decimal("10.5"), "canceled", Decimal(0), None, reason="canceled")
    found = entry().placed(seen).placed(later)
    assert (found.state, found.filled, found.price) == ("canceled", 4, 100.0) and found.final


@pytest.mark.parametrize(("side", "signed", "spent"), [("buy", 4, 401.0), ("sell", -4, -399.0)])
def test_what_an_order_has_moved(side, signed, spent):
    found = entry(side=side, filled=Decimal(4), price=100.0, fees=1.0)
    assert (found.signed, found.spent) == (signed, spent)


# ---------------------------------------------------------------------------------------------- another hand


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET body = replace(body, '10.5', '11.5') WHERE seq = 2",
        "UPDATE events SET kind = 'resumed' WHERE seq = 3",
        "UPDATE events SET at = '2025-06-03T19:31:00+00:00' WHERE seq = 1",
        "UPDATE events SET hash = previous WHERE seq = 4",
        "UPDATE events SET previous = hash WHERE seq = 1",
        "UPDATE events SET seq = 70 WHERE seq = 7",
        "DELETE FROM events WHERE seq = 1",
        "DELETE FROM events WHERE seq = 4",
        "DELETE FROM events WHERE seq = 7",
        "DELETE FROM events WHERE seq > 2",
        "DELETE FROM events",
        "INSERT INTO events SELECT 8, at, kind, body, hash, hash FROM events WHERE seq = 7",
        "INSERT INTO events SELECT 0, at, kind, body, previous, hash FROM events WHERE seq = 1",
        "UPDATE runs SET status = 'planned' WHERE session = '2025-06-03'",
        "UPDATE runs SET plan = '{}' WHERE session = '2025-06-04'",
        "UPDATE runs SET model = 'another'",
        "DELETE FROM runs WHERE session = '2025-06-03'",
        "INSERT INTO runs VALUES ('2025-06-05', 'done', '{}', 'model', 'data')",
        "UPDATE orders SET state = 'planned' WHERE symbol = 'S1'",
        "UPDATE orders SET quantity = '10.50' WHERE symbol = 'S2'",
        "UPDATE orders SET number = 9 WHERE symbol = 'S3'",
        "UPDATE orders SET price = NULL",
        "DELETE FROM orders WHERE symbol = 'S3'",
        "INSERT INTO orders SELECT 4, 'x', session, symbol, side, planned, quantity, reference, limit_price, state, filled, "
        "price, fees, reason FROM orders WHERE symbol = 'S3'",
    ],
)
@pytest.mark.parametrize("writes", [True, False])
def test_a_row_that_was_changed_added_or_removed_by_another_hand_is_found(path, statement, writes):
    change(path, statement)
    with pytest.raises(Halted, match="is not what the program wrote") as halted:
        Journal(path, writes=writes)
    assert halted.value.exit_code == 4


def test_an_order_of_a_plan_that_never_was_is_found(path):
    """Both the event and the row were taken away, and the chain before them is whole."""
    change(path, "DELETE FROM events WHERE seq >= 6", "DELETE FROM runs WHERE session > '2025-06-03'")
    change(path, "DELETE FROM orders WHERE symbol = 'S3'")
    with pytest.raises(Halted, match="the end after event 5"):
        Journal(path)


# --------------------------------------------------------------------------------------------- another file


@pytest.mark.parametrize("size", [50, 1000, 5000])
def test_a_truncated_file_is_told(path, size):
    os.truncate(path, size)
    with pytest.raises(UserError, match=r"journal\.sqlite"):
        Journal(path)


@pytest.mark.parametrize("writes", [True, False])
def test_a_file_of_something_else_is_told(tmp_path, writes):
    path = tmp_path / "journal.sqlite"
    path.write_text("date,symbol\n" * 200)
    with pytest.raises(UserError, match=r"cannot be opened as a journal .*restore it from a copy"):
        Journal(path, writes=writes)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("writes", [True, False])
def test_a_database_of_something_else_is_told(tmp_path, version, writes):
    path = tmp_path / "journal.sqlite"
    change(path, "CREATE TABLE cats (name TEXT)", f"PRAGMA user_version = {version}")
    with pytest.raises(UserError, match="name another folder"):
        Journal(path, writes=writes)


def test_a_journal_that_was_never_begun_is_told(tmp_path):
    with pytest.raises(UserError, match=r"There is no journal at .*; `tactician trade run` begins one"):
        Journal(tmp_path / "journal.sqlite", writes=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be opened as a journal"):
        Journal(tmp_path / "file" / "journal.sqlite")


# ------------------------------------------------------------------------------------ other processes, and death


def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def test_it_is_read_while_another_process_writes(path):
    def write():
        journal = Journal(path)
        for number in range(10_000):
            session = str((AT + timedelta(days=2 + number)).date())
            journal.record("planned", AT, run=run(session), orders=[entry(100 + number)])

    pid = in_child(write)
    try:
        seen = []
        while not seen or seen[-1] < seen[0] + 60:
            reader = Journal(path, writes=False)
            seen.append(reader.n_orders)
            assert len(reader.runs()) == reader.n_orders - 1
            reader.close()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert seen == sorted(seen)
    Journal(path).record("checked", AT)


def test_a_reader_cannot_write(path):
    with pytest.raises(UserError, match="readonly"):
        Journal(path, writes=False).record("checked", AT)


def test_of_two_writers_the_one_that_is_behind_stops_cleanly(path):
    first, second = Journal(path), Journal(path)
    first.record("checked", AT)
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot be written .*nothing is sent"):
            second.record("planned", AT, orders=[entry(4)])
    assert second.n_orders == 3  # what is in memory is what is on the disk
    first.record("checked", AT)
    assert len(list(Journal(path).events())) == 9


def test_a_death_in_the_middle_of_a_write_leaves_the_old_state(path):
    class Dying(Journal):
        def _write(self, *given):
            super()._write(*given)
            os.kill(os.getpid(), signal.SIGKILL)

    def write():
        Dying(path).record("planned", AT, run=run("2025-06-05"), orders=[entry(4), entry(1, state="lapsed")])

    pid = in_child(write)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    journal = Journal(path)
    assert journal.n_orders == 3 and journal.run("2025-06-05") is None and journal.orders()[0].state == "filled"
    assert len(list(journal.events())) == 7


def test_a_write_that_fails_leaves_the_old_state(path):
    class Failing(Journal):
        def _write(self, *given):
            super()._write(*given)
            raise sqlite3.OperationalError("database or disk is full")

    journal = Failing(path)
    with pytest.raises(UserError, match=r"disk is full.*free some space"):
        journal.record("planned", AT, orders=[entry(4)])
    assert journal.n_orders == 3 and len(list(Journal(path).events())) == 7


def test_a_commit_that_fails_leaves_the_old_state_and_lets_the_next_one_through(path):
    class Full(sqlite3.Connection):
        fails = 0

        def execute(self, sql, *given):
            if sql == "COMMIT" and Full.fails:
                Full.fails -= 1
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *given)

    journal = Journal(path)
    journal._db = sqlite3.connect(path, factory=Full, isolation_level=None)
    Full.fails = 1
    with pytest.raises(UserError, match="disk I/O error"):
        journal.record("planned", AT, orders=[entry(4)])
    journal.record("checked", AT)
    assert [event.kind for event in Journal(path).events()][-2:] == ["checked", "checked"]
