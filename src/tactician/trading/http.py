"""One request to a broker over HTTP: it always has a timeout, and it is repeated only if it changes nothing."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Secret(str):
    """A key that is sent but not shown: its `repr` is masked, and so are the locals of a traceback that hold it."""

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class Patience:
    """How long a request may take, and how often it is tried."""

    connect: float = 5.0
    """Seconds until a connection stands."""
    read: float = 15.0
    """Seconds until the next bytes of an answer come."""
    tries: int = 4
    """How often a GET is sent at most. Everything else is sent once."""
    pause: float = 0.5
    """Seconds before the second try; twice as long before each further one."""
    longest_pause: float = 60.0
    """Seconds waited at most where the broker says how long. Alpaca counts requests by the minute."""


class NoAnswer(Exception):
    """Nothing usable came back, so the request may have been carried out or not. The message says what happened."""

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
        """Whether another try may help."""


class Refusal(Exception):
    """The broker answered with an error."""

    def __init__(self, status: int, code: int | None = None, message: str = "", wait: float | None = None) -> None:
        super().__init__(f"it answered {status}" + (f": {message}" if message else ""))
        self.status = status
        self.code = code
        """The broker's own number of the error; None unless the body is JSON with one."""
        self.message = message
        """The broker's reason; empty unless the body is JSON with one. Keys are masked in it."""
        self.wait = wait
        """Seconds until the broker wants to be asked again; None if it does not say."""

    @property
    def passing(self) -> bool:
        """Whether another try may help."""
        return self.status == 429 or self.status >= 500


def ask(session: Any, method: str, url: str, options: Mapping[str, Any], patience: Patience) -> Any:
    """Send a request, and again only if it is a GET.

    Args:
        session: of requests.
        method: GET, POST, …
        url: whole.
        options: for requests, with the headers.
        patience: timeouts and tries.

    Returns:
        The JSON of the answer; None if its body is empty.

    Raises:
        Refusal: the status is not 2xx.
        NoAnswer: no answer came, or something else than JSON. No exception of the transport stays attached to it,
            since the frames of one hold the keys.
    """
    tries = patience.tries if method.upper() == "GET" else 1
    for attempt in range(tries):
        try:
            return _once(session, method, url, options, patience)
        except (Refusal, NoAnswer) as failure:
            if not failure.passing or attempt + 1 == tries:
                raise
            wait = failure.wait if isinstance(failure, Refusal) else None
        time.sleep(min(patience.pause * 2**attempt if wait is None else wait, patience.longest_pause))
    raise ValueError("a request needs at least one try")


def _once(session: Any, method: str, url: str, options: Mapping[str, Any], patience: Patience) -> Any:
    import requests  # comes with alpaca-py

    if method.upper() != "GET":
        session.close()  # a fresh connection: an order must not be lost on one that idled until it died
    failure = None
    try:
        response = session.request(method, url, timeout=(patience.connect, patience.read), **options)
    except requests.ConnectionError as error:
        failure = NoAnswer(f"the connection failed or broke ({type(error).__name__})", passing=True)
    except requests.Timeout:
        failure = NoAnswer(f"no answer within {patience.read:g} seconds", passing=True)
    except Exception as error:  # whatever the transport raises, the request may have arrived
        failure = NoAnswer(f"the request failed ({type(error).__name__})")
    if failure is not None:
        raise failure
    body = _json(response)
    if not 200 <= response.status_code < 300:
        raise _refusal(response, body, options.get("headers", {}))
    if body is None and response.content.strip():
        raise NoAnswer("its answer is not JSON")
    return body


def _json(response: Any) -> Any:
    """What the body says; None if it is empty or no JSON."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _refusal(response: Any, body: Any, headers: Mapping[str, Any]) -> Refusal:
    body = body if isinstance(body, dict) else {}
    code, message = body.get("code"), body.get("message")
    message = " ".join(message.split()) if isinstance(message, str) else ""
    for value in headers.values():
        if isinstance(value, Secret):
            message = message.replace(str(value), "***")
    wait = _wait(response.headers) if response.status_code == 429 else None
    return Refusal(response.status_code, code if isinstance(code, int) else None, message[:300], wait)


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds from Retry-After, or else until the time of X-RateLimit-Reset (seconds since 1970), which Alpaca sends."""
    for name, since in (("Retry-After", 0.0), ("X-RateLimit-Reset", time.time())):
        try:
            wait = float(headers[name]) - since
        except (KeyError, ValueError):
            continue
        if math.isfinite(wait):
            return max(wait, 0.0)
    return None
