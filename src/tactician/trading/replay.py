"""The cycle of live trading, day by day over past sessions, against the simulated broker.

It proves that what trades is what was tested: the wealth equals the backtest's. A replay that was interrupted goes on where
it stopped, as a program that trades must.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.bars.hours import trading_day
from tactician.errors import Refused, UserError
from tactician.evaluation import Path as BacktestPath
from tactician.evaluation import action_targets, backtest
from tactician.evaluation.decisions import decide
from tactician.trading.account import AccountFile
from tactician.trading.advice import Advisor
from tactician.trading.cycle import Cycle
from tactician.trading.desk import Desk
from tactician.trading.journal import FILE, Journal
from tactician.trading.known import KnownMarket, closes_on_tape
from tactician.trading.simulated import Script, SimulatedBroker, Tape

NUMBER = "REPLAY"
_BEFORE_CLOSE = timedelta(minutes=15)


@dataclass
class Clock:
    """A clock that is moved by hand."""

    at: datetime = field(default_factory=lambda: datetime(1970, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        """The time."""
        return self.at

    def wait(self, seconds: float) -> None:
        """Move on."""
        self.at += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Replayed:
    """A finished replay beside the backtest of the same decisions."""

    sessions: tuple[str, ...]
    """Those that were traded, and the one after them, if the market has it: its close values the last trades."""
    traded: int
    """How many were traded."""
    wealth: Float[Tensor, " session"]
    """Value of the account before each session's trades, as a multiple of the first one, float64."""
    backtest: Float[Tensor, " session"]
    """The same by the backtest."""
    path: BacktestPath
    orders: int
    """Sent."""
    refused: tuple[tuple[str, str], ...]
    """Sessions without a trade for safety, and why."""

    @property
    def difference(self) -> float:
        """Largest relative difference between the two."""
        return float((self.wealth / self.backtest - 1).abs().max())


def unlimited(checkpoint: Path, cash: float) -> AccountFile:
    """An account whose limits never bind and whose orders are as exact as shares allow, for comparison with the backtest."""
    return AccountFile(
        account=NUMBER,
        checkpoint=checkpoint,
        cash=cash,
        min_notional=0.0,
        band=0.0,
        cash_floor=0.0,
        max_order=1.0,
        max_order_adv=1e12,
        max_position=1.0,
        max_turnover=10.0,
        max_orders=10**6,
        price_collar=1.0,
        price_band=1.0,
        max_daily_loss=1.0,
        max_drawdown=1.0,
    )


def replay(
    advisor: Advisor,
    account: AccountFile,
    calendar: str,
    folder: Path,
    rows: range,
    cash: float,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda rows: rows,
    script: Script | None = None,
) -> Replayed:
    """Trade rows of a market one after the other.

    Args:
        advisor: what decides, on the whole market; it shows each decision only the rows before.
        account: limits and kinds of orders; its broker is the simulated one.
        calendar: of the exchange.
        folder: for journal and account. Sessions that are in it already are not traded again.
        rows: decision rows.
        cash: at the beginning, in currency.
        progress: wraps the rows, to show how far it is.
        script: what goes wrong at the broker.

    Raises:
        UserError: the folder holds a replay of another model or of other sessions.
        Halted: the broker and the journal disagree.
    """
    tape, clock = Tape.of(advisor.raw), Clock()
    broker = SimulatedBroker(folder / "broker.sqlite", NUMBER, tape, advisor.env.frictions, cash, clock.now, script)
    journal = Journal(folder / FILE, durable=False)
    symbols = tuple(advisor.raw.symbols)
    desk = Desk(account, folder, broker, journal, calendar, symbols, clock.now, clock.wait, lambda _: None)
    cycle = Cycle(desk, KnownMarket(advisor, closes_on_tape(tape)), advisor.env.frictions)
    _check_same(journal, advisor, rows, folder)
    for row in progress(rows):
        _session(cycle, broker, clock, advisor.raw.date_of(row), calendar, int(advisor.raw.dates[row]))
    if rows.stop < len(tape.days):
        broker.move_to(tape.days[rows.stop])
    values = _values(journal) + ([broker.value] if rows.stop < len(tape.days) else [])
    shadow = shadow_backtest(advisor, rows)
    growth = torch.cat([torch.zeros(1, dtype=torch.float64), shadow.growth[:, 0].cumsum(0)]).exp()
    wealth = torch.tensor(values, dtype=torch.float64) / values[0]
    n = len(wealth)
    orders = sum(entry.state not in ("planned", "lapsed") for entry in journal.orders())
    refused = tuple((e.body["session"], e.body["reason"]) for e in journal.events("refused"))
    journal.close()
    return Replayed(
        sessions=tuple(str(advisor.raw.date_of(row)) for row in [*rows, rows.stop][:n]),
        traded=len(rows),
        wealth=wealth,
        backtest=growth[:n],
        path=shadow,
        orders=orders,
        refused=refused,
    )


def shadow_backtest(advisor: Advisor, rows: range) -> BacktestPath:
    """What the same policy earns in the backtest, from cash, with the ledger's costs."""
    actions = decide(advisor.env, advisor.policies, rows).actions[:, 0]
    targets, hold = action_targets(advisor.env.market, rows, actions)
    return backtest(advisor.raw, rows, targets, hold, advisor.env.frictions, advisor.env.portfolio_value, ("agent",))


def _session(cycle: Cycle, broker: SimulatedBroker, clock: Clock, day: date, calendar: str, days: int) -> None:
    """One session, unless it was finished before."""
    journal, session = cycle.desk.journal, str(day)
    run = journal.run(session)
    if (run is not None and run.status == "done") or _was_refused(journal, session):
        return
    hours = trading_day(calendar, day)
    if hours is None:
        raise UserError(f"{session} is no session of calendar {calendar}; replay other dates, or with calendar bars.")
    clock.at = hours.closes - _BEFORE_CLOSE
    broker.move_to(days)
    try:
        cycle.run(send=True)
    except Refused as no:
        journal.record("refused", clock.now(), session=session, reason=str(no))


def _was_refused(journal: Journal, session: str) -> bool:
    last = journal.last("refused")
    return last is not None and last.body["session"] >= session


def _check_same(journal: Journal, advisor: Advisor, rows: range, folder: Path) -> None:
    same = {"model": advisor.model, "first": str(advisor.raw.date_of(rows.start)), "rows": len(rows)}
    begun = journal.last("replay")
    if begun is None:
        journal.record("replay", datetime(1970, 1, 1, tzinfo=UTC), of=same)
    elif begun.body["of"] != same:
        raise UserError(f"{folder} holds the replay of another model or range; choose another place with --folder.")


def _values(journal: Journal) -> list[float]:
    """The value before each session's trades: the first one noted, since a session may have been entered again."""
    values: dict[str, float] = {}
    for event in journal.events("adopted", "checked"):
        values.setdefault(event.body["session"], event.body["value"])
    return list(values.values())
