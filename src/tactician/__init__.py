"""Tactician trains, judges and runs a tactical asset allocation agent.

From Python::

    config = tactician.load_config("embedded_sp500", timesteps=100_000)
    market = tactician.build_market(config)
    summary = tactician.train(config)
    print(summary)
    print(tactician.evaluate("checkpoints/embedded_sp500/model_best.pt"))
    print(tactician.signal("checkpoints/embedded_sp500/model_best.pt", on=date(2022, 12, 29)))

The functions are those of `tactician.api`. Importing the package imports none of what they need.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from tactician.version import __version__ as __version__

if TYPE_CHECKING:
    from tactician.api import (
        Config,
        UserError,
        build_market,
        evaluate,
        load_config,
        load_market,
        make_gym,
        signal,
        train,
    )

__all__ = [
    "Config",
    "UserError",
    "build_market",
    "evaluate",
    "load_config",
    "load_market",
    "make_gym",
    "signal",
    "train",
]

# Threads that wait must sleep, not spin: beside another program that takes a core, spinning makes training twenty times slower.
# OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    """A part of the interface, imported when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("tactician.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
