"""The emergency: cancel what is ours, and sell what is held. It goes the same way as every order: journal first."""

from dataclasses import replace
from decimal import Decimal

from tactician.bars.hours import TradingDay, local_times
from tactician.errors import Refused
from tactician.trading.desk import Desk
from tactician.trading.journal import Entry
from tactician.trading.plan import order_id
from tactician.trading.reconcile import check_account, reconcile


def cancel_ours(desk: Desk) -> list[Entry]:
    """Cancel our open orders, and wait for their end. Orders of others are left alone.

    Raises:
        UserError: the account is not the declared one.
        Unreadable: the broker gives no answer.
    """
    check_account(desk)
    waiting = [entry for entry in desk.journal.orders() if not entry.final]
    lapsed = [replace(entry, state="lapsed") for entry in waiting if entry.state == "planned"]
    if lapsed:
        desk.journal.record("lapsed", desk.now(), orders=lapsed)
    return desk.finish([entry for entry in waiting if entry.state != "planned"], at_once=True)


def flatten(desk: Desk, day: TradingDay) -> list[Entry]:
    """Sell all positions of the sleeve at the market. Trading stays halted.

    Raises:
        Refused: the exchange is closed, or the broker cannot be read.
        Halted: never for the halt itself, which a person has just made.
    """
    if not day.opens <= desk.now() < day.closes:
        raise Refused(
            f"The exchange is closed; it opens {local_times(desk.calendar, day.opens)}. Nothing is sold before that. Type the "
            "command again then."
        )
    found = reconcile(desk, str(day.date), "adopted")
    entries = [
        _sale(desk, day, symbol, shares, found.prices[symbol]) for symbol, shares in found.sleeve.positions.items()
    ]
    if not entries:
        return []
    desk.journal.record("flatten", desk.now(), orders=entries)
    done = desk.finish([desk.send(entry, despite_halt=True) for entry in entries], despite_halt=True)
    reconcile(desk, str(day.date), "reconciled")
    return done


def _sale(desk: Desk, day: TradingDay, symbol: str, shares: Decimal, price: float) -> Entry:
    session, stamp = str(day.date), day.date.strftime("%Y%m%d")
    before = [entry for entry in desk.journal.orders(session) if entry.symbol == symbol and entry.side == "sell"]
    # Number 1 is the plan's, which may still come today.
    id = order_id(desk.account.account, stamp, symbol, "sell", len(before) + 2)
    return Entry(id, session, symbol, "sell", shares, shares, price)
