"""The YAML file of a configuration: read as plain values, with what YAML would silently misread refused."""

import re
from pathlib import Path
from typing import Any

import yaml

from tactician import configs
from tactician.errors import UserError

_UNIVERSES = ("universe", "expanded_universe")
_TEXT, _NOTHING, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "null", "merge"))


class _Loader(yaml.SafeLoader):
    """Makes plain values only, as its parent; tells also keys that are there twice and scalars that are no value."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            before = first.setdefault((key.tag, key.value), key.start_mark)
            if before is not key.start_mark:
                problem = f"'{key.value}' is there a second time (first at line {before.line + 1})"
                raise yaml.MarkedYAMLError(None, None, problem, key.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError, KeyError) as error:  # !!int with a word, or 2010-02-30
            if isinstance(node, yaml.ScalarNode) and re.fullmatch(r"\d{4}-\d\d-\d\d", node.value):
                return node.value  # the configuration says which key it is, and what a date is
            wrote = f"'{node.value}'" if isinstance(node, yaml.ScalarNode) else "what stands there"
            reason = f" ({error})" if isinstance(error, ValueError) else ""
            raise yaml.MarkedYAMLError(None, None, f"{wrote} is no value{reason}", node.start_mark) from error


def read_settings(given: str | Path) -> dict[Any, Any]:
    """The settings as YAML reads them, not yet validated.

    Args:
        given: a file, or the name of a packaged configuration (`configs.find`).

    Raises:
        UserError: the file is missing or no YAML mapping, has a key twice, or a universe that is no lists of symbols by group.
    """
    path = configs.find(given)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Cannot read the configuration {path}: {error.strerror}; give --config a YAML file or one of "
            f"{', '.join(configs.names())}."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file; give a YAML file with --config.") from error
    try:
        values = _values(text, path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise UserError(f"{path} is not valid YAML{where}: {problem}; correct the file.") from error
    except RecursionError:
        raise UserError(f"{path} is nested too deeply; correct its brackets.") from None
    if not isinstance(values, dict):
        raise UserError(
            f"{path} holds no settings; write one 'key: value' per line, as tactician config embedded_sp500 does."
        )
    return values


def _values(text: str, path: Path) -> Any:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if isinstance(root, yaml.MappingNode):
            for key, value in root.value:
                if key.value in _UNIVERSES:
                    _check_groups(value, f"{path}: {key.value}", loader)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check_groups(groups: yaml.Node, where: str, loader: _Loader) -> None:
    """Refuse a group without a list, and names that YAML takes for something else: ON (true), NULL (nothing), 0700 (448).

    Raises:
        UserError: names what was written and what YAML reads.
    """
    if groups.tag == _NOTHING:
        return  # the configuration says whether the key may be empty
    if not isinstance(groups, yaml.MappingNode):
        raise UserError(f"{where} holds no groups; write 'group: [SPY, QQQ]' below it, one group per line.")
    for name, symbols in groups.value:
        if name.tag == _MERGE:
            continue
        _check_is_text(name, "the name of a group", where, loader)
        _check_is_list(symbols, f"{where} '{name.value}'")
        for symbol in symbols.value:
            _check_is_text(symbol, "a symbol", f"{where} '{name.value}'", loader)


def _check_is_list(symbols: yaml.Node, where: str) -> None:
    if isinstance(symbols, yaml.SequenceNode):
        return
    if not isinstance(symbols, yaml.ScalarNode):
        raise UserError(f"{where} holds a mapping where a list of symbols is expected; write [SPY, QQQ].")
    wrote = symbols.value
    if not wrote:
        raise UserError(f"{where} holds nothing where a list of symbols is expected; write [SPY, QQQ].")
    plain = symbols.tag == _TEXT
    remedy = ", ".join(wrote.replace(",", " ").split()) if plain else f'"{wrote}"'
    hint = "" if plain else ", in quotes because YAML takes it for no text"
    raise UserError(f"{where} holds {wrote} where a list of symbols is expected; write [{remedy}]{hint}.")


def _check_is_text(node: yaml.Node, what: str, where: str, loader: _Loader) -> None:
    if node.tag == _TEXT:
        return
    if not isinstance(node, yaml.ScalarNode):
        raise UserError(f"{where} holds a list or mapping where {what} is expected; write plain symbols.")
    if not node.value:
        raise UserError(f"{where} holds an empty entry where {what} is expected; remove it.")
    read = loader.construct_object(node)
    meaning = "nothing" if read is None else str(read).lower() if isinstance(read, bool) else str(read)
    raise UserError(
        f"{where} holds {meaning} where {what} is expected; YAML reads {node.value} as {meaning}: "
        f'write "{node.value}" in quotes.'
    )
