"""How a benchmark ends when something is missing: one sentence, exit code 2, as the programs that it measures."""

import sys
from collections.abc import Callable

from tactician.commands.hints import rebuild_command
from tactician.config import load_config
from tactician.environment import MarketTensors, load_cached_market
from tactician.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Call a benchmark's main function; a user's mistake ends the process without a traceback."""
    try:
        main()
    except UserError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        sys.exit(2)


def cached_market(config: str) -> MarketTensors:
    """The market cache of a configuration; if it is missing, the command that makes it is told."""
    found = load_config(config)
    return load_cached_market(found, rebuild_command(config, found))
