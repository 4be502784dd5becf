"""What `tactician trade` does, action by action."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tactician.bars.hours import last_closed
from tactician.commands import clock
from tactician.commands.trading_desk import LAST_RUN, PAGE, Opened, Place, opened
from tactician.errors import Halted, NotNow, UserError
from tactician.monitor.progress import Reporter
from tactician.portfolio.frictions import Frictions
from tactician.storage import json_text, save_text
from tactician.trading.account_page import account_document, write_account_page
from tactician.trading.cycle import Outcome, decision_of
from tactician.trading.desk import HALT, halt_reason, remove_halt, write_halt
from tactician.trading.flatten import cancel_ours, flatten
from tactician.trading.journal import FILE, Entry
from tactician.trading.known import market_until
from tactician.trading.reconcile import BOOK, reconcile
from tactician.trading.shadow import shadow_of
from tactician.trading.sheet import Sheet, plain
from tactician.training.in_use import model_in_use

if TYPE_CHECKING:
    from tactician.commands.trade import TradeArguments

_LATE = timedelta(days=4)
"""A longer time without a run is told: something that should call it does not."""


def run(arguments: "TradeArguments") -> int:
    """One session's cycle."""
    place, reporter = _place(arguments), Reporter(silent=arguments.as_json)
    with _noted(place), opened(place, reporter, "decision") as work:
        assert work.cycle is not None
        outcome = work.cycle.run(send=arguments.send)
        sheet, said = _sheet(work, outcome), _said(outcome)
        place.note_run(0, said)
    if arguments.as_json:
        print(json_text(_outcome(outcome, sheet, said), indent=2))
        return 0
    if sheet is not None:
        sheet.render(reporter)
    for entry in outcome.orders if outcome.sent else ():
        reporter.say(f"  {order_line(entry)}")
    _tell_foreign(outcome, reporter)
    reporter.say(f"  {said}", "bold")
    return 0


def status(arguments: "TradeArguments") -> int:
    """How things stand, from the journal alone."""
    place = _place(arguments)
    if (place.folder / HALT).exists() and not (place.folder / FILE).exists():
        raise Halted(
            f"trading is halted by {place.folder / HALT}, before its first session; remove that file to begin."
        )
    found = _status(place)
    if arguments.as_json:
        print(json_text(found, indent=2))
    else:
        reporter = Reporter()
        for line in _status_lines(found):
            reporter.say(f"  {line}", "bold red" if line.startswith("HALTED") else "")
    return Halted.exit_code if found["halted"] else 0


def halt(arguments: "TradeArguments") -> int:
    """Stop everything; cancel our open orders; with --flatten also sell what is held."""
    place, reporter = _place(arguments), Reporter()
    reason = arguments.reason or "by command"
    # The file first, and without the lock: a cycle that is under way looks at it before every order.
    write_halt(place.folder, reason)
    reporter.say(f"  Halted: {reason}. Nothing is sent until tactician trade resume --account FILE --reason ….", "bold")
    with opened(place, reporter, "account") as work:
        work.desk.halt(reason)
        for entry in cancel_ours(work.desk):
            reporter.say(f"  {order_line(entry)}")
        if arguments.flatten:
            for entry in flatten(work.desk, work.day):
                reporter.say(f"  {order_line(entry)}")
    return 0


def resume(arguments: "TradeArguments") -> int:
    """Go on after a halt, with what the broker holds and with the present model."""
    place, reporter = _place(arguments), Reporter()
    if not (arguments.reason or "").strip():
        raise UserError("--reason is missing; say why it is safe to go on. It is kept in the journal.")
    with _noted(place), opened(place, reporter, "model") as work:
        found = reconcile(work.desk, str(work.day.date), "adopted")
        work.desk.journal.record(
            "resumed", work.desk.now(), reason=arguments.reason, model=work.model.identity if work.model else ""
        )
        remove_halt(place.folder)
        place.note_run(0, "resumed")
    reporter.say(f"  Resumed: {arguments.reason}", "bold")
    for symbol, shares in found.sleeve.positions.items():
        reporter.say(f"  {symbol} {plain(shares)}")
    reporter.say(f"  Cash {found.sleeve.cash:,.2f}. The next run goes on from here.")
    return 0


def export(arguments: "TradeArguments") -> int:
    """The journal as JSON lines."""
    place = _place(arguments)
    journal = place.journal()
    lines = [json_text({"seq": e.seq, "at": e.at, "kind": e.kind, **e.body, "hash": e.hash}) for e in journal.events()]
    path = arguments.output or place.folder / "journal.jsonl"
    save_text("\n".join(lines) + "\n", path)
    Reporter().say(f"  {len(lines):,} events: {path}", whole=[path])
    return 0


def replay(arguments: "TradeArguments") -> int:
    """The cycle over past sessions."""
    from tactician.commands.trade_replay import run_replay

    return run_replay(arguments)


def report(arguments: "TradeArguments") -> int:
    """The account's page."""
    place, reporter = _place(arguments), Reporter()
    journal = place.journal()
    try:
        model = model_in_use(place.account.checkpoint, bars=place.account.bars)
        until = last_closed(model.config.calendar, clock.now()).date
        with reporter.phase(f"📥 Bringing the bars up to date ({model.config.bars})"):
            _, market = market_until(model.config, place.folder / "bars", until)
        followed = market.with_strength(model.strength)
        shadow = shadow_of(journal.runs(), followed, until, Frictions.of(model.config), model.config.portfolio_value)
    except UserError as error:  # a page without its shadow is better than none
        reporter.warn(f"the page has no shadow backtest: {error}")
        shadow = None
    document = account_document(
        journal, shadow, place.account, created=clock.now(), halted=halt_reason(place.folder, journal)
    )
    path = arguments.output or place.folder / PAGE
    write_account_page(document, path)
    reporter.say(f"  Page: {path}", whole=[path])
    return 0


ACTIONS: dict[str, Callable[["TradeArguments"], int]] = {
    "run": run,
    "status": status,
    "halt": halt,
    "resume": resume,
    "replay": replay,
    "report": report,
    "export": export,
}
"""By the word after `tactician trade`."""


def order_line(entry: Entry) -> str:
    """An order in words."""
    price = "" if entry.price is None else f" at {entry.price:,.2f}"
    why = f" ({entry.reason})" if entry.reason else ""
    return (
        f"{entry.side} {plain(entry.quantity)} {entry.symbol}: {entry.state}, {plain(entry.filled)} filled{price}{why}"
    )


def _place(arguments: "TradeArguments") -> Place:
    assert arguments.account is not None
    return Place.of(arguments.account)


@contextmanager
def _noted(place: Place) -> Iterator[None]:
    """Leave a failure where a watchdog finds it: a refusal that nobody sees is a halt that nobody knows."""
    try:
        yield
    except UserError as error:
        if place.folder.is_dir() and not isinstance(
            error, NotNow
        ):  # a session that was done at 12:45 stays done at 15:45
            place.note_run(error.exit_code, str(error))
        raise


def _sheet(work: Opened, outcome: Outcome) -> Sheet | None:
    if outcome.advice is None or outcome.plan is None:
        return None
    foreign = outcome.reconciled.foreign_positions
    return Sheet(outcome.day, work.desk.calendar, outcome.advice, outcome.plan, foreign, work.told)


def _said(outcome: Outcome) -> str:
    session = outcome.day.date
    if outcome.sent:
        filled = sum(entry.state == "filled" for entry in outcome.orders)
        return f"Session {session} is done: {filled} of {len(outcome.orders)} orders filled."
    if outcome.plan is None:
        return f"Session {session} has a plan that is under way; run again with --send to go on with it."
    return f"Dry run for {session}: {len(outcome.orders)} orders, nothing sent. --send sends them."


def _outcome(outcome: Outcome, sheet: Sheet | None, said: str) -> dict[str, object]:
    return {
        "session": str(outcome.day.date),
        "sent": outcome.sent,
        "said": said,
        "plan": None if sheet is None else sheet.as_dict(),
        "orders": [_row(entry) for entry in outcome.orders],
        "foreign_positions": {s: str(q) for s, q in outcome.reconciled.foreign_positions.items()},
        "foreign_orders": list(outcome.reconciled.foreign_orders),
        "decision": None if outcome.advice is None else decision_of(outcome.advice),
    }


def _row(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.id,
        "symbol": entry.symbol,
        "side": entry.side,
        "planned": str(entry.planned),
        "quantity": str(entry.quantity),
        "filled": str(entry.filled),
        "state": entry.state,
        "price": entry.price,
        "reason": entry.reason,
    }


def _tell_foreign(outcome: Outcome, reporter: Reporter) -> None:
    found = outcome.reconciled
    for symbol, shares in found.foreign_positions.items():
        reporter.say(f"  Left alone: {plain(shares)} {symbol}, which is not declared as ours.", "yellow")
    for id in found.foreign_orders:
        reporter.say(f"  Left alone: the order {id}, which is not ours.", "yellow")


def _status(place: Place) -> dict[str, object]:
    journal = place.journal()
    book, refused, runs = journal.last(*BOOK), journal.last("refused"), journal.runs()
    events = list(journal.events())
    return {
        "account": place.account.account,
        "broker": place.account.broker,
        "live": place.account.live,
        "halted": halt_reason(place.folder, journal),
        "last_run": _last_run(place.folder / LAST_RUN),
        "last_session": None if not runs else {"session": runs[-1].session, "status": runs[-1].status},
        "regime": None if not runs else runs[-1].plan["decision"]["name"],
        "found": None if not runs else runs[-1].plan["decision"].get("found"),
        "model": None if not runs else runs[-1].model,
        "positions": {} if book is None else book.body["positions"],
        "cash": None if book is None else book.body["cash"],
        "value": None if book is None else book.body["value"],
        "as_of": None if book is None else book.at,
        "open_orders": [_row(entry) for entry in journal.orders() if not entry.final],
        "last_refusal": None if refused is None else {"at": refused.at, "reason": refused.body["reason"]},
        "events": len(events),
        "hash": events[-1].hash if events else None,
    }


def _last_run(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _status_lines(found: dict) -> Iterable[str]:
    real = "real money" if found["live"] else "no real money"
    yield f"Account {found['account']} ({found['broker']}, {real})"
    if found["halted"]:
        yield f"HALTED: {found['halted']}. Type tactician trade resume --account FILE --reason … when it is safe."
    last = found["last_run"]
    if last:
        yield f"Last run: {last['at'][:19]} UTC, exit code {last['exit_code']}: {last['said']}"
        if clock.now() - datetime.fromisoformat(last["at"]) > _LATE:
            yield "That is more than four days ago: does cron still call it?"
    session = found["last_session"]
    yield (
        f"Last session: {session['session']}, {session['status']}, {found['regime']}" if session else "No session yet."
    )
    if found["found"]:
        yield found["found"]
    if found["value"] is not None:
        yield f"Value {found['value']:,.2f}, cash {found['cash']:,.2f}, as of {found['as_of'][:19]} UTC"
        yield from (f"  {symbol} {shares}" for symbol, shares in found["positions"].items())
    yield from (
        f"Open: {row['side']} {row['quantity']} {row['symbol']}, {row['state']}" for row in found["open_orders"]
    )
    if found["last_refusal"]:
        yield f"Last refusal: {found['last_refusal']['at'][:19]} UTC: {found['last_refusal']['reason']}"
    yield f"Journal: {found['events']:,} events, chain intact, {str(found['hash'])[:12]}"
