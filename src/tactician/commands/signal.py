"""``tactician signal``: what to hold from the next close on, what it takes and costs, and why. No account is needed."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tactician.commands.flags import Json, flags_of
from tactician.config_values import Place
from tactician.errors import UserError
from tactician.version import __version__

if TYPE_CHECKING:
    pass

STORE = Path("data/bars")
"""Where bars are kept between two calls."""


@dataclass(frozen=True)
class SignalArguments:
    """Say what a model would hold from the next close on, the orders for it, their cost, and why."""

    checkpoint: Path | None = None
    """The model: a file that training wrote."""
    config_file: Annotated[
        Path | None,
        tyro.conf.arg(name="config", help="YAML file with another market or other costs; default: the model's."),
    ] = None
    bars: Place | None = None
    """Where prices come from; default: the model's source. What was downloaded is kept, and only what is new is read."""
    holdings: Path | None = None
    """CSV of what is held: symbol,shares; the row CASH has the money. Default: cash alone."""
    cash: float = 100_000.0
    """What is held if there is no file: money alone."""
    regime: str | None = None
    """The regime that was traded into last; default: none."""
    since: int = 0
    """Sessions since then."""
    on: date | None = None
    """Decide for the close of this past session instead of the next one."""
    whole_shares: bool = False
    """Orders in whole shares; default: parts of a share."""
    orders: Path | None = None
    """CSV to write the orders to, for typing them in by hand."""
    store: Path = STORE
    """Folder in which downloaded bars are kept."""
    as_json: Json = False


def run(words: list[str]) -> int:
    """Say what to hold from the next close on."""
    arguments = flags_of(SignalArguments, "signal", words)
    if arguments.checkpoint is None:
        raise UserError("--checkpoint is missing; name a model, such as checkpoints/embedded_sp500/model_best.pt.")
    from tactician.monitor.progress import Reporter

    reporter = Reporter(silent=arguments.as_json)
    # A sign of life before torch, which takes seconds to import.
    reporter.say(f"  Tactician {__version__}, {arguments.checkpoint}", whole=[arguments.checkpoint])
    from tactician.storage import json_text
    from tactician.trading.sheet import Sheet

    sheet = _sheet(arguments, reporter)
    assert isinstance(sheet, Sheet)
    if arguments.orders is not None:
        sheet.write_orders(arguments.orders)
    if arguments.as_json:
        print(json_text(sheet.as_dict(), indent=2))
        return 0
    sheet.render(reporter)
    if arguments.orders is not None:
        reporter.say(f"  Orders:  {arguments.orders}", whole=[arguments.orders])
    return 0
