"""A verb's flags: the fields of `tactician.config.Config` over a YAML file's values, and the verb's own."""

from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from tactician.config import DURATIONS, Config, load_config, make_config
from tactician.errors import UserError

DEFAULT_CONFIG = Path("rl_v2_multi_asset")

ConfigFile = Annotated[
    Path,
    tyro.conf.arg(name="config", help="YAML file with the settings, or a packaged one's name; flags override it."),
]
Json = Annotated[bool, tyro.conf.arg(name="json", help="Print JSON instead of tables.")]


def _flags() -> type:
    """The configuration's keys as flags. Bounds are left to `make_config`, which answers in one sentence."""
    return make_dataclass(
        "Settings",
        [
            (name, Annotated[key.annotation, tyro.conf.arg(help=key.description)])
            for name, key in Config.model_fields.items()
            if tyro.conf.Suppress not in key.metadata
        ],
        frozen=True,
    )


Flags = _flags()
Settings = tyro.conf.OmitArgPrefixes[Flags]  # type: ignore[valid-type]
"""For a verb's arguments: all keys of the configuration."""


def parse(kind: type[Any], verb: str, words: list[str]) -> tuple[Any, Config]:
    """Flags over the YAML file's values; only durations on the command line count if there are any.

    Raises:
        UserError: the file or a flag's value is at fault.
        SystemExit: with code 2 for an unknown flag, 0 after --help.
    """
    in_file = load_config(_config_path(words))
    default = Flags(**{f.name: None if f.name in DURATIONS else getattr(in_file, f.name) for f in fields(Flags)})
    arguments = flags_of(kind, verb, words, kind(settings=default))
    given = vars(arguments.settings).copy()
    if all(given[name] is None for name in DURATIONS):
        given |= {name: getattr(in_file, name) for name in DURATIONS}
    if given["cache_path"] != in_file.cache_path:
        given["expanded_cache_path"] = None  # the flag names the file, whatever the universe
    return arguments, make_config({**in_file.model_dump(), **given}, "the command line")


def flags_of(kind: type[Any], verb: str, words: list[str], default: Any) -> Any:
    """Flags over their defaults.

    Raises:
        UserError: an unknown flag.
        SystemExit: with code 2 for a value of the wrong kind, 0 after --help.
    """
    arguments, unknown = tyro.cli(
        kind,
        args=words,
        prog=f"tactician {verb}",
        default=default,
        config=(tyro.conf.FlagCreatePairsOff,),
        return_unknown_args=True,
    )
    if unknown:
        raise UserError(f"{unknown[0]} is no flag of this program; tactician {verb} --help lists them.")
    return arguments


def _config_path(words: list[str]) -> Path:
    for k, word in enumerate(words):
        if word == "--config" and k + 1 < len(words):
            return Path(words[k + 1])
        if word.startswith("--config="):
            return Path(word.removeprefix("--config="))
    return DEFAULT_CONFIG


def given_keys(words: list[str]) -> frozenset[str]:
    """The keys of the configuration that a command line sets by flags, and 'config' if it names the file."""
    flags = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
    return frozenset(flags & {*Config.model_fields, "config"})
