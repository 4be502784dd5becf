"""How requests reach Alpaca: always with a timeout, only reads twice, and keys are never shown."""

import inspect
import logging
import os
import re
import subprocess
import sys
import traceback
from importlib import metadata

import pytest

from tactician.errors import UserError
from tactician.trading import alpaca, http
from tactician.trading.alpaca import alpaca_broker
from tactician.trading.broker import Ambiguous, Rejected, Unreadable
from tactician.trading.http import Patience, Secret
from tests.trading.connected import DELETE, LOOKUP, POST, READS, connect, order, read
from tests.trading.fake_alpaca import FakeAlpaca, RemoteFake

pytest.importorskip("alpaca", reason="needs alpaca-py")

KEYS = {"APCA_API_KEY_ID": "PKSENTINEL7788", "APCA_API_SECRET_KEY": "s3ntinel/Secret+9911"}


@pytest.fixture
def waited(monkeypatch):
    """Seconds of all pauses, which are not waited."""
    pauses = []
    monkeypatch.setattr(http.time, "sleep", pauses.append)
    return pauses


def usual(fake):
    return alpaca_broker(live=False, url=fake.url, data_url=fake.url)


# ------------------------------------------------------------------------------------------------ our hook in alpaca-py


def test_every_request_passes_through_our_hook(fake, monkeypatch):
    """Red if a new alpaca-py does not call `_one_request` any more: then its own requests have no timeout."""
    import requests

    sent = []
    whole = requests.Session.request

    def request(self, method, url, **options):
        sent.append((method, options.get("timeout")))
        return whole(self, method, url, **options)

    monkeypatch.setattr(requests.Session, "request", request)
    broker = usual(fake)
    broker.submit(order(limit="400"))
    for what in READS:
        read(broker, what)
    broker.cancel("tac-1")
    assert {method for method, _ in sent} == {"GET", "POST", "DELETE"} and len(sent) == len(fake.requests) == 10
    assert {timeout for _, timeout in sent} == {(5, 15)}


def test_our_hook_is_one_of_alpaca_py():
    from alpaca.common.rest import RESTClient

    assert list(inspect.signature(RESTClient._one_request).parameters) == ["self", "method", "url", "opts", "retry"]
    assert metadata.version("alpaca-py").startswith(alpaca._VERSION)


def test_another_version_is_refused(fake, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "0.45.0")
    with pytest.raises(UserError, match=r"alpaca-py 0\.45\.0 .* pip install 'tactician\[alpaca\]'"):
        usual(fake)


def test_without_alpaca_py_the_extra_is_named(fake, monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(UserError, match=r"pip install 'tactician\[alpaca\]'") as told:
        usual(fake)
    assert told.value.exit_code == 2


def test_alpaca_py_is_imported_when_it_is_needed():
    code = "import sys, tactician.trading.alpaca; sys.exit('alpaca' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=60).returncode == 0


def test_real_money_is_what_was_asked_for(fake):
    assert alpaca_broker(live=True, url=fake.url).real_money and not alpaca_broker(live=False).real_money
    assert alpaca_broker(live=False)._trading._base_url.value == "https://paper-api.alpaca.markets"
    assert alpaca_broker(live=True)._trading._base_url.value == "https://api.alpaca.markets"


# ------------------------------------------------------------------------------------------------ tries and pauses


@pytest.mark.parametrize("how", ["429", "500", "504", "reset"])
def test_a_read_goes_on_after_a_passing_fault(fake, waited, how):
    fake.fail("GET /v2/positions", how, times=2)
    assert usual(fake).positions() == {"QQQ": 10}
    assert fake.count("GET /v2/positions") == 3 and waited == [0.5, 1.0]


def test_a_read_ends_after_four_tries(fake, waited):
    fake.fail("GET /v2/positions", "503", times=None)
    with pytest.raises(Unreadable, match="it answered 503; try again later"):
        usual(fake).positions()
    assert fake.count("GET /v2/positions") == 4 and waited == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("details", "pause"),
    [
        ({"retry_after": 7}, 7),
        ({"retry_after": 0}, 0),
        ({"retry_after": 86_400}, 60),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.5),
        ({"retry_after": "nan"}, 0.5),
        ({"retry_after": -5}, 0),
        ({"reset_after": 20}, pytest.approx(20, abs=5)),
        ({"reset_after": 900}, 60),
        ({}, 0.5),
    ],
)
def test_the_broker_says_how_long_to_wait_within_bounds(fake, waited, details, pause):
    fake.fail("GET /v2/account", 429, **details)
    usual(fake).account()
    assert waited == [pause]


def test_an_order_takes_a_fresh_connection(fake, broker):
    """A connection that idled may be dead, and then nobody knows what became of the order sent on it."""
    broker.account()
    broker.positions()
    assert fake.connections == 1
    broker.submit(order())
    assert fake.connections == 2


# ------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize("missing", KEYS)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_missing_keys_name_both_variables(fake, monkeypatch, missing, value):
    monkeypatch.delenv(missing) if value is None else monkeypatch.setenv(missing, value)
    with pytest.raises(UserError, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY") as told:
        usual(fake)
    assert told.value.exit_code == 2


MALFORMED = ("PK SENTINEL7788", "PKSENTINEL7788\nx", "PKSENTINEL7788…", "ΩSENTINEL7788")


@pytest.mark.parametrize("which", range(len(MALFORMED)))
def test_a_malformed_key_is_named_and_not_shown(fake, monkeypatch, which):
    monkeypatch.setenv("APCA_API_KEY_ID", MALFORMED[which])
    with pytest.raises(UserError, match="APCA_API_KEY_ID is no key") as told:
        usual(fake)
    assert not shown(told.value)


def test_spaces_around_a_key_do_no_harm(fake, monkeypatch):
    monkeypatch.setenv("APCA_API_KEY_ID", " PKFAKE\r\n")
    assert usual(fake).account().number == fake.number


def shown(error):
    """All that an exception can show of the keys: itself, its causes, and the locals of all their frames."""
    text, found = [], [error]
    while found:
        one = found.pop()
        found += [other for other in (one.__cause__, one.__context__) if other is not None]
        text += [repr(one), str(one), str(vars(one))]
        text += traceback.TracebackException.from_exception(one, capture_locals=True).format()
    return leaks("".join(text))


def leaks(text):
    return re.findall("|".join(re.escape(part) for part in ("SENTINEL7788", "s3ntinel", "Secret+9911")), text)


FAULTS = ("hang", "reset", "html", "empty", "garbage", "echo", "401", "403", "404", "422", "429", "500")


@pytest.mark.parametrize("how", FAULTS)
def test_keys_are_not_shown(monkeypatch, caplog, capfd, how):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    caplog.set_level(logging.DEBUG)
    with FakeAlpaca() as fake:
        for name in KEYS:
            monkeypatch.setenv(name, KEYS[name])
        fake.keys = KEYS
        fake.set_price("SPY", 500)
        broker = connect(fake, Patience(connect=5, read=0.4, tries=1))
        broker.submit(order(limit="400"))
        fake.fail(POST, how, times=None)
        fake.fail(DELETE, how, times=None)
        with pytest.raises((Ambiguous, Rejected, Unreadable)) as told:
            broker.submit(order("tac-2"))
        assert not shown(told.value)
        # A cancel that is answered with nothing has arrived, and so it has if Alpaca says that there is nothing to cancel.
        if how not in ("404", "422", "empty"):
            with pytest.raises((Ambiguous, Unreadable)) as told:
                broker.cancel("tac-1")
            assert not shown(told.value)
        for what in ("positions", "quotes", "order"):
            fake.fail(READS[what], how, times=None)
            with pytest.raises(Unreadable) as told:
                read(broker, what)
            assert not shown(told.value)
        inside = (broker, broker._trading, broker._data)
        assert not leaks(repr(inside) + "".join(str(vars(one)) for one in inside))
    assert caplog.records and not leaks(caplog.text)
    assert not leaks("".join(capfd.readouterr()))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "no-scheme", "http://"])
def test_keys_are_not_shown_where_nothing_listens(fake, monkeypatch, url):
    for name in KEYS:
        monkeypatch.setenv(name, KEYS[name])
    broker = alpaca_broker(live=False, url=url, data_url=url, patience=Patience(connect=0.5, tries=1))
    for call in (broker.positions, lambda: broker.quotes(["SPY"]), lambda: broker.order("tac-1")):
        with pytest.raises(Unreadable) as told:
            call()
        assert not shown(told.value)
    with pytest.raises(Ambiguous) as told:
        broker.submit(order())
    assert not shown(told.value)


def test_a_failure_that_is_kept_keeps_no_frames(fake, broker):
    fake.fail("GET /v2/account", "reset", times=None)
    failure = alpaca._attempt(broker._trading.get_account)
    assert (failure.__traceback__, failure.__context__, failure.__cause__) == (None, None, None)


def test_the_test_for_keys_sees_them():
    try:
        headers = {"APCA-API-KEY-ID": KEYS["APCA_API_KEY_ID"]}
        raise ValueError(len(headers))
    except ValueError as error:
        assert shown(error)
    assert repr({"key": Secret("SENTINEL7788")}) == "{'key': '***'}" and Secret("a") == "a"


# ------------------------------------------------------------------------------------------------ the fake itself


def test_the_fake_outlives_the_program_as_its_own_process(tmp_path, monkeypatch):
    script = tmp_path / "calls.json"
    script.write_text('[["set_price", {"symbol": "SPY", "price": 500}], ["set_account", {"number": "PA9"}]]')
    command = [sys.executable, "-m", "tests.trading.fake_alpaca", "--port", "0", "--script", str(script)]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("APCA_API_KEY_ID", "PKFAKE")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "fakesecret")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            remote = RemoteFake(url)
            remote.fail(request=POST, how="accept_then_reset")
            broker = alpaca_broker(live=False, url=url, data_url=url)
            assert broker.account().number == "PA9"
            with pytest.raises(Ambiguous):
                broker.submit(order())
            state = remote.state()
            assert (state["accepted"], state["bought"], state["requests"][POST]) == (1, {"SPY": "10"}, 1)
            assert remote.count(request=LOOKUP) == 0
        finally:
            process.kill()


def test_the_fake_answers_what_the_models_of_alpaca_py_demand(fake):
    """They are stricter than what is read of the answers, so the fake has all fields that the service has."""
    from alpaca.data.historical.stock import StockHistoricalDataClient
    from alpaca.data.requests import StockLatestTradeRequest
    from alpaca.trading.client import TradingClient
    from alpaca.trading.requests import GetCalendarRequest, GetOrdersRequest, LimitOrderRequest

    client = TradingClient(*fake.keys.values(), url_override=fake.url)
    client.submit_order(LimitOrderRequest(symbol="SPY", qty=2, side="buy", time_in_force="day", limit_price=400))
    assert client.get_account().cash == "100000" and client.get_all_positions()[0].qty == "10"
    (placed,) = client.get_orders(GetOrdersRequest(status="all"))
    assert client.get_order_by_client_id(placed.client_order_id).qty == "2"
    assert client.get_asset("SPY").tradable and len(client.get_all_assets()) == 2
    assert client.get_clock().is_open
    assert len(client.get_calendar(GetCalendarRequest(start="2025-06-02", end="2025-06-08"))) == 5
    data = StockHistoricalDataClient(*fake.keys.values(), url_override=fake.url)
    assert data.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols="SPY"))["SPY"].price == 500
