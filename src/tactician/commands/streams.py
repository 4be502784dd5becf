"""Standard output and error: plain signs where the encoding has no other, and quiet once nobody reads."""

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
"""What the program's own signs become."""


def prepare() -> None:
    """Let no sign end a program: a redirected Windows console writes cp1252, a bare container perhaps ASCII."""
    codecs.register_error("plain", _plain)
    for stream in _open():
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def flush() -> None:
    """Write what is still held back.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    for stream in _open():
        stream.flush()


def close() -> None:
    """Send to nowhere what nobody reads any more, also what the interpreter flushes as it ends."""
    for stream in _open():
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open() -> list[TextIO]:
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A handler of `codecs`: what to write instead, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    end = error.end
    text = "".join(map(_sign, error.object[error.start : end]))
    while not text and error.object[end : end + 1] == " ":
        end += 1  # a picture goes with the space after it
    return text, end


def _sign(sign: str) -> str:
    if sign in _PLAIN:
        return _PLAIN[sign]
    if "\u2500" <= sign <= "\u257f":
        return "+"  # corners and crossings of a table
    if unicodedata.category(sign) in ("So", "Sk", "Mn", "Cf"):
        return ""  # a picture, or what changes the look of one
    return sign.encode("ascii", "backslashreplace").decode("ascii")
