"""Alpaca's HTTP API on this machine, with faults by script: real HTTP, so that alpaca-py and its transport are tested too.

In a test's own process::

    with FakeAlpaca() as fake:
        fake.set_price("SPY", 500)                  # lists the asset, too
        fake.hold("SPY", 10)
        fake.script("SPY", share=0.5)               # orders for SPY fill by half and stay open; see `Fill`
        fake.fail("POST /v2/orders", how="accept_then_504")
        broker = alpaca_broker(live=False, url=fake.url, data_url=fake.url)   # keys: `fake.keys`, as environment variables
        ...
        assert fake.count("POST /v2/orders") == 1 and fake.accepted == 1 and fake.bought["SPY"] == 5

As a process of its own, which outlives the program under test::

    python -m tests.trading.fake_alpaca --port 0 --script calls.json   # prints its URL on the first line

where calls.json is a list of calls of the same methods: [["set_price", {"symbol": "SPY", "price": 500}], …].
`RemoteFake(url)` calls them from another process: ``RemoteFake(url).fail(...)``, and ``.state()`` returns the counters.

Methods (most stand in `FakeAccount`): set_price, hold, set_asset, halt, resume, split, script, foreign_order, advance,
end_of_day, set_account, set_clock; fail, count, state. Attributes: positions, prices, orders (by client id), cash, clock,
number, status, blocked; accepted (orders), bought and sold (shares by symbol, for ever), requests (all, in order), connections.

`fail` takes a request as in `count`: method and path without ids, such as "GET /v2/positions", "DELETE /v2/orders",
"GET /v2/orders:by_client_order_id", "GET /v2/stocks/trades/latest"; or "*" for all. What may happen (`how`):

* hang, reset, html, empty, garbage: no answer, a broken connection, a page, nothing, half a JSON, all with status 200;
* a status, as 429, 500 or "504": that error, in Alpaca's form for 4xx and as a page for 5xx;
* answer: `status` with `body` (JSON) or `raw` (text) as given; a lie, such as `[]` for positions that exist;
* edit: the JSON as the function `edit` leaves it; only in the same process;
* echo: 500 with the request's headers in it;
* accept_then_…: the request is carried out before any of these.
"""

import argparse
import json
import socket
import struct
import threading
import time
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.trading import fake_answers as say
from tests.trading.fake_account import FakeAccount, No

CALLS = (
    *("set_price", "hold", "set_asset", "halt", "resume", "split", "script", "foreign_order", "advance", "end_of_day"),
    *("set_account", "set_clock", "fail", "count", "state"),
)
PAGE = "<html><body><h1>Service under maintenance</h1></body></html>"


@dataclass
class Fault:
    request: str
    how: str
    times: int | None
    skip: int
    details: dict = field(default_factory=dict)

    def applies(self, request):
        """Whether this request meets it; counts down."""
        if self.request not in ("*", request) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class Asked:
    """A request that came in."""

    name: str
    """Method and path without ids."""
    path: str
    query: dict
    body: dict | None
    at: float


class FakeAlpaca(FakeAccount):
    def __init__(self, port=0):
        super().__init__()
        self.keys = {"APCA_API_KEY_ID": "PKFAKE", "APCA_API_SECRET_KEY": "fakesecret"}
        self.faults = []
        self.requests = []
        self.connections = 0
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.server = _Server(("127.0.0.1", port), _Handler)
        self.server.fake = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.005,), daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def fail(self, request, how, times=1, skip=0, **details):
        """Script a fault: of the next `times` such requests (None for ever), after `skip` that go well.

        Details: message; retry_after and reset_after (seconds, for 429); status, body and raw for answer; edit for edit.
        """
        self.faults.append(Fault(request, str(how), times, skip, details))

    def count(self, request):
        """How many such requests came in."""
        return sum(asked.name == request for asked in self.requests)

    def set_account(self, number=None, status=None, cash=None, **blocked):
        """Change the account's number, status, cash, trading_blocked, account_blocked or trade_suspended_by_user."""
        self.number, self.status = number or self.number, status or self.status
        self.cash = self.cash if cash is None else Decimal(str(cash))
        self.blocked |= blocked

    def set_clock(self, at):
        """Set the broker's clock: an aware datetime, or its text."""
        self.clock = (datetime.fromisoformat(at) if isinstance(at, str) else at).astimezone(UTC)

    def state(self):
        """All counters and holdings, as plain values."""
        orders = {id: {"status": order.status, "filled": order.filled} for id, order in self.orders.items()}
        return {
            "accepted": self.accepted,
            "bought": dict(self.bought),
            "sold": dict(self.sold),
            "positions": dict(self.positions),
            "cash": self.cash,
            "orders": orders,
            "requests": Counter(asked.name for asked in self.requests),
        }

    def call(self, name, given):
        """A call of the script or of another process."""
        if name not in CALLS:
            raise ValueError(f"{name} is none of {', '.join(CALLS)}")
        with self.lock:
            return getattr(self, name)(**given)

    def carry_out(self, asked):
        """Do what a request asks. Returns status and JSON."""
        name, last, query = asked.name, asked.path.rsplit("/", 1)[-1], asked.query
        reads = {
            "GET /v2/account": lambda: say.account(self),
            "GET /v2/positions": lambda: say.positions(self),
            "GET /v2/clock": lambda: say.clock(self),
            "GET /v2/calendar": lambda: say.calendar(self, *(date.fromisoformat(query[k]) for k in ("start", "end"))),
            "GET /v2/assets": lambda: [self._asset(symbol) for symbol in self.assets],
            "GET /v2/assets/*": lambda: self._asset(last),
            "GET /v2/orders": lambda: self._orders(query),
            "GET /v2/orders:by_client_order_id": lambda: self._order(query.get("client_order_id")),
            "GET /v2/stocks/trades/latest": lambda: say.trades(self, query["symbols"].split(",")),
        }
        if name in reads:
            return 200, reads[name]()
        if name == "POST /v2/orders":
            return 200, say.order(self._submit(asked.body), "pending_new")
        if name == "DELETE /v2/orders":
            self.cancel(last)
            return 204, None
        raise No(404, 40410000, "endpoint not found.")

    def _submit(self, body):
        limit = body.get("limit_price")
        if body.get("notional") is not None or body.get("type") != ("market" if limit is None else "limit"):
            raise No(422, 40010001, "type is invalid")
        quantity = Decimal(str(body["qty"]))
        if quantity % 1 and body.get("time_in_force") != "day":
            raise No(422, 42210000, "fractional orders must be DAY orders")
        limit = None if limit is None else Decimal(str(limit))
        return self.submit(
            body.get("client_order_id") or str(uuid.uuid4()), body["symbol"], body["side"], quantity, limit
        )

    def _asset(self, symbol):
        if symbol not in self.assets:
            raise No(404, 40410000, f"asset not found for {symbol}")
        return say.asset(symbol, self.assets[symbol], self.halted)

    def _order(self, client_id):
        if client_id not in self.orders:
            raise No(404, 40410000, f"order not found for {client_id}")
        return say.order(self.look(self.orders[client_id]))

    def _orders(self, query):
        status, limit = query.get("status", "open"), min(int(query.get("limit", 50)), 500)
        after, until = (datetime.fromisoformat(query[k]) if k in query else None for k in ("after", "until"))
        orders = [self.look(order) for order in self.orders.values()]
        orders = [
            order
            for order in orders
            if (status == "all" or order.open == (status == "open"))
            and (after is None or order.at > after)
            and (until is None or order.at <= until)
        ]
        orders.sort(key=lambda order: order.at, reverse=query.get("direction", "desc") == "desc")
        return [say.order(order) for order in orders[:limit]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeAlpaca

    def process_request(self, request, client_address):
        self.fake.connections += 1
        super().process_request(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._serve()

    do_POST = do_DELETE = do_PATCH = do_PUT = do_GET  # noqa: N815

    def _serve(self):
        fake, url = self.server.fake, urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        if url.path == "/control":
            self._control(body)
            return
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        asked = Asked(f"{self.command} {_kind(self.command, url.path)}", url.path, query, body, time.monotonic())
        with fake.lock:
            fake.requests.append(asked)
            fault = next((fault for fault in fake.faults if fault.applies(asked.name)), None)
            how = fault.how if fault else ""
            accept = how.startswith("accept_then_")
            answer = self._answer(asked) if fault is None or accept or "edit" in fault.details else None
        if fault is None:
            self._reply(*answer)
        else:
            self._misbehave(how.removeprefix("accept_then_"), fault.details, answer)

    def _answer(self, asked):
        given = (self.headers.get("APCA-API-KEY-ID"), self.headers.get("APCA-API-SECRET-KEY"))
        if given != tuple(self.server.fake.keys.values()):
            return 401, {"code": 40110000, "message": "request is not authorized"}
        try:
            return self.server.fake.carry_out(asked)
        except No as refusal:
            return refusal.status, refusal.body
        except (KeyError, ValueError, ArithmeticError):
            return 400, {"code": 40010000, "message": "request body format is invalid"}

    def _misbehave(self, how, details, answer):
        if "edit" in details:
            status, body = answer
            self._reply(status, details["edit"](body))
        elif how == "hang":
            self.server.fake.closing.wait(60)
            self.close_connection = True
        elif how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif how in ("html", "empty", "garbage"):
            self._reply(200, raw={"html": PAGE, "empty": "", "garbage": '{"id": "61e6'}[how])
        elif how == "answer":
            self._reply(details.get("status", 200), details.get("body"), details.get("raw"))
        elif how == "echo":
            self._reply(500, {"code": 50010000, "message": str(dict(self.headers))})
        else:
            self._error(int(how), details)

    def _error(self, status, details):
        headers = {}
        if "retry_after" in details:
            headers["Retry-After"] = str(details["retry_after"])
        if "reset_after" in details:
            headers["X-RateLimit-Reset"] = str(time.time() + details["reset_after"])
        if status >= 500:
            self._reply(status, raw=PAGE, headers=headers)
        else:
            message = details.get("message", "too many requests." if status == 429 else "no")
            self._reply(status, {"code": status * 100_000, "message": message}, headers=headers)

    def _reply(self, status, body=None, raw=None, headers=()):
        text = raw if raw is not None else "" if body is None else json.dumps(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if raw is None else "text/html")
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def _control(self, body):
        try:
            status, result = 200, self.server.fake.call(body["call"], body["with"])
        except Exception as error:
            status, result = 400, f"{type(error).__name__}: {error}"
        self._reply(status, raw=json.dumps({"result": result}, default=str))


def _kind(method, path):
    """A path without ids."""
    for prefix in ("/v2/assets/", "/v2/orders/"):
        if path.startswith(prefix):
            return prefix + "*" if method == "GET" else prefix.rstrip("/")
    return path


class RemoteFake:
    """A fake that runs as another process, called by the same methods; decimals come back as text."""

    def __init__(self, url):
        self.url = url

    def __getattr__(self, name):
        def call(**given):
            body = json.dumps({"call": name, "with": given}).encode()
            with urllib.request.urlopen(urllib.request.Request(f"{self.url}/control", body), timeout=10) as answer:
                return json.load(answer)["result"]

        return call


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=argparse.FileType("r"))
    flags = parser.parse_args()
    fake = FakeAlpaca(flags.port)
    for name, given in json.load(flags.script) if flags.script else ():
        fake.call(name, given)
    print(fake.url, flush=True)
    fake.thread.join()


if __name__ == "__main__":
    main()
