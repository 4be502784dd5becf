"""Standard output and error: plain signs if the encoding lacks others, and no output after the reader has closed it."""

import codecs
import io
import os
import sys
import unicodedata
from typing import TextIO

_PLAIN = {
    **dict.fromkeys("–—−─━═╌╸╺", "-"),
    **dict.fromkeys("│┃║╎", "|"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    "…": "...",
    "·": "*",
    "×": "x",
    "±": "+/-",
    "√": "sqrt",
    "²": "^2",
    "σ": "sigma",
    "→": "->",
    "←": "<-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "✓": "ok",
}
"""Plain replacements of the program's own signs."""


def prepare() -> None:
    """Replace signs that the encoding lacks: a redirected Windows console has cp1252, and a bare container may have ASCII."""
    codecs.register_error("plain", _plain)
    for stream in _open():
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def flush() -> None:
    """Write buffered output.

    Raises:
        BrokenPipeError: the reader has closed the output.
    """
    for stream in _open():
        stream.flush()


def close() -> None:
    """Discard further output after the reader has closed it, also what the interpreter flushes at its end."""
    for stream in _open():
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open() -> list[TextIO]:
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]


def _plain(error: UnicodeError) -> tuple[str, int]:
    """An error handler for `codecs`: the replacement, and the position at which encoding continues."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    end = error.end
    text = "".join(map(_sign, error.object[error.start : end]))
    while not text and error.object[end : end + 1] == " ":
        end += 1  # a picture is removed with the space after it
    return text, end


def _sign(sign: str) -> str:
    if sign in _PLAIN:
        return _PLAIN[sign]
    if "\u2500" <= sign <= "\u257f":
        return "+"  # corners and crossings of a table
    if unicodedata.category(sign) in ("So", "Sk", "Mn", "Cf"):
        return ""  # a picture, or a modifier of one
    return sign.encode("ascii", "backslashreplace").decode("ascii")
