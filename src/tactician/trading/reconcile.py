"""The broker's account is the truth. It is read and compared with the journal, and a difference stops everything."""

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import NoReturn

from tactician.errors import Halted, Refused, UserError
from tactician.trading.broker import Account, Quote
from tactician.trading.desk import Desk
from tactician.trading.journal import Entry
from tactician.trading.plan import Sleeve
from tactician.trading.risk import Past

_SKEW = timedelta(seconds=60)
"""Largest difference between this computer's clock and the broker's."""
_SHARES = Decimal("1e-6")
"""A smaller difference in shares is rounding."""
_PAUSES = (2.0, 10.0)
"""Seconds before a difference is looked at again."""
BOOK = ("adopted", "reconciled")
"""Events that say what is held: at the beginning or by a person's word, and after each session."""


@dataclass(frozen=True)
class Reconciled:
    """What is ours, and what is not."""

    sleeve: Sleeve
    quotes: dict[str, Quote]
    cash_before: float
    """Cash after the last session's trades, which the policy sees. Interest that came since is not in it."""
    foreign_positions: dict[str, Decimal]
    foreign_orders: tuple[str, ...]

    @property
    def prices(self) -> dict[str, float]:
        """By symbol, in currency."""
        return {symbol: quote.price for symbol, quote in self.quotes.items()}


def reconcile(desk: Desk, session: str, kind: str = "checked", *, dry: bool = False) -> Reconciled:
    """Read the account, settle our own orders of earlier runs, compare, and note what was found.

    Args:
        desk: the account.
        session: the present one. What was planned for earlier ones and never sent has lapsed.
        kind: 'checked' before a session's orders and 'reconciled' after them; 'adopted' takes whatever the broker holds.
        dry: an account that has no book yet does not get one.

    Raises:
        UserError: the account is not the declared one.
        Refused: the broker cannot be read, takes no orders, or its clock is off; or somebody else trades in the sleeve.
        Halted: the broker holds something else than the journal.
    """
    check_account(desk)
    book = desk.journal.last(*BOOK)
    first = book is None
    if book is not None and kind != "adopted":
        _check_declared(desk, book.body["declared"])
    for pause in (*_PAUSES, None):
        _settle_orders(desk, session, anew=kind == "adopted")
        found, account, difference = _look(desk, first, anew=kind == "adopted")
        if difference is None or kind == "adopted":
            break
        if pause is None:
            _halt(desk, difference)
        else:  # a fill between two reads looks like a difference
            desk.wait(pause)
    if first and not dry and kind != "adopted":
        desk.tell("The sleeve begins with what the account holds.")
        kind = "adopted"
    _note(desk, session, kind, found, account)
    return found


def _look(desk: Desk, first: bool, anew: bool) -> tuple[Reconciled, Account, str | None]:
    """What the broker holds, and how it differs from the journal. At the beginning there is nothing to compare.

    Args:
        desk: the account.
        first: whether it is the beginning.
        anew: a person takes the broker's word, so money that is not there is no longer in the book either.
    """
    everything = desk.broker.positions()
    ours = {s: everything[s] for s in desk.symbols if everything.get(s)}
    foreign_orders = _foreign_orders(desk)
    short = next((s for s, q in ours.items() if q < 0), None)
    if short is not None:
        raise Refused(f"The account is short of {short}, and this program only buys and sells what it holds; close it.")
    quotes, account = _quotes(desk), desk.broker.account()
    book_positions, book_cash = _book(desk) if not first else (ours, _first_cash(desk, account))
    if anew and not first:
        book_cash = min(_declared_anew(desk, account, book_cash), account.cash)
    # Money that is not there cannot be spent, whatever the journal says.
    sleeve = Sleeve(ours, min(book_cash, account.cash) if desk.cash_is_declared else account.cash)
    found = Reconciled(
        sleeve, quotes, book_cash, {s: q for s, q in everything.items() if s not in desk.symbols and q}, foreign_orders
    )
    value = sleeve.value(found.prices)
    return found, account, _difference(desk, book_positions, ours, book_cash, account.cash, value)


def check_account(desk: Desk) -> Account:
    """Refuse an account that is not the declared one, or takes no orders.

    Raises:
        UserError: another number, the journal of another account, or real money without the word for it.
        Refused: it is blocked, or the broker's clock is off.
    """
    book = desk.journal.last(*BOOK)
    if book is not None and book.body["account"] != desk.account.account:
        raise UserError(
            f"{desk.folder} is of account {book.body['account']}, and the account file says {desk.account.account}; give each "
            "account a 'folder' of its own."
        )
    account = desk.broker.account()
    if account.number != desk.account.account:
        raise UserError(
            f"The broker's account is {account.number}, and the account file says {desk.account.account}; use the keys "
            "of that account, or correct 'account'."
        )
    if desk.broker.real_money and not desk.account.live:
        raise UserError("This is an account of real money; write live: true into the account file if that is meant.")
    if account.blocked:
        raise Refused(f"The broker takes no orders for {account.number}: {account.blocked}.")
    skew = desk.broker.now() - desk.now()
    if abs(skew) > _SKEW:
        raise Refused(
            f"The broker's clock and this computer's differ by {abs(skew).total_seconds():.0f} seconds; set this one right."
        )
    return account


def past_of(desk: Desk) -> Past:
    """The values of the sleeve after earlier sessions."""
    book = desk.journal.last(*BOOK)
    return Past(None, None) if book is None else Past(book.body["value"], book.body["highest"])


def _settle_orders(desk: Desk, session: str, anew: bool) -> None:
    """Bring what earlier runs left behind to a known state.

    Args:
        desk: the account.
        session: the present one. What earlier ones have not sent lapses.
        anew: the rest of this session's plan lapses too. It was made for other holdings than a person now adopts.
    """
    for entry in desk.journal.orders():
        if entry.final:
            continue
        if entry.state != "planned":
            entry = desk.settle(entry, anew=anew)
        if anew or entry.session != session:
            if entry.state == "open":
                (entry,) = desk.finish([entry], at_once=anew)
            if entry.state == "planned":
                desk.journal.record("lapsed", desk.now(), orders=[replace(entry, state="lapsed")])
    for run in desk.journal.runs()[-2:]:
        if run.session < session and run.status != "done":
            desk.journal.record("closed", desk.now(), run=replace(run, status="done"))


def _foreign_orders(desk: Desk) -> tuple[str, ...]:
    others = [order for order in desk.broker.open_orders() if desk.journal.order(order.id) is None]
    disturbing = next((order for order in others if order.symbol in desk.symbols), None)
    if disturbing is not None:
        raise Refused(
            f"An order that this journal does not know is open in {disturbing.symbol}, which is declared as ours "
            f"({disturbing.id}); cancel it, or wait for its end."
        )
    return tuple(order.id for order in others)


def _quotes(desk: Desk) -> dict[str, Quote]:
    quotes = dict(desk.broker.quotes(desk.symbols))
    missing = [symbol for symbol in desk.symbols if symbol not in quotes]
    if missing:
        raise Refused(f"The broker has no price of {', '.join(missing[:5])}; nothing can be planned without it.")
    return quotes


def _first_cash(desk: Desk, account: Account) -> float:
    """The sleeve's money at its beginning.

    Raises:
        UserError: the account has less than is declared.
    """
    declared = desk.declared
    if declared is None:
        return account.cash
    if account.cash < declared:
        raise UserError(
            f"The account has {account.cash:,.2f} in cash, and the account file declares {declared:,.2f}; lower 'cash'."
        )
    return declared


def _check_declared(desk: Desk, before: float | None) -> None:
    """Refuse another amount in the account file than the sleeve began with, until a person resumes with it."""
    if desk.declared != before:
        was, now = ("all" if cash is None else f"{cash:,.2f}" for cash in (before, desk.declared))
        raise Refused(
            f"The account file declares {now} in cash, and the sleeve began with {was}; if that is meant, type "
            "`tactician trade resume --account FILE --reason …`."
        )


def _declared_anew(desk: Desk, account: Account, book_cash: float) -> float:
    """The sleeve's money after a resumption: with another amount in the account file, the difference comes or goes.

    Raises:
        UserError: the account has less than is declared for the first time.
    """
    book, now = desk.journal.last(*BOOK), desk.declared
    before = None if book is None else book.body["declared"]
    if now == before:
        return book_cash
    return _first_cash(desk, account) if now is None or before is None else max(book_cash + now - before, 0.0)


def _book(desk: Desk) -> tuple[dict[str, Decimal], float]:
    """Shares and cash by the journal: what was there at the last reconciliation, and what was filled since."""
    book = desk.journal.last(*BOOK)
    assert book is not None
    positions = {symbol: Decimal(shares) for symbol, shares in book.body["positions"].items()}
    cash = float(book.body["cash"])
    counted = {row["id"]: row for row in book.body["unfinished"]}
    for number, entry in enumerate(desk.journal.orders()):
        if number < book.body["after_orders"] and entry.id not in counted:
            continue
        before = counted.get(entry.id, {"signed": "0", "spent": 0.0})
        positions[entry.symbol] = positions.get(entry.symbol, Decimal(0)) + entry.signed - Decimal(before["signed"])
        cash -= entry.spent - before["spent"]
    return {symbol: shares for symbol, shares in positions.items() if shares}, cash


def _difference(
    desk: Desk, book: dict[str, Decimal], held: dict[str, Decimal], book_cash: float, cash: float, value: float
) -> str | None:
    """Where the broker and the journal disagree."""
    for symbol in sorted({*book, *held}):
        expected, found = book.get(symbol, Decimal(0)), held.get(symbol, Decimal(0))
        if abs(expected - found) > _SHARES:
            return f"the broker holds {found} {symbol}, and the journal {expected} (a split, or a trade by hand?)"
    allowed = desk.account.cash_tolerance * abs(value)
    gap = book_cash - cash
    if gap > allowed or (not desk.cash_is_declared and -gap > allowed):
        return f"the broker has {cash:,.2f} in cash, and the journal {book_cash:,.2f} (a deposit, or a withdrawal?)"
    return None


def _halt(desk: Desk, reason: str) -> NoReturn:
    desk.halt(reason)
    raise Halted(
        f"{reason[0].upper()}{reason[1:]}; trading is halted. If the broker is right, type "
        "`tactician trade resume --account FILE --reason …`."
    )


def _note(desk: Desk, session: str, kind: str, found: Reconciled, account: Account) -> None:
    value = found.sleeve.value(found.prices)
    open_entries: list[Entry] = [e for e in desk.journal.orders() if not e.final and e.state != "planned"]
    desk.journal.record(
        kind,
        desk.now(),
        session=session,
        account=account.number,
        declared=desk.declared,
        calendar=desk.calendar,
        positions={symbol: str(shares) for symbol, shares in sorted(found.sleeve.positions.items())},
        cash=found.cash_before if desk.cash_is_declared else account.cash,
        account_cash=account.cash,
        value=value,
        # A person who resumes accepts the loss so far.
        highest=value if kind == "adopted" else max(value, past_of(desk).highest or value),
        prices=found.prices,
        foreign_positions={symbol: str(shares) for symbol, shares in found.foreign_positions.items()},
        foreign_orders=list(found.foreign_orders),
        after_orders=desk.journal.n_orders,
        unfinished=[{"id": e.id, "signed": str(e.signed), "spent": e.spent} for e in open_entries],
    )
