"""``tactician config``: print a packaged configuration, to be copied and edited."""

import re
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from tactician import configs
from tactician.commands.flags import flags_of
from tactician.errors import UserError


@dataclass(frozen=True)
class ConfigArguments:
    """Print a packaged configuration, to be copied and edited."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ""
    """Which; default: list them."""


def run(words: list[str]) -> int:
    """Print a packaged configuration, to be copied and edited."""
    name = flags_of(ConfigArguments, "config", words).name
    if not name:
        for known in configs.names():
            print(f"{known:<18} {_what_it_is(known)}")
        print("\ntactician config NAME > my.yaml makes a copy to edit; --config my.yaml uses it.")
        return 0
    path = configs.packaged(name)
    if path is None:
        raise UserError(f"There is no packaged configuration '{name}'; choose among: {', '.join(configs.names())}.")
    sys.stdout.write(path.read_text(encoding="utf-8"))
    return 0


def _what_it_is(name: str) -> str:
    """The file's first comment, up to a colon or semicolon."""
    comment = configs.find(name).read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    return re.split("[:;.]", comment)[0]
