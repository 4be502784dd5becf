"""The JSON of `FakeAlpaca`: all fields that Alpaca's answers have, with numbers as text where Alpaca writes text."""

import uuid
from datetime import timedelta
from decimal import Decimal


def stamp(at):
    """A time as Alpaca writes it, down to nanoseconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def asset_id(symbol):
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, symbol))


def number(value):
    """A number as text, without an exponent and zeros at the end."""
    return f"{Decimal(value).normalize():f}"


def account(book):
    value = sum((shares * book.prices.get(symbol, 0) for symbol, shares in book.positions.items()), start=0)
    zeros = ("accrued_fees", "short_market_value", "initial_margin", "maintenance_margin", "last_maintenance_margin")
    power = number(book.buying_power)
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, book.number)),
        "account_number": book.number,
        "status": book.status,
        "crypto_status": "ACTIVE",
        "currency": "USD",
        "cash": number(book.cash),
        "buying_power": power,
        "regt_buying_power": power,
        "non_marginable_buying_power": power,
        "options_buying_power": power,
        "equity": number(book.cash + value),
        "last_equity": number(book.cash + value),
        "portfolio_value": number(book.cash + value),
        "long_market_value": number(value),
        "multiplier": "1",
        "sma": "0",
        "shorting_enabled": False,
        "transfers_blocked": False,
        "created_at": stamp(book.clock - timedelta(days=400)),
        **book.blocked,
        **dict.fromkeys(zeros, "0"),
    }


def positions(book):
    held = {symbol: shares for symbol, shares in book.positions.items() if shares}
    return [position(symbol, shares, book.prices.get(symbol, 0)) for symbol, shares in held.items()]


def position(symbol, shares, price):
    return {
        "asset_id": asset_id(symbol),
        "symbol": symbol,
        "exchange": "ARCA",
        "asset_class": "us_equity",
        "asset_marginable": True,
        "qty": number(shares),
        "qty_available": number(shares),
        "avg_entry_price": number(price),
        "side": "long" if shares > 0 else "short",
        "market_value": number(shares * price),
        "cost_basis": number(shares * price),
        "unrealized_pl": "0",
        "unrealized_plpc": "0",
        "unrealized_intraday_pl": "0",
        "unrealized_intraday_plpc": "0",
        "current_price": number(price),
        "lastday_price": number(price),
        "change_today": "0",
    }


def order(held, status=None):
    """An order as it stands; a status says how it stood when it was accepted."""
    at, fresh = stamp(held.at), status is not None
    filled = bool(held.filled) and not fresh
    nothing = ("expired_at", "failed_at", "replaced_at", "replaced_by", "replaces", "notional", "stop_price", "legs")
    return {
        "id": held.id,
        "client_order_id": held.client_id,
        "created_at": at,
        "updated_at": at,
        "submitted_at": at,
        "filled_at": at if held.status == "filled" and not fresh else None,
        "canceled_at": at if held.status == "canceled" and not fresh else None,
        "asset_id": asset_id(held.symbol),
        "symbol": held.symbol,
        "asset_class": "us_equity",
        "qty": number(held.quantity),
        "filled_qty": number(held.filled) if filled else "0",
        "filled_avg_price": number(held.paid / held.filled) if filled else None,
        "order_class": "",
        "order_type": "market" if held.limit is None else "limit",
        "type": "market" if held.limit is None else "limit",
        "side": held.side,
        "position_intent": "buy_to_open" if held.side == "buy" else "sell_to_close",
        "time_in_force": "day",
        "limit_price": None if held.limit is None else number(held.limit),
        "status": status or held.status,
        "extended_hours": False,
        **dict.fromkeys((*nothing, "trail_percent", "trail_price", "hwm", "source", "subtag")),
    }


def asset(symbol, entry, halted):
    return {
        "id": asset_id(symbol),
        "class": "us_equity",
        "exchange": "ARCA",
        "symbol": symbol,
        "name": f"{symbol} Fund",
        "status": entry["status"],
        "tradable": entry["tradable"] and symbol not in halted,
        "marginable": True,
        "shortable": True,
        "easy_to_borrow": True,
        "fractionable": entry["fractionable"],
        "maintenance_margin_requirement": 30,
        "attributes": [],
    }


def clock(book):
    first = book.clock.date()
    spans = [book.session(day) for day in book.sessions(first, first + timedelta(days=7))]
    opened = any(start <= book.clock < end for start, end in spans)
    return {
        "timestamp": stamp(book.clock),
        "is_open": opened,
        "next_open": stamp(min(start for start, _ in spans if start > book.clock)),
        "next_close": stamp(min(end for _, end in spans if end > book.clock)),
    }


def calendar(book, start, end):
    days = book.sessions(start, end)
    return [
        {"date": f"{day}", "open": "09:30", "close": "16:00", "session_open": "0400", "session_close": "2000"}
        for day in days
    ]


def trades(book, symbols):
    known = {
        symbol: {
            "t": stamp(book.trade_times.get(symbol) or book.clock),
            "x": "V",
            "p": float(book.prices[symbol]),
            "s": 100,
            "c": ["@"],
            "i": 1,
            "z": "B",
        }
        for symbol in symbols
        if symbol in book.prices
    }
    return {"trades": known}
