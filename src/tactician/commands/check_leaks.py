"""``tactician check-leaks``: change the future of a configuration's bars, and name the first bit that changed too early."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tactician import configs
from tactician.commands.flags import DEFAULT_CONFIG, ConfigFile, Json, parse
from tactician.config import Config
from tactician.config_values import Count
from tactician.version import __version__

if TYPE_CHECKING:
    from tactician.bars import Bars
    from tactician.environment import MarketTensors
    from tactician.evaluation.futures import History
    from tactician.evaluation.leaks import Build, Decisions, LeakCheck
    from tactician.market import Market
    from tactician.monitor.progress import Reporter


@dataclass(frozen=True)
class LeakArguments:
    """Change the future of the bars, build the market again, and name the first value that knew it too early."""

    config_file: ConfigFile = DEFAULT_CONFIG
    checkpoint: Path | None = None
    """A model whose action probabilities are compared, too."""
    cuts: Count = 5
    """Sessions, spread over the range, from which on the future is changed. A few more are added."""
    as_json: Json = False


def run(words: list[str]) -> int:
    """Exit code 1 for a leak, 0 for none."""
    arguments, config = parse(LeakArguments, "check-leaks", words)
    from tactician.monitor.progress import Reporter

    reporter = Reporter(silent=arguments.as_json)
    # A sign of life before torch and pandas, which take seconds to import.
    reporter.say(f"  Tactician {__version__}, {configs.shortest(arguments.config_file)}")
    from tactician.storage import json_text

    result, unseen = check_leaks(config, reporter, arguments.checkpoint, arguments.cuts)
    if arguments.as_json:
        print(json_text({**result.as_dict(), "not_seen": list(unseen)}, indent=2))
    else:
        _tell(result, unseen, reporter)
    return 0 if result.leak is None else 1


def check_leaks(
    config: Config, reporter: "Reporter", checkpoint: Path | None = None, cuts: int = 5
) -> tuple["LeakCheck", tuple[str, ...]]:
    """Search a configuration's market for look-ahead.

    Args:
        config: names source, universe, dates, regimes and frictions.
        reporter: tells the progress.
        checkpoint: of a policy to look at, too.
        cuts: see `tactician.evaluation.leaks.find_leak`.

    Returns:
        The result, and what it cannot say.

    Raises:
        UserError: the bars cannot be read or do not pass validation, or the checkpoint is of another market.
    """
    from tactician.bars import read_source
    from tactician.evaluation.leaks import find_leak
    from tactician.market import market_of

    decisions = _decisions(config, checkpoint)
    with reporter.phase(f"📥 Reading bars ({config.bars})"):
        bars = read_source(config)
    with reporter.phase("🧾 Validating and computing factor scores"):
        market = market_of(bars, config)
    label = "🔮 Trying other futures"
    with _builder(config, bars, market) as (build, history), reporter.phase(label, "future") as work:
        result = find_leak(build, history, decisions, cuts=cuts, at=_cuts(config, market), tell=work.advance)
    return result, _not_seen(market, result)


@contextmanager
def _builder(config: Config, bars: "Bars", market: "Market") -> Iterator[tuple["Build", "History"]]:
    """The chain from a history to what the environment needs, and the history as it is."""
    import pandas as pd

    from tactician.environment import build_market_tensors, further_markets, held_out_markets
    from tactician.evaluation.futures import History
    from tactician.market import market_of

    # Universes with bars of their own are checked with a configuration of their own.
    alone = config.model_copy(update={"more_universes": {}})
    rates = None
    if isinstance(config.cash_rate, Path):
        rates = pd.DataFrame({"date": market.sessions, "rf_daily": market.cash_returns.numpy()})
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rates.parquet"

        def build(history: History) -> "MarketTensors":
            if history.rates is not None:
                history.rates.to_parquet(file)
            rate = config.cash_rate if history.rates is None else file
            market = market_of(history.bars, config, rate)
            tensors = build_market_tensors(market, config.regimes, config.groups, {})
            further = further_markets(market, alone) if alone.sub_universes else []
            apart = held_out_markets(market, config) or ()
            return replace(tensors, beside=tuple(each for each, _ in (*further, *apart)))

        yield build, History(bars, rates)


def _decisions(config: Config, checkpoint: Path | None) -> "Decisions":
    """The configuration's frictions and training range, and the checkpoint's policy."""
    from tactician.evaluation.leaks import Decisions
    from tactician.portfolio.frictions import Frictions

    decisions = Decisions(Frictions.of(config), config.portfolio_value, config.train_until)
    if checkpoint is None:
        return decisions
    from tactician.portfolio.regimes import regime_table
    from tactician.training.checkpoint import load_policy
    from tactician.training.saved import check_meaning

    loaded = load_policy(checkpoint)
    content, table = loaded.content, regime_table(config.regimes, config.symbols, config.groups)
    check_meaning(checkpoint, content, table.names)
    normaliser = content["normaliser"]
    return replace(decisions, policy=loaded.policy, moments=(normaliser["mean"], normaliser["std"]))


def _cuts(config: Config, market: "Market") -> dict[date, str]:
    """Sessions at which a leak is likely, with a hint: the start of the test range, and after the first fault of a kind.

    A repair may have used later bars.
    """
    import pandas as pd

    hints = {pd.Timestamp(config.validation_until): ""}
    for finding in market.findings:
        if finding.date:
            where = f"{finding.symbol or ''} {finding.date}".strip()
            hints[pd.Timestamp(finding.date)] = f"The bars just before have a finding: {finding.name}, {where}."
    # What was found in a bar is known after its close, so the next decision is the first that may see it.
    after = market.sessions.searchsorted(pd.DatetimeIndex(hints), side="right")
    return {
        market.sessions[k].date(): hints[day] for k, day in zip(after, hints, strict=True) if k < len(market.sessions)
    }


def _not_seen(market: "Market", result: "LeakCheck") -> tuple[str, ...]:
    """What a search for leaks cannot say about this market."""
    from tactician.market import LEVEL_LEAK

    level = (
        "The closes may be adjusted for later splits and dividends, before they reach this program. So no price level is "
        "used, and there is no size score."
        if any(finding.name == LEVEL_LEAK for finding in market.findings)
        else "The closes are taken for prices as traded. If a vendor has adjusted them, size and traded value know the future."
    )
    said = [level, "A universe that was picked knowing how it would do is no leak of a bar (see hindsight)."]
    ended = int(market.delisted.any(0).sum())
    if ended:
        assets = "1 asset ends" if ended == 1 else f"{ended} assets end"
        said.append(
            f"{assets} before the data do. The ledger pays a delisted asset out in the session after its last bar, and "
            "so knows that no bar follows."
        )
    if result.refused:
        said.append(f"{len(result.refused)} futures could not be built; the first: {result.refused[0]}")
    return tuple(said)


def _tell(result: "LeakCheck", unseen: Sequence[str], reporter: "Reporter") -> None:
    if result.leak is None:
        reporter.say(f"  {result}", "green")
        reporter.say("  What it cannot see:")
        for line in unseen:
            reporter.say(f"  • {line}")
    else:
        reporter.say(f"  {result}", "red")
