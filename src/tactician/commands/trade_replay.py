"""``tactician trade replay``: the cycle of live trading over past sessions, beside the backtest of the same decisions."""

from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from tactician.commands import clock
from tactician.commands.trading_desk import PAGE
from tactician.config import load_config
from tactician.environment import MarketTensors, load_cached_market, split_rows
from tactician.errors import UserError
from tactician.monitor.phase import Phase
from tactician.monitor.progress import Reporter
from tactician.portfolio.frictions import Frictions
from tactician.storage import json_text
from tactician.trading.account import AccountFile, load_account
from tactician.trading.account_page import account_document, write_account_page
from tactician.trading.journal import FILE, Journal
from tactician.trading.replay import NUMBER, Replayed, replay, unlimited
from tactician.trading.shadow import shadow_of
from tactician.training.in_use import ModelInUse, model_in_use
from tactician.training.lock import only_writer

if TYPE_CHECKING:
    from tactician.commands.trade import TradeArguments

SAME = 1e-9
"""A smaller relative difference between replay and backtest is rounding."""


def run_replay(arguments: "TradeArguments") -> int:
    """Replay, and compare with the backtest."""
    account = None if arguments.account is None else load_account(arguments.account)
    checkpoint = arguments.checkpoint or (account.checkpoint if account else None)
    if checkpoint is None:
        raise UserError("--checkpoint is missing; name a model, such as checkpoints/embedded_sp500/model_best.pt.")
    reporter = Reporter(silent=arguments.as_json)
    reporter.say(f"  {checkpoint}", whole=[checkpoint])
    model = model_in_use(checkpoint, None if arguments.config_file is None else load_config(arguments.config_file))
    if model.names.is_other:
        reporter.warn(model.names.sentence)
    market = load_cached_market(model.config, f"tactician build-cache (with the settings of {checkpoint})", alone=True)
    rows = _rows(model, market, arguments.first, arguments.last)
    cash = model.config.portfolio_value
    used = _for_replay(account) if account else unlimited(checkpoint, cash)
    folder = arguments.folder or _folder(checkpoint, market, rows, model, account)
    advisor, title = model.advisor(market), f"🔁 Trading {len(rows):,} sessions"
    with only_writer(folder / ".lock", folder, "--folder"), reporter.phase(title, "session") as phase:
        done = replay(advisor, used, model.config.calendar, folder, rows, cash, lambda rows: _shown(rows, phase))
    _write_page(folder, used, market, model)
    result = _result(done, folder, exact=account is None)
    if arguments.as_json:
        print(json_text(result, indent=2))
    else:
        _render(result, reporter)
    return 0 if account is not None or done.difference < SAME else 1


def _write_page(folder: Path, account: AccountFile, market: MarketTensors, model: ModelInUse) -> None:
    journal = Journal(folder / FILE, writes=False)
    config = model.config
    runs = journal.runs()  # none, if all sessions were refused
    until = date.fromisoformat(runs[-1].session) if runs else date.min
    followed = market.with_strength(model.strength)
    shadow = shadow_of(runs, followed, until, Frictions.of(config), config.portfolio_value)
    write_account_page(account_document(journal, shadow, account, created=clock.now()), folder / PAGE)


def _rows(model: ModelInUse, market: MarketTensors, first: date | None, last: date | None) -> range:
    """The sessions asked for, as rows of the market; by default the test range."""
    test = split_rows(model.config, market)["test"]
    begin = test.start if first is None else int((market.dates < (first - date(1970, 1, 1)).days).sum())
    end = test.stop if last is None else int((market.dates <= (last - date(1970, 1, 1)).days).sum())
    if not 1 <= begin < end:
        raise UserError(
            f"--from {first or market.date_of(test.start)} --to {last or market.date_of(test.stop - 1)} holds no session of "
            f"the market cache, which runs from {market.date_of(1)} to {market.date_of(market.n_days - 1)}."
        )
    return range(begin, end)


def _for_replay(account: AccountFile) -> AccountFile:
    return account.model_copy(update={"account": NUMBER, "broker": "simulated", "live": False})


def _folder(
    checkpoint: Path, market: MarketTensors, rows: range, model: ModelInUse, account: AccountFile | None
) -> Path:
    """One folder per model, range and account, so that a replay is never mixed with another one."""
    kind = "" if account is None else f"_{account.account}"
    name = f"replay{kind}_{market.date_of(rows[0])}_{market.date_of(rows[-1])}_{model.identity[:8]}"
    return checkpoint.parent / name


def _shown(rows: Iterable[int], phase: Phase) -> Iterator[int]:
    every = list(rows)
    for number, row in enumerate(every):
        phase.advance(number, len(every))
        yield row


def _result(done: Replayed, folder: Path, *, exact: bool) -> dict[str, object]:
    return {
        "first": done.sessions[0],
        "last": done.sessions[done.traded - 1],
        "sessions": done.traded,
        "wealth": float(done.wealth[-1]),
        "backtest": float(done.backtest[-1]),
        "largest_difference": done.difference,
        "equal": done.difference < SAME,
        "exact": exact,
        "orders": done.orders,
        "refused": [{"session": session, "reason": reason} for session, reason in done.refused],
        "folder": str(folder),
    }


def _render(result: dict, reporter: Reporter) -> None:
    reporter.say(
        f"  {result['first']} to {result['last']}: {result['orders']:,} orders, {len(result['refused'])} refusals"
    )
    reporter.say(f"  Wealth by the cycle {result['wealth']:.9f}, by the backtest {result['backtest']:.9f}")
    said = "equal: what trades is what was tested" if result["equal"] else "not equal"
    if not result["equal"] and not result["exact"]:
        said += ", because of this account's limits, reserve of cash, smallest order or band"
    reporter.say(f"  Largest relative difference {result['largest_difference']:.1e}: {said}.", "bold")
    for refused in result["refused"][:5]:
        reporter.say(f"  {refused['session']}: {refused['reason']}", "yellow")
    reporter.say(f"  Page:    {result['folder']}/{PAGE} (journal: {FILE})", whole=[result["folder"]])
