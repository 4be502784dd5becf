"""A broker on this computer: it fills at the close and charges what the ledger charges, or fails as a script says.

Its account lives in a file of its own, as a real broker's lives elsewhere: a program that dies does not take it along.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.environment import MarketTensors
from tactician.portfolio.frictions import Frictions, cost_rates
from tactician.storage import json_text
from tactician.trading.broker import Account, Listing, Order, Placed, Quote, Rejected, Unreadable
from tactician.trading.plan import rounded

_TOLERANCE = 1e-12
"""Share of the value by which rounding may take cash below zero."""


@dataclass(frozen=True)
class Tape:
    """D sessions of A assets as a broker shows them. A price grows with the asset's total return."""

    days: tuple[int, ...]
    """Sessions, in days since 1970-01-01."""
    symbols: tuple[str, ...]
    prices: Float[Tensor, "day asset"]
    """Currency, float64, at the close."""
    cash_return: Float[Tensor, " day"]
    """From the close to the next one."""
    traded: Bool[Tensor, "day asset"]
    delisted: Bool[Tensor, "day asset"]
    vol_daily: Float[Tensor, "day asset"]
    adv: Float[Tensor, "day asset"]

    @classmethod
    def of(cls, market: MarketTensors, first: Float[Tensor, " asset"] | None = None) -> "Tape":
        """The tape of a market.

        Args:
            market: whose returns.
            first: prices in its first row; default: 100.
        """
        growth = torch.cat([torch.ones_like(market.returns[:1]).double(), 1 + market.returns[:-1].double()])
        base = torch.full_like(growth[0], 100.0) if first is None else first.double()
        return cls(
            days=tuple(market.dates.tolist()),
            symbols=market.symbols,
            prices=growth.cumprod(0) * base,
            cash_return=market.cash_return.double(),
            traded=market.fillable,
            delisted=market.delisted,
            vol_daily=market.vol_daily.double(),
            adv=market.dollar_volume.double(),
        )


@dataclass(frozen=True)
class Script:
    """What goes wrong, for tests and for looking at it."""

    filled: Mapping[str, float] = field(default_factory=dict)
    """Share of an order that is filled, by symbol; the rest stays open until it is cancelled or the session ends."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Reason, by symbol."""
    gap: Mapping[str, float] = field(default_factory=dict)
    """Relative difference between the price that was quoted and the one of the fill, by symbol."""


class SimulatedBroker:
    """See the module. `move_to` brings it to a session; interest is paid and old orders expire on the way."""

    name = "simulated"
    real_money = False

    def __init__(
        self,
        path: Path,
        number: str,
        tape: Tape,
        frictions: Frictions,
        cash: float,
        now: Callable[[], datetime],
        script: Script | None = None,
    ) -> None:
        """Open the account, or begin it with cash.

        Args:
            path: file of the account.
            number: of the account.
            tape: prices.
            frictions: costs of a trade.
            cash: at the beginning, in currency.
            now: the clock.
            script: what goes wrong.
        """
        self._tape, self._frictions, self._now, self._script = tape, frictions, now, script or Script()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, state TEXT)")
        self._db.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, day INTEGER, placed TEXT)")
        stored = self._db.execute("SELECT state FROM account").fetchone()
        self._state: dict[str, Any] = (
            json.loads(stored[0])
            if stored
            else {"number": number, "cash": cash, "positions": {}, "day": None, "value": cash}
        )
        if not stored:
            self._save()

    def move_to(self, day: int) -> None:
        """Go to a session, given in days since 1970-01-01. A session that is past already stays as it is."""
        state, tape = self._state, self._tape
        if state["day"] is not None and day <= state["day"]:
            return
        if state["day"] is not None:
            for row in range(tape.days.index(state["day"]), tape.days.index(day)):
                state["cash"] *= 1 + float(tape.cash_return[row])
                self._settle(row + 1)
        state["day"] = day
        # Impact is relative to the value before the session's first trade, as in the ledger.
        state["value"] = state["cash"] + sum(float(q) * self._price(s) for s, q in self._held().items())
        for placed in self.open_orders():
            self._put(replace(placed, state="expired"))
        self._save()

    def _settle(self, row: int) -> None:
        """What is delisted becomes cash."""
        for symbol in list(self._state["positions"]):
            column = self._tape.symbols.index(symbol)
            if self._tape.delisted[row, column]:
                quantity = Decimal(self._state["positions"].pop(symbol))
                self._state["cash"] += float(quantity) * float(self._tape.prices[row, column])

    @property
    def value(self) -> float:
        """Of the account at the session's close, before the session's first trade, in currency."""
        return float(self._state["value"])

    def now(self) -> datetime:
        """The clock."""
        return self._now()

    def account(self) -> Account:
        """The account."""
        return Account(self._state["number"], self._state["cash"])

    def positions(self) -> Mapping[str, Decimal]:
        """Shares by symbol."""
        return self._held()

    def open_orders(self) -> Collection[Placed]:
        """Orders that are not filled as a whole."""
        rows = self._db.execute("SELECT placed FROM orders WHERE json_extract(placed, '$.state') = 'open'")
        return [_placed(row[0]) for row in rows]

    def order(self, id: str) -> Placed | None:
        """An order by its id."""
        row = self._db.execute("SELECT placed FROM orders WHERE id = ?", (id,)).fetchone()
        return _placed(row[0]) if row else None

    def quotes(self, symbols: Collection[str]) -> Mapping[str, Quote]:
        """Closes of the session."""
        return {s: Quote(self._price(s), self._now()) for s in symbols if s in self._tape.symbols}

    def listings(self, symbols: Collection[str]) -> Mapping[str, Listing]:
        """An asset without a bar in the session cannot be traded."""
        row, tape = self._row, self._tape
        free = {s: bool(tape.traded[row, k] & ~tape.delisted[row, k]) for k, s in enumerate(tape.symbols)}
        return {s: Listing(free[s], True) for s in symbols if s in free}

    def submit(self, order: Order) -> Placed:
        """Fill an order at the close. An id that was there before is not taken again."""
        known = self.order(order.id)
        if known is not None:
            return known
        self._refuse(order)
        share = self._script.filled.get(order.symbol, 1.0)
        filled = order.quantity if share >= 1 else rounded(order.quantity * Decimal(share), True)
        quoted = self._price(order.symbol)
        price = quoted * (1 + self._script.gap.get(order.symbol, 0.0))
        traded = float(filled) * price
        costs = self._costs(order.symbol, traded)
        sign = 1 if order.side == "buy" else -1
        if order.side == "buy" and traded + costs > self._state["cash"] + _TOLERANCE * self._state["value"]:
            raise Rejected(f"insufficient buying power: {traded + costs:.2f} needed, {self._state['cash']:.2f} there")
        commission = self._frictions.commission * traded
        self._state["cash"] -= sign * traded + costs
        held = self._held()
        held[order.symbol] = held.get(order.symbol, Decimal(0)) + sign * filled
        self._state["positions"] = {s: str(q) for s, q in held.items() if q}
        placed = Placed(
            id=order.id,
            symbol=order.symbol,
            side=order.side,
            quantity=order.quantity,
            state="filled" if filled == order.quantity else "open",
            filled=filled,
            # Spread, slippage and impact are in the price, as they are at a real broker.
            price=(traded + sign * (costs - commission)) / float(filled) if filled else None,
            fees=commission,
        )
        self._put(placed, with_account=True)
        return placed

    def _refuse(self, order: Order) -> None:
        if order.symbol in self._script.rejected:
            raise Rejected(self._script.rejected[order.symbol])
        if order.symbol not in self._tape.symbols or not self.listings([order.symbol])[order.symbol].tradable:
            raise Rejected(f"{order.symbol} cannot be traded")
        if order.side == "sell" and order.quantity > self._held().get(order.symbol, Decimal(0)):
            raise Rejected(f"insufficient quantity of {order.symbol}")

    def cancel(self, id: str) -> None:
        """Cancel what is not filled."""
        placed = self.order(id)
        if placed is not None and placed.state == "open":
            self._put(replace(placed, state="canceled"))

    @property
    def _row(self) -> int:
        if self._state["day"] is None:
            raise Unreadable("The simulated broker has no session yet.")
        return self._tape.days.index(self._state["day"])

    def _price(self, symbol: str) -> float:
        return float(self._tape.prices[self._row, self._tape.symbols.index(symbol)])

    def _held(self) -> dict[str, Decimal]:
        return {symbol: Decimal(quantity) for symbol, quantity in self._state["positions"].items()}

    def _costs(self, symbol: str, traded: float) -> float:
        """Spread, expected slippage, impact and commission of one asset's trade, by the ledger's formulas."""
        row, value = self._row, torch.tensor(self._state["value"], dtype=torch.float64)
        rates = cost_rates(value, self._frictions, vol_daily=self._tape.vol_daily[row], adv=self._tape.adv[row])
        amounts = torch.zeros(len(self._tape.symbols), dtype=torch.float64)
        amounts[self._tape.symbols.index(symbol)] = traded
        return float(rates.total(amounts))

    def _put(self, placed: Placed, with_account: bool = False) -> None:
        text = json_text({**placed.__dict__, "quantity": str(placed.quantity), "filled": str(placed.filled)})
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("INSERT OR REPLACE INTO orders VALUES (?,?,?)", (placed.id, self._state["day"], text))
        if with_account:
            self._db.execute("INSERT OR REPLACE INTO account VALUES (1, ?)", (json_text(self._state),))
        self._db.execute("COMMIT")

    def _save(self) -> None:
        self._db.execute("INSERT OR REPLACE INTO account VALUES (1, ?)", (json_text(self._state),))


def _placed(text: str) -> Placed:
    values = json.loads(text)
    return Placed(**{**values, "quantity": Decimal(values["quantity"]), "filled": Decimal(values["filled"])})
