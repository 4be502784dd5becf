"""Alpaca, through alpaca-py: paper trading and real money.

alpaca-py's own HTTP layer has no timeout, and it sends an order again when the answer was 429 or 504. `http.ask` replaces it.
"""

import os
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from importlib import metadata
from typing import Any

from tactician.errors import UserError
from tactician.trading import alpaca_answers as answers
from tactician.trading.broker import Account, Ambiguous, Listing, Order, Placed, Quote, Rejected, Unreadable
from tactician.trading.http import NoAnswer, Patience, Refusal, Secret, ask

_KEYS = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
_VERSION = "0.44."
"""Of alpaca-py. It is known to pass every request through `_one_request`, and a test watches it."""
_FEED = "iex"
"""The prices that every account may read."""
_PAGE = 500
"""Orders in one answer at most."""
_ONE_BY_ONE = 50
"""Symbols up to which each asset is asked for. More come in one long list, since requests are counted by the minute."""
_NOT_FOUND = 40410000
"""Alpaca's number for: there is none. A page of a proxy does not have it."""
_DEFINITE = (400, 403, 404, 422)
"""An order that got one of these, with Alpaca's reason, does not exist."""
_DUPLICATE = re.compile(r"client.?order.?id must be unique", re.IGNORECASE)


def alpaca_broker(
    live: bool, url: str | None = None, data_url: str | None = None, patience: Patience | None = None
) -> "AlpacaBroker":
    """An account at Alpaca. Its keys come from the environment: APCA_API_KEY_ID and APCA_API_SECRET_KEY.

    Args:
        live: real money; otherwise the paper account.
        url: of the trading service, in place of Alpaca's.
        data_url: of the service for prices, in place of Alpaca's.
        patience: timeouts and tries.

    Raises:
        UserError: alpaca-py is missing or of another version, or a key is missing or malformed.
    """
    _check_version()
    key, secret = _keys()
    from alpaca.data.historical.stock import StockHistoricalDataClient
    from alpaca.trading.client import TradingClient

    calm = patience or Patience()

    class Trading(TradingClient):
        def _one_request(self, method: str, url: str, opts: dict, retry: int) -> Any:
            return ask(self._session, method, url, opts, calm)

    class Data(StockHistoricalDataClient):
        def _one_request(self, method: str, url: str, opts: dict, retry: int) -> Any:
            return ask(self._session, method, url, opts, calm)

    trading = Trading(key, secret, paper=not live, raw_data=True, url_override=url)
    return AlpacaBroker(trading, Data(key, secret, raw_data=True, url_override=data_url), live)


class AlpacaBroker:
    """See `Broker`. Made by `alpaca_broker`."""

    name = "alpaca"

    def __init__(self, trading: Any, data: Any, live: bool) -> None:
        self.real_money = live
        self._trading = trading
        self._data = data

    def now(self) -> datetime:
        """See `Broker.now`."""
        return _read("clock", lambda: answers.time_of(self._trading.get_clock(), "timestamp"))

    def account(self) -> Account:
        """See `Broker.account`."""
        return _read("account", lambda: answers.account_of(self._trading.get_account()))

    def positions(self) -> Mapping[str, Decimal]:
        """See `Broker.positions`."""
        return _read("positions", lambda: answers.positions_of(self._trading.get_all_positions()))

    def open_orders(self) -> Collection[Placed]:
        """See `Broker.open_orders`. An order of several legs is listed leg by leg."""
        return _read("open orders", self._all_open)

    def order(self, id: str) -> Placed | None:
        """See `Broker.order`."""
        raw = self._raw_order(id)
        return None if raw is None else _read(f"order {id}", lambda: answers.placed_of(raw))

    def quotes(self, symbols: Collection[str]) -> Mapping[str, Quote]:
        """See `Broker.quotes`. They are trades at the exchange IEX, so the last one may be minutes old."""
        if not symbols:
            return {}
        wanted = {"symbols": ",".join(sorted(symbols)), "feed": _FEED}
        return _read("prices", lambda: answers.quotes_of(self._data.get("/stocks/trades/latest", wanted), symbols))

    def listings(self, symbols: Collection[str]) -> Mapping[str, Listing]:
        """See `Broker.listings`."""
        if len(symbols) > _ONE_BY_ONE:
            listed = _read("assets", lambda: answers.list_of(self._trading.get_all_assets()))
            found = _read("assets", lambda: {answers.text_of(asset, "symbol"): asset for asset in listed})
        else:
            found = {symbol: _read_if_any(f"asset {symbol}", self._trading.get_asset, symbol) for symbol in symbols}
        known = {symbol: found[symbol] for symbol in symbols if found.get(symbol) is not None}
        return _read("assets", lambda: {symbol: answers.listing_of(asset) for symbol, asset in known.items()})

    def submit(self, order: Order) -> Placed:
        """See `Broker.submit`. It is the only place that sends orders: for the day, at the market unless there is a limit.

        An answer says no only with a reason in Alpaca's own form, which a page of a proxy does not have.
        """
        raw = _attempt(lambda: self._trading.post("/orders", _fields(order)))
        if isinstance(raw, Refusal) and raw.status == 401:
            raise _unreadable("answer to an order", raw)
        if isinstance(raw, Refusal) and raw.status in _DEFINITE and raw.message:
            if not _DUPLICATE.search(raw.message):
                raise Rejected(raw.message)
            return self._sent_before(order, raw.message)
        placed = raw if isinstance(raw, Refusal | NoAnswer) else _attempt(lambda: answers.placed_of(raw))
        if isinstance(placed, Refusal | NoAnswer):
            raise Ambiguous(f"Alpaca may have taken order {order.id}, or not: {placed}.")
        if not _same(order, placed):
            raise Ambiguous(f"Alpaca may have taken order {order.id}, or not: its answer is about another order.")
        return placed

    def cancel(self, id: str) -> None:
        """See `Broker.cancel`. An order that Alpaca does not know needs no cancelling."""
        raw = self._raw_order(id)
        if raw is None or _read(f"order {id}", lambda: answers.placed_of(raw)).state != "open":
            return
        key = _read(f"order {id}", lambda: answers.text_of(raw, "id"))
        answer = _attempt(lambda: self._trading.cancel_order_by_id(key))
        if isinstance(answer, Refusal) and answer.status in (404, 422) and answer.message:
            return  # it has become final, or is being cancelled
        if isinstance(answer, Refusal | NoAnswer):
            raise Ambiguous(f"Alpaca may have cancelled order {id}, or not: {answer}.")

    def _sent_before(self, order: Order, reason: str) -> Placed:
        """The order that has its id already. It is the same one, unless somebody uses our ids."""
        raw = _attempt(lambda: self._trading.get_order_by_client_id(order.id))
        known = raw if isinstance(raw, Refusal | NoAnswer) else _attempt(lambda: answers.placed_of(raw))
        if isinstance(known, Refusal | NoAnswer):
            raise Ambiguous(f"Alpaca says that it has order {order.id} already, but does not show it: {known}.")
        if not _same(order, known):
            raise Rejected(f"{reason}; order {order.id} is to {known.side} {known.quantity} of {known.symbol}")
        return known

    def _raw_order(self, id: str) -> Any:
        return _read_if_any(f"order {id}", self._trading.get_order_by_client_id, id)

    def _all_open(self) -> list[Placed]:
        """All pages, oldest first. The orders of a page's last instant come again with the next page."""
        from alpaca.trading.requests import GetOrdersRequest

        found: dict[str, Any] = {}
        wanted: dict[str, Any] = {"status": "open", "limit": _PAGE, "direction": "asc"}
        while True:
            page = answers.list_of(self._trading.get_orders(GetOrdersRequest.model_validate(wanted)))
            before = len(found)
            found.update({answers.text_of(raw, "id"): raw for raw in page})
            if len(page) < _PAGE:
                return [leg for raw in found.values() for leg in answers.legs_of(raw)]
            if len(found) == before:
                raise answers.Malformed(f"more than {_PAGE} orders are of one instant")
            wanted["after"] = answers.time_of(page[-1], "submitted_at") - timedelta(microseconds=1)


def _attempt(call: Callable[[], Any]) -> Any:
    """What a call gives, or why it gives nothing: as a value, since the frames of a traceback hold the request's headers."""
    try:
        return call()
    except (Refusal, NoAnswer) as failure:
        return failure.with_traceback(None)
    except answers.Malformed as error:
        return NoAnswer(f"its answer is malformed ({error})")
    except Exception as error:  # alpaca-py raises whatever an answer of another form makes it raise
        return NoAnswer(f"its answer is malformed ({type(error).__name__})")


def _read(what: str, call: Callable[[], Any]) -> Any:
    return _known(what, _attempt(call))


def _read_if_any(what: str, get: Callable[[str], Any], id: str) -> Any:
    """A raw answer; None if Alpaca itself says that there is no such thing."""
    answer = _attempt(lambda: answers.object_of(get(id)))
    if isinstance(answer, Refusal) and answer.status == 404 and answer.code == _NOT_FOUND:
        return None
    return _known(what, answer)


def _known(what: str, answer: Any) -> Any:
    if isinstance(answer, Refusal | NoAnswer):
        raise _unreadable(what, answer)
    return answer


def _unreadable(what: str, failure: Refusal | NoAnswer) -> Unreadable:
    remedy = "try again later, and see whether Alpaca reports an outage"
    if isinstance(failure, Refusal) and failure.status in (401, 403):
        remedy = f"check {_KEYS[0]} and {_KEYS[1]}: paper trading and real money have different keys"
    return Unreadable(f"Alpaca's {what} could not be read: {failure}; {remedy}.")


def _fields(order: Order) -> dict[str, str]:
    fields = {
        "client_order_id": order.id,
        "symbol": order.symbol,
        "side": order.side,
        "qty": f"{order.quantity.normalize():f}",
        "type": "market",
        "time_in_force": "day",
    }
    if order.limit is not None:
        fields |= {"type": "limit", "limit_price": f"{_tick(order.limit, order.side == 'buy'):f}"}
    return fields


def _tick(limit: Decimal, buy: bool) -> Decimal:
    """The limit as exchanges quote it: in cents from one dollar on, else in hundredths of a cent; never a worse one."""
    step = Decimal("0.01") if limit >= 1 else Decimal("0.0001")
    return limit.quantize(step, ROUND_FLOOR if buy else ROUND_CEILING)


def _same(order: Order, placed: Placed) -> bool:
    mine = (order.id, order.symbol, order.side, order.quantity)
    return mine == (placed.id, placed.symbol, placed.side, placed.quantity)


def _check_version() -> None:
    remedy = "run: pip install 'tactician[alpaca]'"
    try:
        version = metadata.version("alpaca-py")
    except metadata.PackageNotFoundError:
        raise UserError(f"Trading at Alpaca needs alpaca-py, which is not installed; {remedy}.") from None
    if not version.startswith(_VERSION):
        raise UserError(f"alpaca-py {version} is installed, but only {_VERSION}* is known to be safe; {remedy}.")


def _keys() -> list[Secret]:
    keys = [Secret(os.environ.get(name, "").strip()) for name in _KEYS]
    if not all(keys):
        raise UserError(f"Alpaca's keys are missing; set the environment variables {_KEYS[0]} and {_KEYS[1]}.")
    for name, key in zip(_KEYS, keys, strict=True):
        if not re.fullmatch(r"[!-~]+", key):
            raise UserError(f"{name} is no key of Alpaca; copy it anew, without spaces.")
    return keys
