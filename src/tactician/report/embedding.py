"""What the page carries inside itself: compressed, and fenced in by a content security policy."""

import base64
import gzip
import hashlib
from functools import cache
from importlib.resources import files


@cache
def chart_library() -> str:
    """The script of plotly.js, out of the installed package."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@cache
def packed(text: str) -> str:
    """The text as gzip in base 85, the same in every run; a browser's DecompressionStream reads it.

    Base 64 would cost 6 % more. The one letter that could end an element, "<", is written as ",".
    """
    return base64.b85encode(gzip.compress(text.encode(), 9, mtime=0)).decode().replace("<", ",")


def content_policy(*scripts: str) -> str:
    """Only these scripts may run, and nothing may be fetched from anywhere.

    plotly.js sets styles on its elements, so inline styles are allowed; it draws its images into ``data:`` addresses.
    """
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
