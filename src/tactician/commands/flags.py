"""A verb's flags: its own, and the keys of `tactician.config.Config` by section, over a YAML file's values.

tyro splits the command line and writes the help. To it a flag is a switch or takes words; what the words mean is for
pydantic to say. So a wrong value is told in one sentence, and in the same one whether it stands in a file or in a flag.
"""

import difflib
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import date
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro
from pydantic import TypeAdapter, ValidationError

from tactician.config import Config, FileOnly, load_config, make_config, override, sections
from tactician.config_values import COMMAND_LINE, explain
from tactician.errors import UserError

DEFAULT_CONFIG = Path("rl_v2_multi_asset")

ConfigFile = Annotated[
    Path,
    tyro.conf.arg(name="config", help="YAML file with the settings, or a packaged one's name; flags override it."),
]
Json = Annotated[bool, tyro.conf.arg(name="json", help="Print JSON instead of tables.")]

_NOT_GIVEN = ("\0",)
"""The value of a flag that was not given. No command line can contain it."""


@dataclass(frozen=True)
class _Flag:
    """A field of a verb's arguments or of the configuration, and its form on the command line."""

    name: str
    annotation: Any
    default: Any
    marks: tuple[Any, ...] = ()

    @property
    def spelling(self) -> str:
        """The flag."""
        return _spelled(next((mark.name for mark in self.marks if getattr(mark, "name", None)), self.name))

    def for_tyro(self) -> tuple[str, Any, Any]:
        """A field of a dataclass: a switch, or words."""
        hint = _hint(self.default)
        if self.annotation is bool:
            return self.name, Annotated[bool, *self.marks, tyro.conf.arg(help_behavior_hint=hint)], self.default
        shown = tyro.conf.arg(metavar=_metavar(self.annotation), help_behavior_hint=hint)
        return self.name, Annotated[tuple[str, ...], *self.marks, shown], _NOT_GIVEN

    def value(self, given: bool | tuple[str, ...]) -> Any:
        """The given words, in the form that pydantic reads.

        Raises:
            UserError: no value, or more than one where one is due.
        """
        if isinstance(given, bool) or (given and get_origin(self.annotation) is tuple):
            return given
        if not given:
            raise UserError(f"{self.spelling} needs a value; write {self.spelling} {_metavar(self.annotation)}.")
        if len(given) > 1:
            raise UserError(
                f"{self.spelling} takes one value, and '{given[1]}' is left over; remove it, or put the whole value in quotes."
            )
        return None if given[0] == "None" and NoneType in get_args(self.annotation) else given[0]


def parse(kind: type[Any], verb: str, words: list[str]) -> tuple[Any, Config]:
    """Flags over the YAML file's values; only durations on the command line count if there are any.

    Raises:
        UserError: the file, a flag or its value is at fault.
        SystemExit: with code 0 after --help.
    """
    in_file = _in_file(words)
    keys = {
        section: [
            _Flag(name, key.annotation, in_file[name], (tyro.conf.arg(help=" ".join((key.description or "").split())),))
            for name, key in of_section.items()
            if FileOnly not in key.metadata
        ]
        for section, of_section in sections().items()
    }
    arguments, given = _read(kind, verb, words, keys)
    return arguments, make_config(override(in_file, given), COMMAND_LINE)


def flags_of(kind: type[Any], verb: str, words: list[str]) -> Any:
    """A verb's own flags, for one without a configuration.

    Raises:
        UserError: a flag or its value is at fault.
        SystemExit: with code 0 after --help.
    """
    return _read(kind, verb, words, {})[0]


def _read(kind: type[Any], verb: str, words: list[str], keys: Mapping[str, list[_Flag]]) -> tuple[Any, dict[str, Any]]:
    """The verb's own arguments, and the given keys of the configuration."""
    own = _own_flags(kind)
    groups = [
        (section, make_dataclass(section, [flag.for_tyro() for flag in flags], frozen=True))
        for section, flags in keys.items()
    ]
    line = make_dataclass(
        kind.__name__,
        [flag.for_tyro() for flag in own] + [(name, group, field(default_factory=group)) for name, group in groups],
        bases=(kind,),
        namespace={"__doc__": kind.__doc__},
        frozen=True,
    )
    read: Any
    read, unknown = tyro.cli(
        line,
        args=words,
        prog=f"tactician {verb}",
        config=(tyro.conf.OmitArgPrefixes,),
        return_unknown_args=True,
    )
    if unknown:
        known = [flag.spelling for flags in (own, *keys.values()) for flag in flags]
        in_file = Config.model_fields if keys else ()
        raise UserError(f"{unknown[0]} is no flag of tactician {verb}; {_remedy(unknown[0], verb, known, in_file)}")
    try:
        arguments = TypeAdapter(kind).validate_python(_given(own, read))
    except ValidationError as error:
        raise UserError(explain(error, COMMAND_LINE)) from None
    settings: dict[str, Any] = {}
    for section, flags in keys.items():
        settings |= _given(flags, getattr(read, section))
    return arguments, settings


def _own_flags(kind: type[Any]) -> list[_Flag]:
    hints = get_type_hints(kind, include_extras=True)
    flags = []
    for argument in fields(kind):
        annotation, marks = hints[argument.name], []
        if get_origin(annotation) is Annotated:
            annotation, *marks = get_args(annotation)
        if annotation is bool:
            marks.append(tyro.conf.FlagCreatePairsOff)  # nothing that --no-… could take back
        flags.append(_Flag(argument.name, annotation, argument.default, tuple(marks)))
    return flags


def _given(flags: list[_Flag], read: Any) -> dict[str, Any]:
    words = [(flag, getattr(read, flag.name)) for flag in flags]
    return {flag.name: flag.value(given) for flag, given in words if given != _NOT_GIVEN}


def _spelled(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _metavar(annotation: Any) -> str:
    """The placeholder of a value in --help: a type in capitals, or the choices."""
    parts = [part for part in get_args(annotation) if part is not NoneType]
    match get_origin(annotation):
        case None:
            return {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", date: "YYYY-MM-DD"}[annotation]
        case typing.Annotated:
            return _metavar(parts[0])
        case typing.Literal:
            return "{" + ",".join(parts) + "}"
        case types.UnionType | typing.Union:
            return "|".join(map(_metavar, parts))
        case _:
            return f"{_metavar(parts[0])} [{_metavar(parts[0])} ...]"


def _hint(default: Any) -> str:
    if default is None or default is False or default == ():
        return ""
    return f"(default: {', '.join(default) if isinstance(default, tuple) else default})"


def _remedy(word: str, verb: str, known: Collection[str], in_file: Collection[str]) -> str:
    meant = _spelled(word.lstrip("-").partition("=")[0])
    for key in in_file:
        if _spelled(key) == meant and meant not in known:
            return f"set the key '{key}' in the YAML file."
    near = difflib.get_close_matches(meant, known, n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else f"tactician {verb} --help lists them."


def _in_file(words: list[str]) -> dict[str, Any]:
    """The file's settings; for --help also without one."""
    try:
        return load_config(_config_path(words)).model_dump()
    except UserError:
        if not {"-h", "--help"} & set(words):
            raise
        return {name: None if key.is_required() else key.default for name, key in Config.model_fields.items()}


def _config_path(words: list[str]) -> Path:
    path = DEFAULT_CONFIG
    for word, after in zip(words, [*words[1:], "-"], strict=True):
        if word == "--config" and not after.startswith("-"):
            path = Path(after)
        elif word.startswith("--config="):
            path = Path(word.removeprefix("--config="))
    return path  # where it has no value, its flag is refused next


def given_keys(words: list[str]) -> frozenset[str]:
    """The keys of the configuration that a command line sets by flags, and 'config' if it names the file."""
    flags = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
    flags |= {flag.removeprefix("no_") for flag in flags}  # --no-amp
    return frozenset(flags & {*Config.model_fields, "config"})
