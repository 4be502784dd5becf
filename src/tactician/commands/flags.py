"""A verb's flags: its own, and the keys of `tactician.config.Config` by section, over a YAML file's values.

tyro splits the command line and writes the help. To it a flag is a switch or takes words; what the words mean is for
pydantic to say. So a wrong value is told in one sentence, and in the same one whether it stands in a file or in a flag.
Of a flag that is given twice the last value counts, as everywhere on command lines.
"""

import difflib
import os
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

from tactician import configs
from tactician.commands.hints import quoted
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
_DASHES = "‐‑‒–—―−"
"""What text editors and web pages make of hyphens."""
_FLAG_OF_FILES = {".csv": "--bars", ".parquet": "--bars", ".pt": "--checkpoint"}
"""The flag that a file belongs to, by its ending; the others are configurations."""
_YES_OR_NO = {"true", "false", "yes", "no", "on", "off", "1", "0"}


@dataclass(frozen=True)
class _Flag:
    """A field of a verb's arguments or of the configuration, and its form on the command line."""

    name: str
    annotation: Any
    default: Any
    marks: tuple[Any, ...] = ()

    @property
    def spelling(self) -> str:
        """The flag; of a word without one, what the help calls it."""
        if tyro.conf.Positional in self.marks:
            return next(mark.metavar for mark in self.marks if getattr(mark, "metavar", None))
        return _spelled(next((mark.name for mark in self.marks if getattr(mark, "name", None)), self.name))

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every way to write the flag."""
        if tyro.conf.Positional in self.marks:
            return ()
        short = tuple(alias for mark in self.marks for alias in getattr(mark, "aliases", None) or ())
        paired = self.annotation is bool and tyro.conf.FlagCreatePairsOff not in self.marks
        return (self.spelling, *short, *((f"--no-{self.spelling.removeprefix('--')}",) if paired else ()))

    def for_tyro(self) -> tuple[str, Any, Any]:
        """A field of a dataclass: a switch, or words."""
        hint = _hint(self.default)
        if self.annotation is bool:
            return self.name, Annotated[bool, *self.marks, tyro.conf.arg(help_behavior_hint=hint)], self.default
        shown = tyro.conf.arg(metavar=_metavar(self.annotation), help_behavior_hint=hint)
        return self.name, Annotated[tuple[str, ...], *self.marks, shown], _NOT_GIVEN

    def value(self, given: bool | tuple[str, ...], known: Collection[str]) -> Any:
        """The given words, in the form that pydantic reads.

        Raises:
            UserError: no value, an empty one, or more than one where one is due.
        """
        if isinstance(given, bool):
            return given
        due = self.spelling if tyro.conf.Positional in self.marks else f"{self.spelling} {_metavar(self.annotation)}"
        if not given:
            raise UserError(f"{self.spelling} needs a value; write {due}.")
        if not all(map(str.strip, given)):
            raise UserError(
                f"{self.spelling} cannot be empty; write {due} (a shell variable that is not set is empty, too)."
            )
        if get_origin(self.annotation) is tuple:
            return given
        if len(given) > 1:
            file = _as_file(given[1], known)
            remedy = f"did you mean {file}?" if file else "remove it, or put the whole value in quotes."
            raise UserError(f"{self.spelling} takes one value, and '{given[1]}' is left over; {remedy}")
        return None if given[0] == "None" and NoneType in get_args(self.annotation) else given[0]


def parse(kind: type[Any], verb: str, words: list[str]) -> tuple[Any, Config]:
    """Flags over the YAML file's values; only durations on the command line count if there are any.

    Raises:
        UserError: the file, a flag or its value is at fault.
        SystemExit: with code 0 after --help.
    """
    in_file = _in_file(words)
    arguments, given = _read(kind, verb, words, _key_flags(in_file))
    return arguments, make_config(override(in_file, given), COMMAND_LINE)


def flags_of(kind: type[Any], verb: str, words: list[str]) -> Any:
    """A verb's own flags, for one without a configuration.

    Raises:
        UserError: a flag or its value is at fault.
        SystemExit: with code 0 after --help.
    """
    return _read(kind, verb, words, {})[0]


def spellings(kind: type[Any]) -> set[str]:
    """Every flag of a verb, by the kind of its arguments; with the configuration's keys if it takes a configuration."""
    flags = _own_flags(kind)
    if any(flag.spelling == "--config" for flag in flags):
        flags += [flag for of_section in _key_flags(dict.fromkeys(Config.model_fields)).values() for flag in of_section]
    return {"-h", "--help", *(spelling for flag in flags for spelling in flag.spellings)}


def _read(kind: type[Any], verb: str, words: list[str], keys: Mapping[str, list[_Flag]]) -> tuple[Any, dict[str, Any]]:
    """The verb's own arguments, and the given keys of the configuration."""
    own = _own_flags(kind)
    groups = [
        (section, make_dataclass(section, [flag.for_tyro() for flag in flags], frozen=True))
        for section, flags in keys.items()
    ]
    flags = [*own, *(flag for of_section in keys.values() for flag in of_section)]
    known = [spelling for flag in flags for spelling in flag.spellings]
    _refuse_what_would_be_misread(words, verb, flags, known)
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
        in_file = Config.model_fields if keys else ()
        remedy = _remedy(unknown[0], verb, known, in_file)
        raise UserError(f"{unknown[0] or quoted('')} is no flag of tactician {verb}; {remedy}")
    try:
        arguments = TypeAdapter(kind).validate_python(_given(own, read, known))
    except ValidationError as error:
        raise UserError(explain(error, COMMAND_LINE)) from None
    settings: dict[str, Any] = {}
    for section, of_section in keys.items():
        settings |= _given(of_section, getattr(read, section), known)
    return arguments, settings


def _refuse_what_would_be_misread(
    words: list[str], verb: str, flags: Collection[_Flag], known: Collection[str]
) -> None:
    """Words that tyro would take for values of the flag before them, or for words that belong to none.

    Raises:
        UserError: a flag has a dash of a text editor, or a switch a value.
    """
    switches = {spelling: flag for flag in flags if flag.annotation is bool for spelling in flag.spellings}
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith(tuple(_DASHES)) and (near := _near(word, known)):
            raise UserError(f"{word} is no flag of tactician {verb}; did you mean {near}?")
        name, equals, _ = (before if word.lower() in _YES_OR_NO else word).replace("_", "-").partition("=")
        if name in switches and (equals or word.lower() in _YES_OR_NO):
            flag = switches[name]
            paired = flag.spellings[-1].startswith("--no-")
            way = f"{flag.spelling} or {flag.spellings[-1]}" if paired else f"{flag.spelling} without a value"
            raise UserError(f"{flag.spelling} is a switch; write {way}.")


def _key_flags(values: Mapping[str, Any]) -> dict[str, list[_Flag]]:
    """The flags of the configuration's keys by section; the values are what the help shows."""
    return {
        section: [
            _Flag(name, key.annotation, values[name], (tyro.conf.arg(help=" ".join((key.description or "").split())),))
            for name, key in of_section.items()
            if FileOnly not in key.metadata
        ]
        for section, of_section in sections().items()
    }


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


def _given(flags: list[_Flag], read: Any, known: Collection[str]) -> dict[str, Any]:
    words = [(flag, getattr(read, flag.name)) for flag in flags]
    return {flag.name: flag.value(given, known) for flag, given in words if given != _NOT_GIVEN}


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
    meant = _flag_in(word)
    for key in in_file:
        if _spelled(key) == meant and meant not in known:
            return f"set the key '{key}' in the YAML file."
    near = _as_file(word, known) or _near(word, known)
    return f"did you mean {near}?" if near else f"tactician {verb} --help lists them."


def _flag_in(word: str) -> str:
    """A word as a flag is written, without its value."""
    name = word.lstrip("-" + _DASHES).partition("=")[0]
    return f"-{name}" if len(name) == 1 else _spelled(name)


def _near(word: str, known: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(_flag_in(word), known, n=1, cutoff=0.7)), None)


def _as_file(word: str, known: Collection[str]) -> str | None:
    """A word with the flag that it belongs to, if it names a file or a packaged configuration."""
    if not os.path.isfile(word) and configs.packaged(word) is None:
        return None
    flag = _FLAG_OF_FILES.get(Path(word).suffix.lower(), "--config")
    return f"{flag} {quoted(word)}" if flag in known else None


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
    for word, after in zip(words, [*words[1:], "-"], strict=False):
        if word == "--config" and after.strip() and not after.startswith("-"):
            path = Path(after)
        elif word.startswith("--config=") and word.removeprefix("--config=").strip():
            path = Path(word.removeprefix("--config="))
    return path  # where it has no value, its flag is refused next


def given_keys(words: list[str]) -> frozenset[str]:
    """The keys of the configuration that a command line sets by flags, and 'config' if it names the file."""
    flags = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
    flags |= {flag.removeprefix("no_") for flag in flags}  # --no-amp
    return frozenset(flags & {*Config.model_fields, "config"})
