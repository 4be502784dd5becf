"""One session's cycle. Each phase can be entered again after a crash, and a second run of the same session does no harm.

RECONCILE → CHECK DATA → DECIDE → PLAN → RISK → (a dry run ends here) → SELL → WAIT → BUY → WAIT → RECONCILE

The plan is written down before the first order is sent. From then on the session has this plan, whatever prices do.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Protocol

from tactician.bars.hours import TradingDay, local_times, next_to_close, session_after
from tactician.errors import Halted, NotNow, Refused
from tactician.portfolio.frictions import Frictions
from tactician.trading.advice import Advice, Lived, Seat
from tactician.trading.broker import Listing, Side
from tactician.trading.desk import Desk
from tactician.trading.journal import Entry, Run, Status
from tactician.trading.plan import Plan, affordable, make_plan
from tactician.trading.reconcile import Reconciled, past_of, reconcile
from tactician.trading.risk import breaches

_CLOSING = timedelta(seconds=30)
"""Nothing is sent in the last seconds before the close."""


class Known(Protocol):
    """The market and the policy as they are known for a session."""

    @property
    def regimes(self) -> tuple[str, ...]:
        """Names of the policy's regimes, in order."""

    def closes(self, session: date) -> Mapping[str, float]:
        """Last closes before a session, in currency, by symbol.

        Raises:
            Refused: the bars do not end with the session before, or a symbol lacks its bar.
        """

    def advise(self, session: date, seat: Seat, lived: list[Lived]) -> Advice:
        """See `Advisor.advise`."""


@dataclass(frozen=True)
class Outcome:
    """What a cycle did."""

    day: TradingDay
    reconciled: Reconciled
    advice: Advice | None
    """None if the session had been decided before."""
    plan: Plan | None
    orders: tuple[Entry, ...]
    sent: bool


@dataclass(frozen=True)
class Cycle:
    """See the module."""

    desk: Desk
    known: Known
    frictions: Frictions

    def run(self, send: bool) -> Outcome:
        """Go through the phases, from wherever an earlier run has ended.

        Args:
            send: send orders. Otherwise the cycle ends with the plan, and the journal keeps no plan.

        Raises:
            UserError: the account is not the declared one.
            Refused: it would not be safe to go on.
            Halted: trading is halted, or is halted now.
        """
        desk = self.desk
        desk.stop_if_halted()
        day = next_to_close(desk.calendar, desk.now())
        session = str(day.date)
        found = reconcile(desk, session, dry=not send)
        run, advice, plan = desk.journal.run(session), None, None
        if run is None:
            advice, plan = self._decide(day, found)
            if not send:
                return Outcome(day, found, advice, plan, plan.orders, sent=False)
            self._check_open(day, found)
            run = self._write_down(advice, plan)
        elif not send or run.status == "done":
            return Outcome(day, found, None, None, tuple(desk.journal.orders(session)), sent=run.status == "done")
        else:
            self._check_open(day, found)
        self._trade(run, day)
        after = reconcile(desk, session, "reconciled")
        desk.journal.record("done", desk.now(), run=replace(run, status="done"))
        return Outcome(day, after, advice, plan, tuple(desk.journal.orders(session)), sent=True)

    def _decide(self, day: TradingDay, found: Reconciled) -> tuple[Advice, Plan]:
        """CHECK DATA, DECIDE, PLAN and RISK.

        Raises:
            Refused: one of them says no.
        """
        desk = self.desk
        if found.sleeve.cash < 0:
            raise Refused(
                f"The account owes {-found.sleeve.cash:,.2f}, and this program never borrows; pay it back first."
            )
        closes = self.known.closes(day.date)
        self._check_prices(closes, found)
        lived = lived_with(desk.journal.runs(), desk.symbols, self.known.regimes)
        advice = self.known.advise(day.date, self._seat(closes, found, lived, day.date), lived)
        self._check_model(advice)
        plan = make_plan(advice, found.sleeve, found.prices, self._listings(), self.frictions, desk.account)
        passed = breaches(plan, advice, desk.account, past_of(desk))
        if passed:
            raise Refused(f"The whole plan for {plan.session} is refused: {'; '.join(passed)}.")
        return advice, plan

    def _check_prices(self, closes: Mapping[str, float], found: Reconciled) -> None:
        band = self.desk.account.price_band
        for symbol, quote in found.quotes.items():
            move = quote.price / closes[symbol] - 1
            if not abs(move) <= band:
                raise Refused(
                    f"The broker's price of {symbol} is {quote.price:g}, and the last close {closes[symbol]:g} ({move:+.0%}): "
                    "a split, or a wrong bar. Get the bars anew; raise price_band only if the move is real."
                )

    def _check_model(self, advice: Advice) -> None:
        runs = self.desk.journal.runs()
        adopted = self.desk.journal.last("resumed")
        model = runs[-1].model if runs else advice.model
        if advice.model != model and (adopted is None or adopted.body.get("model") != advice.model):
            raise Refused(
                f"The model is another one ({advice.model[:12]}) than this account's ({model[:12]}); if that is meant, type "
                "`tactician trade resume --account FILE --reason …`."
            )

    def _check_open(self, day: TradingDay, found: Reconciled) -> None:
        """Refuse to send outside the minutes before the close, and at prices of another session.

        Raises:
            NotNow: says when the window opens.
            Refused: a price is of another session.
        """
        desk, now = self.desk, self.desk.now()
        opens = max(day.opens, day.closes - timedelta(minutes=desk.account.window_minutes))
        if not opens <= now <= day.closes - _CLOSING:
            raise NotNow(
                f"Orders for {day.date} are sent from {local_times(desk.calendar, opens)} to the close at "
                f"{local_times(desk.calendar, day.closes)}; it is {local_times(desk.calendar, now)}."
            )
        old = next((s for s, quote in found.quotes.items() if quote.at < day.opens), None)
        if old is not None:
            raise Refused(
                f"The broker's last trade of {old} was at {local_times(desk.calendar, found.quotes[old].at)}, before this "
                "session; it may be halted."
            )

    def _seat(self, closes: Mapping[str, float], found: Reconciled, lived: list[Lived], session: date) -> Seat:
        desk, runs = self.desk, self.desk.journal.runs()
        shares = found.sleeve.positions
        held = tuple(float(shares.get(symbol, 0)) * closes[symbol] for symbol in desk.symbols)
        if not lived:
            return Seat((*held, found.cash_before))
        last = runs[-1].plan["decision"]
        missed = self._missed(lived[-1].session, session)
        return Seat((*held, found.cash_before), last["next_regime"], last["next_since"] + missed)

    def _missed(self, last: date, session: date) -> int:
        """Sessions between two that the account has not lived."""
        missed, day = 0, session_after(self.desk.calendar, last)
        while day < session:
            missed, day = missed + 1, session_after(self.desk.calendar, day)
        return missed

    def _listings(self) -> Mapping[str, Listing]:
        return self.desk.broker.listings(self.desk.symbols)

    def _write_down(self, advice: Advice, plan: Plan) -> Run:
        content = {**plan.as_dict(), "decision": decision_of(advice)}
        run = Run(plan.session, "planned", content, advice.model, advice.data)
        self.desk.journal.record("planned", self.desk.now(), run=run, orders=plan.orders)
        return run

    def _trade(self, run: Run, day: TradingDay) -> None:
        """SELL, WAIT, BUY, WAIT."""
        if run.status == "planned":
            run = self._status(run, "selling")
        if run.status == "selling":
            self._send_all(self._orders(run, "sell"), day)
            run = self._status(run, "buying", self._sized(run))  # once, so that nothing is cut twice
        self._send_all(self._orders(run, "buy"), day)

    def _send_all(self, entries: list[Entry], day: TradingDay) -> None:
        """Send what was not sent yet, and wait for the end of all.

        Raises:
            Refused: an order must not be sent any more, or one has no end.
            Halted: those that are under way are cancelled.
        """
        known = {entry.id: entry for entry in entries}
        try:
            for entry in entries:
                known[entry.id] = self._send(entry, day)
        except Refused:
            self.desk.finish(list(known.values()))  # those that are under way get their end all the same
            raise
        except Halted:
            with suppress(Refused):  # the halt is what has to be told
                self.desk.finish(list(known.values()), at_once=True)
            raise
        self.desk.finish(list(known.values()))

    def _status(self, run: Run, status: Status, orders: Sequence[Entry] = ()) -> Run:
        run = replace(run, status=status)
        self.desk.journal.record(status, self.desk.now(), run=run, orders=orders)
        return run

    def _orders(self, run: Run, side: Side) -> list[Entry]:
        return [entry for entry in self.desk.journal.orders(run.session) if entry.side == side]

    def _send(self, entry: Entry, day: TradingDay) -> Entry:
        """Send what was not sent yet, unless its price has run away or the close is near."""
        desk = self.desk
        if entry.state != "planned":
            return entry
        if desk.now() > day.closes - _CLOSING:
            raise Refused(f"The close of {day.date} is too near to send {entry.id}; the rest of the plan lapses.")
        desk.stop_if_halted()
        quote = desk.broker.quotes([entry.symbol]).get(entry.symbol)
        if quote is None:
            raise Refused(f"The broker has no price of {entry.symbol} any more; the rest of the plan is not sent.")
        price = quote.price
        if not abs(price / entry.reference - 1) <= desk.account.price_collar:
            raise Refused(
                f"The price of {entry.symbol} is {price:g}, and the plan was made at {entry.reference:g}: more than "
                "price_collar away. The rest of the plan is not sent."
            )
        return desk.send(entry)

    def _sized(self, run: Run) -> list[Entry]:
        """The buys that must be cut to the cash which is there now, after the sells that were really filled."""
        desk, buys = self.desk, [entry for entry in self._orders(run, "buy") if entry.state == "planned"]
        if not buys:
            return []
        found, listings = reconcile(desk, run.session), self._listings()
        sized = affordable(
            buys,
            found.sleeve.cash - desk.account.cash_floor * (run.plan["value"] - sum(run.plan["costs"].values())),
            {e.symbol: float(e.limit) if e.limit else found.prices[e.symbol] for e in buys},
            run.plan["order_costs"],
            {e.symbol: e.limit is None and e.symbol in listings and listings[e.symbol].fractional for e in buys},
        )
        return [new for new, old in zip(sized, buys, strict=True) if new != old]


def lived_with(runs: Sequence[Run], symbols: Sequence[str], regimes: Sequence[str]) -> list[Lived]:
    """The sessions that the account has lived since its universe or its regimes were last changed.

    What was before, no policy of now knows: its holdings and actions mean something else.
    """
    same = {"symbols": list(symbols), "regimes": list(regimes)}
    lived: list[Lived] = []
    for run in reversed(runs):
        if any(run.plan["decision"].get(key) != names for key, names in same.items()):
            break
        lived.append(_lived(run))
    return lived[::-1]


def _lived(run: Run) -> Lived:
    """The session as the policy lived it."""
    decision = run.plan["decision"]
    seat = Seat(tuple(decision["holdings"]), decision["regime"], decision["since_trade"])
    return Lived(date.fromisoformat(run.session), seat, decision["action"])


def decision_of(advice: Advice) -> dict[str, object]:
    """What the journal keeps of a decision: enough to rebuild the memory, and to say why."""
    return {
        "symbols": list(advice.symbols),
        "regimes": list(advice.probabilities),
        "action": advice.action,
        "name": advice.regime,
        "probabilities": advice.probabilities,
        "holdings": list(advice.seat.holdings),
        "regime": advice.seat.regime,
        "since_trade": advice.seat.since_trade,
        "next_regime": advice.next_regime,
        "next_since": advice.next_since,
        "known_until": str(advice.known_until),
        "why": [[reason.name, reason.value, reason.effect] for reason in advice.why],
        "strange": list(advice.strange),
        # Only of an ensemble, so that the journal of a single agent is as it was.
        **({} if advice.found is None else {"found": advice.found.told}),
    }
