"""One document, one HTML file: offline, interactive, and readable without scripts too."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tactician.report import embedding, figures, whiskers
from tactician.report.charts import chart_data
from tactician.storage import json_text, plain, save_text

_SCRIPTS = ("model", "wealth", "timeline", "why", "start")
_SHARED_SCRIPTS = ("figures", "span", "theme", "tables", "opening")
_STYLES = ("page", "parts", "print")


def write_page(document: Mapping[str, Any], path: Path) -> None:
    """Write the page of a document atomically.

    Raises:
        UserError: the file cannot be written; an old one, if any, is untouched.
    """
    save_text(page(document), path)


def page(document: Mapping[str, Any]) -> str:
    """The page of a document (``report.json``): one HTML file below 3 MB that asks nothing of any network.

    A number that is not finite is shown as "not available". A section without data is left out.

    Args:
        document: as `evaluation.document` makes it, version 1. Its texts may hold anything: all are escaped.
    """
    return sheet("page.html", document, chart_data(plain(document)), _SCRIPTS)


def sheet(
    template: str,
    document: Mapping[str, Any],
    charts: Mapping[str, Any],
    scripts: Sequence[str],
    styles: Sequence[str] = (),
) -> str:
    """A page of any kind in the one frame: sealed by its content security policy, with the chart library inside.

    Args:
        template: file that extends ``frame.html``.
        document: with a title and ``provenance.tactician``. Its texts may hold anything: all are escaped.
        charts: what the scripts get.
        scripts: files beside the shared ones, in order. The last one calls ``openPage``.
        styles: files beside the shared ones.
    """
    script, chart_library = _script(tuple(scripts)), embedding.chart_library()
    return (
        _templates()
        .get_template(template)
        .render(
            document=plain(document),
            policy=embedding.content_policy(script, chart_library),
            style=Markup("\n".join(_own("styles", f"{name}.css") for name in (*_STYLES, *styles))),
            script=Markup(script),
            # What is packed has no letter that could end its element, whatever a symbol or a title holds.
            chart_library=Markup(embedding.packed(chart_library)),
            chart_data=Markup(embedding.packed(json_text(charts, separators=(",", ":")))),
        )
    )


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("tactician.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(figures.FILTERS)
    made.globals.update(whisker=whiskers.whisker, span=whiskers.span, strategy_span=whiskers.strategy_span)
    return made


@cache
def _script(names: tuple[str, ...]) -> str:
    """Our own scripts as one: a function keeps their names apart from those of the chart library."""
    return "(() => {\n" + "\n".join(_own("scripts", f"{name}.js") for name in (*_SHARED_SCRIPTS, *names)) + "\n})();"


def _own(folder: str, name: str) -> str:
    return (files("tactician.report") / folder / name).read_text(encoding="utf-8")
