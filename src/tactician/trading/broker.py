"""What trading asks of a broker: one small interface, and words that leave nothing to guess.

Three rules keep an account safe, whatever a broker does:

* A read that fails raises `Unreadable`. It never returns an empty account, an empty list or a made-up price.
* An order is sent once. An answer that does not say what became of it raises `Ambiguous`, and the order is looked up by its
  id, never sent again.
* A quantity is a `Decimal` and a filled quantity is the broker's total so far, not an increment.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol

from tactician.errors import Refused

Side = Literal["buy", "sell"]

State = Literal["open", "filled", "canceled", "expired", "rejected"]
"""What a broker says of an order. All states but 'open' are final: nothing more will be filled."""


class Unreadable(Refused):
    """The broker could not be read. It says nothing about what the account holds."""


class Rejected(Exception):
    """The broker said no, so the order does not exist. The message is the broker's reason."""


class Ambiguous(Exception):
    """The broker may have taken the order, or not: a timeout, a broken connection, an error of its server."""


@dataclass(frozen=True)
class Order:
    """An order for one session."""

    id: str
    """Our own, unique for ever at the broker: a second order with it is refused."""
    symbol: str
    side: Side
    quantity: Decimal
    """Shares, above zero."""
    limit: Decimal | None = None
    """Worst price; None for a market order."""


@dataclass(frozen=True)
class Placed:
    """An order as the broker knows it."""

    id: str
    symbol: str
    side: Side
    quantity: Decimal
    state: State
    filled: Decimal = Decimal(0)
    """Shares filled so far."""
    price: float | None = None
    """Mean price of what was filled; None if nothing was."""
    fees: float = 0.0
    """Charged so far beside the price, in currency."""
    reason: str = ""
    """Why it was rejected or cancelled, in the broker's words."""


@dataclass(frozen=True)
class Account:
    """The broker's account."""

    number: str
    cash: float
    """Settled and unsettled, in currency; negative on margin."""
    blocked: str | None = None
    """Why the broker takes no orders; None if it does."""


@dataclass(frozen=True)
class Quote:
    """Price of the last trade of an asset."""

    price: float
    at: datetime
    """Aware, UTC."""


@dataclass(frozen=True)
class Listing:
    """What the broker allows for an asset."""

    tradable: bool
    """Whether it can be traded today. A halted asset cannot."""
    fractional: bool
    """Whether parts of a share can be traded."""


class Broker(Protocol):
    """A broker. All methods may raise `Unreadable`, besides what they say themselves."""

    name: str
    real_money: bool
    """Whether orders cost money. A paper account and a simulation do not."""

    def now(self) -> datetime:
        """The broker's clock, aware, UTC."""

    def account(self) -> Account:
        """The account."""

    def positions(self) -> Mapping[str, Decimal]:
        """Shares by symbol, of all positions of the account; short ones are negative."""

    def open_orders(self) -> Collection[Placed]:
        """All orders of the account that are not final, also those of others."""

    def order(self, id: str) -> Placed | None:
        """An order by our id; None if the broker says that there is none."""

    def quotes(self, symbols: Collection[str]) -> Mapping[str, Quote]:
        """Last trades. A symbol without one is missing."""

    def listings(self, symbols: Collection[str]) -> Mapping[str, Listing]:
        """What is allowed for each symbol. A symbol that the broker does not know is missing."""

    def submit(self, order: Order) -> Placed:
        """Send an order, once.

        Raises:
            Rejected: it does not exist.
            Ambiguous: it may exist.
        """

    def cancel(self, id: str) -> None:
        """Ask to cancel an order by our id. An order that is final already stays as it is.

        Raises:
            Ambiguous: it is not known whether the request arrived.
        """
