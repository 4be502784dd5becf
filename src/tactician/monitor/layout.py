"""Lines that fit a terminal: prose breaks between words, figures break between figures, nothing is cut."""

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_GAP = re.compile(r"(?<=[^\s±]) +(?![%×±]| )")
"""Positions where prose may break: not between a number and its unit or its error."""

_COMMAND = re.compile(r"(?:python src/apps/|tactician [a-z-]+ --).*?(?=  |$)")
"""A command as `commands.hints` writes it; a remark behind it is set off by two blanks."""

_SEPARATOR = " | "


def width_of(console: Console) -> int | None:
    """Width of a line in cells; None if the output is no terminal, where lines are not broken."""
    return console.width if console.is_terminal else None


def print_text(console: Console, text: str | Text, whole: Iterable[object] = ()) -> None:
    """Print prose as `wrapped` lays it out; a plain text has no markup."""
    print_lines(console, wrapped(Text(text) if isinstance(text, str) else text, width_of(console), whole))


def print_lines(console: Console, lines: Iterable[Text]) -> None:
    """Print lines as they are: rich neither breaks nor cuts them."""
    for line in lines:
        console.print(line, soft_wrap=True)


def wrapped(text: Text, width: int | None, whole: Iterable[object] = ()) -> list[Text]:
    """The text in lines of at most ``width`` cells, broken between words, with a hanging indent.

    Args:
        text: styles are kept.
        width: None for no limit: each line of the text stays a line.
        whole: parts that are never divided, although they have blanks: commands and paths, to be copied. The programs of
            ``src/apps`` and verbs of ``tactician`` are known. Such a part, and a long word, may run over the width.
    """
    kept = [str(part) for part in whole]
    return [line for paragraph in _paragraphs(text) for line in _wrapped(paragraph, width, kept)]


def row(parts: Sequence[Text], width: int | None, indent: int) -> list[Text]:
    """Figures side by side, with a bar between them; further lines are indented."""
    lines: list[Text] = []
    for part in parts:
        if lines and (width is None or lines[-1].cell_len + len(_SEPARATOR) + part.cell_len <= width):
            lines[-1] = Text.assemble(lines[-1], _SEPARATOR, part)
        else:
            begun = part.copy()
            begun.pad_left(indent if lines else 0)
            lines.append(begun)
    return [shorter for line in lines for shorter in wrapped(line, width)]


def cut(text: str, width: int) -> str:
    """The text, or its beginning and "…"; of at most ``width`` cells."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) + 1 > width:
        text = text[:-1]
    return f"{text.rstrip()}…" if width > 0 else ""


def _paragraphs(text: Text) -> list[Text]:
    return list(text.split("\n", allow_blank=True)) or [text]


def _wrapped(text: Text, width: int | None, whole: Sequence[str]) -> list[Text]:
    plain = text.plain
    if width is None or cell_len(plain) <= width:
        return [text]
    indent = min(_hanging_indent(plain), max(0, width // 4))
    lines: list[tuple[int, int]] = []  # start and end of each line
    begin = end = 0
    for first, last in _words(plain, whole):
        room = width - (indent if lines else 0)
        if end > begin and cell_len(plain[begin:last]) > room:
            lines.append((begin, end))
            begin = first
        end = last
    lines.append((begin, end))
    made = [text[first:last] for first, last in lines]
    for line in made[1:]:
        line.pad_left(indent)
    return made


def _words(plain: str, whole: Sequence[str]) -> list[tuple[int, int]]:
    """Start and end of each piece that must not be divided. The first piece includes the line's indent."""
    patterns = [_COMMAND, *(re.compile(re.escape(part)) for part in whole if part)]
    guarded = [found.span() for pattern in patterns for found in pattern.finditer(plain)]
    gaps = [
        gap.span()
        for gap in _GAP.finditer(plain)
        if not any(first < gap.end() and gap.start() < last for first, last in guarded)
    ]
    begins = [0, *(end for _, end in gaps)]
    ends = [*(begin for begin, _ in gaps), len(plain.rstrip())]
    return list(zip(begins, ends, strict=True))


def _hanging_indent(plain: str) -> int:
    """The hanging indent: that of the text after a leading sign, else two more than the line's own."""
    bare = plain.lstrip(" ")
    blanks = len(plain) - len(bare)
    sign = re.match(r"[^\w\s]+ +", bare)
    if sign and not bare[0].isascii():
        return blanks + cell_len(sign.group())
    return blanks + 2
