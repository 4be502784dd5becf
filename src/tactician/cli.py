"""The command line: ``tactician VERB …``, and the same verbs as ``python src/apps/VERB.py …``.

Verbs live in `tactician.commands`, one file each. A verb's file is imported when it is called, so that the rest answers at
once.
"""

import difflib
import errno
import importlib
import sys
import warnings
from collections.abc import Sequence

from tactician.commands import streams
from tactician.errors import UserError
from tactician.version import __version__

VERBS = {
    "train": "Train an agent on a market cache and keep the best model.",
    "build-cache": "Build the market cache that training reads.",
    "evaluate": "Judge a saved model on a range that it has not seen, and write the report.",
    "signal": "Say what a model would hold from the next close on, the orders for it, and why.",
    "trade": "Trade a model's decisions: run, status, halt, resume, replay, report, export.",
    "walk-forward": "Train, choose and test fold by fold, and judge all test pieces as one range.",
    "sweep": "Search settings, judged on held-out pieces of the training range alone.",
    "config": "Print a packaged configuration, to be copied and edited.",
    "costs": "Print what each regime costs from cash, and each switch from one to another.",
    "check-leaks": "Change the future of the bars, and name the first value that knew it too early.",
    "learnability": "Train on markets whose best policy is known, and say how much of it was found.",
}
"""What each does; its file in `tactician.commands` has its name and a function ``run``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        arguments: the verb and its flags; default: the process's.

    Returns:
        Exit code: 0, or 2 for a user's mistake, which is told in one sentence. Trading adds 3 for what was refused for safety
        and 4 for a halt. It is 130 after Ctrl+C, and 141 if the reader of the output has closed it.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # warnings of other libraries are for developers
    streams.prepare()
    try:
        code = _answer(list(sys.argv[1:] if arguments is None else arguments))
        streams.flush()
    except BrokenPipeError:
        streams.close()
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:  # not of a file: of the standard output
            raise
        streams.close()  # what is left in the buffer cannot be written either
        print(f"tactician: cannot write the output: {error.strerror}; make room.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # between the verb's end and the program's
        return 130
    return code


def _answer(words: list[str]) -> int:
    if "--version" in words[:2]:
        print(f"tactician {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    verb = words[0].replace("_", "-")
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else f"use one of: {', '.join(VERBS)}."
        print(f"tactician: there is no verb '{words[0]}'; {remedy}", file=sys.stderr)
        return 2
    try:
        code: int = importlib.import_module(f"tactician.commands.{verb.replace('-', '_')}").run(words[1:])
        return code
    except UserError as error:
        print(f"tactician {verb}: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as end:  # after --help; or a rich console that nobody reads
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        print(f"tactician {verb}: interrupted.", file=sys.stderr)
        return 130


def _usage() -> str:
    lines = [f"  {verb:<13} {what}" for verb, what in VERBS.items()]
    return "\n".join(["usage: tactician VERB [flags]", "", *lines, "", "tactician VERB --help lists a verb's flags."])
