"""The files of a result: a page, the same numbers as JSON, and daily returns that other packages read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tactician.errors import UserError
from tactician.report.page import page
from tactician.storage import json_text, save_text

PAGE, NUMBERS, RETURNS = "report.html", "report.json", "returns.csv"
FILES = (PAGE, NUMBERS, RETURNS)


def write_report(document: Mapping[str, Any], folder: Path) -> None:
    """Write ``report.html``, ``report.json`` and ``returns.csv``, each as a whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    # All texts are made before the first file is written, so that a fault in one leaves no files that disagree.
    texts = {RETURNS: returns(document), NUMBERS: numbers(document), PAGE: page(document)}
    for name, text in texts.items():
        save_text(text, folder / name)


def write_numbers(document: Mapping[str, Any], folder: Path) -> None:
    """Write ``report.json`` alone, for a run without a result.

    Raises:
        UserError: the folder cannot be written.
    """
    save_text(numbers(document), folder / NUMBERS)


def numbers(document: Mapping[str, Any]) -> str:
    """The document as strict JSON: a figure that is not available is null."""
    return json_text(document) + "\n"


def returns(document: Mapping[str, Any]) -> str:
    """The agent's simple daily returns, net of costs: a date column and one of returns.

    ``pandas.read_csv(FILE, index_col=0, parse_dates=True).squeeze()`` gives the series that quantstats and pyfolio take.
    """
    growth = document["curves"][0]["growth"]
    rows = [f"{day},{math.expm1(x):.10g}" for day, x in zip(document["dates"], growth, strict=True)]
    return "\n".join(["date,agent", *rows]) + "\n"


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, before the long work and not after it.

    Raises:
        UserError: names the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"Cannot write into {folder}: {error.strerror}; choose another folder.") from error
    for name in FILES:
        if (folder / name).is_dir():
            raise UserError(f"{folder / name} is a folder; move it away, or choose another folder for the report.")
