"""What Alpaca's raw answers say, field by field. Whatever is missing or no number raises `Malformed`, never passes as empty.

alpaca-py's models are not used: they refuse a whole answer for one word that they do not know yet, such as a new status.
"""

import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from tactician.trading.broker import Account, Listing, Placed, Quote, Side, State

_FINAL: Mapping[str, State] = {
    "filled": "filled",
    "canceled": "canceled",
    "expired": "expired",
    "rejected": "rejected",
    "replaced": "canceled",  # what is left of it is another order, with another id
}
"""Alpaca's final words. All others may be followed by a fill, also `done_for_day` (goes on tomorrow), `stopped` (a fill is
promised), `calculated` (being settled) and words that Alpaca has yet to invent: they mean 'open'."""


class Malformed(Exception):
    """An answer is not what the API promises. The message names the field."""


def account_of(raw: Any) -> Account:
    """The account, with all reasons why it takes no orders."""
    flags = {
        "trading_blocked": "trading is blocked",
        "account_blocked": "the account is blocked",
        "trade_suspended_by_user": "its owner has suspended trading",
    }
    reasons = [words for flag, words in flags.items() if _flag(raw, flag)]
    if text_of(raw, "status") != "ACTIVE":
        reasons.append(f"its status is {text_of(raw, 'status')}")
    return Account(text_of(raw, "account_number"), float(_number(raw, "cash")), "; ".join(reasons) or None)


def positions_of(raw: Any) -> dict[str, Decimal]:
    """Shares by symbol; short ones are negative, with or without a sign in the answer."""
    positions: dict[str, Decimal] = {}
    for position in list_of(raw):
        symbol, side, quantity = text_of(position, "symbol"), text_of(position, "side"), _number(position, "qty")
        if side not in ("long", "short") or (side == "long" and quantity < 0) or symbol in positions:
            raise Malformed(f"the position of {symbol} contradicts itself")
        positions[symbol] = -abs(quantity) if side == "short" else quantity
    return positions


def placed_of(raw: Any) -> Placed:
    """An order. One for an amount of money, which only others send, has the quantity that was filled."""
    status, filled = text_of(raw, "status"), _number(raw, "filled_qty")
    quantity = filled if raw.get("qty") is None and raw.get("notional") is not None else _number(raw, "qty")
    if not 0 <= filled <= quantity or (status == "filled" and filled != quantity):
        raise Malformed(f"{filled} of {quantity} shares are filled, and the status is {status}")
    price = float(_positive(raw, "filled_avg_price")) if filled else None
    return Placed(
        id=text_of(raw, "client_order_id"),
        symbol=text_of(raw, "symbol"),
        side=_side(raw),
        quantity=quantity,
        state=_FINAL.get(status, "open"),
        filled=filled,
        price=price,
        reason=status if status in _FINAL and status != "filled" else "",
    )


def legs_of(raw: Any) -> list[Placed]:
    """An order, or the legs of one that has no symbol of its own."""
    if isinstance(raw, dict) and not raw.get("symbol") and raw.get("legs"):
        return [placed_of(leg) for leg in list_of(raw["legs"])]
    return [placed_of(raw)]


def listing_of(raw: Any) -> Listing:
    """What is allowed for an asset."""
    return Listing(_flag(raw, "tradable") and text_of(raw, "status") == "active", _flag(raw, "fractionable"))


def quotes_of(raw: Any, symbols: Collection[str]) -> dict[str, Quote]:
    """Last trades, of the symbols that have one."""
    trades = object_of(object_of(raw).get("trades"))
    traded = [symbol for symbol in symbols if trades.get(symbol) is not None]
    return {symbol: Quote(float(_positive(trades[symbol], "p")), time_of(trades[symbol], "t")) for symbol in traded}


def object_of(raw: Any) -> dict[str, Any]:
    """The answer, which has to be an object."""
    if not isinstance(raw, dict):
        raise Malformed("it is no object")
    return raw


def list_of(raw: Any) -> list[Any]:
    """The answer, which has to be a list."""
    if not isinstance(raw, list):
        raise Malformed("it is no list")
    return raw


def text_of(raw: Any, field: str) -> str:
    """A field that has to be text."""
    value = object_of(raw).get(field)
    if not isinstance(value, str) or not value:
        raise Malformed(f"{field} is missing")
    return value


def time_of(raw: Any, field: str) -> datetime:
    """A field that has to be a time with its zone, in UTC, cut to microseconds."""
    try:
        time = datetime.fromisoformat(text_of(raw, field))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise Malformed(f"{field} is no time with a zone")
    return time.astimezone(UTC)


def _number(raw: Any, field: str) -> Decimal:
    value = object_of(raw).get(field)
    try:
        number = Decimal(str(value)) if isinstance(value, str | int | float) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or not math.isfinite(float(number)):
        raise Malformed(f"{field} is no number")
    return number


def _positive(raw: Any, field: str) -> Decimal:
    number = _number(raw, field)
    if not float(number) > 0:
        raise Malformed(f"{field} is not above zero")
    return number


def _flag(raw: Any, field: str) -> bool:
    value = object_of(raw).get(field)
    if not isinstance(value, bool):
        raise Malformed(f"{field} is neither true nor false")
    return value


def _side(raw: Any) -> Side:
    side = text_of(raw, "side")
    if side == "buy":
        return "buy"
    if side in ("sell", "sell_short"):
        return "sell"
    raise Malformed("side is neither buy nor sell")
