"""Commands that messages suggest. They use the same market and folder as the user's command."""

import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tactician import configs
from tactician.config import DURATIONS, Config, FileOnly, load_config


def command(verb: str, config_file: str | Path, config: Config, *more: str) -> str:
    """A command with the same market cache. It has flags for those keys of the cache, and of ``more``, that the file lacks."""
    from tactician.environment import cache_key

    in_file = load_config(config_file)
    names = (
        *more,
        *(key for key in cache_key(config) if key != "universe"),
        "sub_universes",
        "held_out_names",
        "cache_path",
    )
    changed = [name for name in names if getattr(config, name) != getattr(in_file, name)]
    flags = "".join(f" --{name.replace('_', '-')} {quoted(getattr(config, name))}" for name in changed)
    expanded = " --expanded" if config.expanded and not in_file.expanded else ""
    return f"tactician {verb} --config {quoted(configs.shortest(config_file))}{expanded}{flags}"


def rebuild_command(config_file: str | Path, config: Config) -> str:
    """The command that makes a configuration's market cache."""
    from tactician.bars.sources import SOURCES

    words = command("build-cache", config_file, config, "bars")
    source = SOURCES.get(config.bars)
    return words + (" (or with --bars FILE)" if source is not None and source.stands_in else "")


def quoted(value: object) -> str:
    """A value quoted for a shell."""
    return shlex.quote(str(value))


def flag_words(config: Config, keys: Collection[str]) -> str:
    """The flags that set some keys to a configuration's values; keys without a flag are left out."""
    words = ""
    for key in sorted(keys):
        value, flag = getattr(config, key), f"--{key.replace('_', '-')}"
        if value is None or FileOnly in Config.model_fields[key].metadata:
            continue
        if isinstance(value, bool):
            words += f" {flag if value else flag.replace('--', '--no-', 1)}"
        else:
            words += f" {flag} {quoted(value)}"
    return words


def train_command(config_file: str | Path, config: Config) -> tuple[str, dict[str, Any]]:
    """The command that trains a configuration: flags for all that differs from the file.

    Returns:
        The command, and the keys without a flag that the file must have besides.
    """
    in_file = load_config(config_file)
    words, without_flag = f"tactician train --config {quoted(configs.shortest(config_file))}", {}
    for key, field in Config.model_fields.items():
        value = getattr(config, key)
        if value == getattr(in_file, key) or (key in DURATIONS and value is None):
            continue  # a duration on the command line replaces all of the file
        if FileOnly in field.metadata:
            without_flag[key] = value
        elif value is None:
            words += f" --{key.replace('_', '-')} None"
        else:
            words += flag_words(config, {key})
    return words, without_flag
