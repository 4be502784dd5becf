"""``tactician trade``: one session's cycle at a broker, its state, its halt and resumption, its replay, page and export."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tactician.commands.flags import Json, flags_of
from tactician.errors import UserError

Action = Literal["run", "status", "halt", "resume", "replay", "report", "export"]


@dataclass(frozen=True)
class TradeArguments:
    """Trade a model's decisions: run, status, halt, resume, replay, report or export (docs/trading.md)."""

    action: Annotated[Action | None, tyro.conf.Positional, tyro.conf.arg(metavar="ACTION")] = None
    """run: one session's cycle. status: how things stand. halt, resume: stop, go on. replay: the cycle over past sessions.
    report: the page. export: the journal as JSON lines."""
    account: Path | None = None
    """The account file (docs/trading.md). All actions need it but replay."""
    send: bool = False
    """run: send the orders. Without it nothing is sent."""
    flatten: bool = False
    """halt: sell all that is held, too."""
    reason: str | None = None
    """halt, resume: why; kept in the journal. resume needs it."""
    checkpoint: Path | None = None
    """replay: the model; default: the account file's."""
    config_file: Annotated[
        Path | None, tyro.conf.arg(name="config", help="replay: YAML file with another market or other costs.")
    ] = None
    first: Annotated[
        date | None, tyro.conf.arg(name="from", help="replay: first session; default: of the test range.")
    ] = None
    last: Annotated[
        date | None, tyro.conf.arg(name="to", help="replay: last session; default: the market's last one.")
    ] = None
    folder: Path | None = None
    """replay: where journal and page are kept; default: a folder beside the model. A replay goes on where it stopped."""
    output: Path | None = None
    """report, export: the file to write; default: report.html or journal.jsonl in the account's folder."""
    as_json: Json = False


_NEEDS = {
    "run": ("account", "send", "as_json"),
    "status": ("account", "as_json"),
    "halt": ("account", "flatten", "reason"),
    "resume": ("account", "reason"),
    "replay": ("account", "checkpoint", "config_file", "first", "last", "folder", "as_json"),
    "report": ("account", "output"),
    "export": ("account", "output"),
}
"""The flags of each action."""


def run(words: list[str]) -> int:
    """Do one of the actions."""
    arguments = flags_of(TradeArguments, "trade", words)
    if arguments.action is None:
        raise UserError(f"trade needs a word: {', '.join(_NEEDS)}; for example tactician trade status --account FILE.")
    _refuse_foreign_flags(arguments)
    if arguments.account is None and arguments.action != "replay":
        raise UserError("--account is missing; name an account file, as docs/trading.md shows.")
    from tactician.commands.trade_actions import ACTIONS

    return ACTIONS[arguments.action](arguments)


def _refuse_foreign_flags(arguments: TradeArguments) -> None:
    defaults: dict[str, Any] = vars(TradeArguments())
    for name, value in vars(arguments).items():
        if name == "action" or value == defaults[name] or name in _NEEDS[str(arguments.action)]:
            continue
        owners = " and ".join(action for action, names in _NEEDS.items() if name in names)
        flag = {"config_file": "config", "as_json": "json", "first": "from", "last": "to"}.get(name, name)
        raise UserError(f"--{flag} belongs to trade {owners}; leave it out of trade {arguments.action}.")
