"""The file itself: small, sealed, complete, and true to the document."""

import base64
import copy
import gzip
import hashlib
import json
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from tactician.errors import UserError
from tactician.report import figures, page, write_page
from tactician.report.charts import chart_data
from tactician.report.palette import MOST, colours
from tactician.report.whiskers import span, strategy_span, whisker
from tests.report import sample

REPORT = Path(__file__).parents[2] / "src/tactician/report"


def embedded(html: str, name: str) -> str:
    packed = re.search(rf'id="{name}">([^<]*)</script>', html)[1]
    return gzip.decompress(base64.b85decode(packed.replace(",", "<"))).decode()


def test_one_file_under_three_megabytes_even_for_the_longest_range():
    assert len(page(sample.walk_forward()).encode()) < 2.5e6
    longest = sample.walk_forward(sessions=6000, folds=20, seeds=5, regimes=64)
    more = sample.evaluation(sessions=6000, seed=5)["curves"][1:10]
    longest["curves"] += [curve | {"name": f"{curve['name']}_weekly"} for curve in more]
    assert len(page(longest).encode()) < 3e6


def test_the_same_document_gives_the_same_page():
    document = sample.contaminated()
    before = copy.deepcopy(document)
    assert page(document) == page(document)
    assert document == before


def test_nothing_can_be_fetched_and_only_our_scripts_run():
    html = page(sample.contaminated())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["connect-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    own = html.rsplit("<script>", 1)[1].partition("</script>")[0]
    allowed = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (own, embedded(html, "chart-library"))
    }
    assert set(rules["script-src"].split()) == allowed
    outside = re.sub(r'octet-stream" id="[^"]*">[^<]*<', "<", html)
    # The name space of SVG is a name, not an address.
    assert set(re.findall(r"https?://[^\s\"'<]+", outside)) <= {"http://www.w3.org/2000/svg"}


def test_a_name_cannot_leave_its_place():
    html = page(sample.contaminated())
    assert html.count("<script") == html.count("</script>") == 3
    assert "<img" not in html
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in html


def test_what_is_not_finite_reads_not_available():
    document = sample.evaluation(60)
    document["strategies"][0]["figures"]["sharpe"] = math.nan
    document["curves"][0]["growth"][5] = math.inf
    document["cost_multipliers"][1]["low"] = math.nan
    html = page(document)
    tile = re.search(r"<dt>Sharpe ratio</dt>\s*<dd class=\"own\">(.*?)</dd>", html)[1]
    assert "not available" in tile and "title=" in tile
    assert json.loads(embedded(html, "chart-data"))["curves"][0]["growth"][5] is None
    assert not re.search(r">\s*[+−]?(nan|None|inf)\b", html)


def test_verdict_and_figures_are_in_the_page_without_scripts():
    document = sample.walk_forward(300)
    html = page(document)
    assert html.index(document["verdict"]["text"]) < html.index("Return per year") < html.index('id="wealth"')
    for strategy in document["strategies"]:
        assert str(Markup.escape(strategy["label"])) in html
    assert document["provenance"]["data_fingerprint"] in html
    assert "needs 252 sessions before the range, has 40" in html


def test_the_charts_have_the_documents_series():
    document = sample.walk_forward(200)
    data = json.loads(embedded(page(document), "chart-data"))
    for given, drawn in zip(document["curves"], data["curves"], strict=True):
        assert drawn["growth"] == pytest.approx(given["growth"], abs=1.1e-4)
        assert np.cumsum(drawn["growth"]) == pytest.approx(np.cumsum(given["growth"]), abs=5.1e-5)
    assert (
        pytest.approx(np.array(document["regimes"]["probabilities"]), abs=5.1e-4)
        == np.array(data["regimes"]["probabilities"]).T
    )
    assert data["regimes"]["chosen"] == document["regimes"]["chosen"]
    assert data["regimes"]["names"][data["regimes"]["hold"]] == "HOLD"
    assert data["band"]["high"] == pytest.approx(document["band"]["high"], abs=1e-4)


def test_colours_of_the_document_are_used_only_if_they_are_colours():
    document = sample.evaluation(20, regimes=2)
    document["regimes"]["colours"] = ["#112233", "#AABBCC"]
    assert chart_data(document)["regimes"]["colours"] == ["#112233", "#AABBCC"]
    document["regimes"]["colours"] = ["#112233", "red;background:url(//x)"]
    assert chart_data(document)["regimes"]["colours"] == colours(document["regimes"]["names"])


def test_a_regime_keeps_its_colour_and_has_it_alone():
    names = ["HOLD", "FULL_CASH", *(f"REGIME_{k}" for k in range(62))]
    assert len(set(colours(names))) == 64 <= MOST
    assert colours(names)[:20] == colours(names[:20])


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Cannot write"):
        write_page(sample.smallest(), tmp_path / "file" / "report.html")
    write_page(sample.smallest(), tmp_path / "report.html")
    assert {p.name for p in tmp_path.iterdir()} == {"file", "report.html"}


def test_the_wheel_brings_every_part_of_the_page():
    patterns = tomllib.loads((REPORT.parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    brought = {path for pattern in patterns["tactician.report"] for path in REPORT.glob(pattern)}
    assert brought == {path for path in REPORT.rglob("*.*") if path.suffix in {".html", ".css", ".js"}}
    assert brought and all(len(path.read_text().splitlines()) < 400 for path in brought)


@pytest.mark.parametrize(
    ("shape", "x", "said"),
    [
        (figures.percent, 0.0834, "+8.3 %"),
        (figures.percent, -0.0834, "−8.3 %"),
        (figures.percent, -0.0001, "0.0 %"),
        (figures.share, 0.0017, "0.2 %"),
        (figures.fall, 0.284, "−28.4 %"),
        (figures.fall, -0.284, "−28.4 %"),
        (figures.times, 1234.56, "1,234.6 ×"),
        (figures.signed, 0.04, "+0.04"),
        (figures.number, -0.5, "−0.50"),
    ],
)
def test_figures_have_sign_and_unit(shape, x, said):
    assert shape(x).replace("\N{NO-BREAK SPACE}", " ") == said


def test_a_missing_figure_gives_its_reason():
    assert str(figures.number(None, 2, 'needs "60" sessions')) == (
        '<span class="missing" title="needs &#34;60&#34; sessions">not available</span>'
    )


def places(svg: str) -> dict[str, list[float]]:
    return {
        "reach": [float(x) for x in re.findall(r'class="reach" x1="([\d.]+)%" x2="[\d.]+%" y1="28%"', svg)],
        "zero": [float(x) for x in re.findall(r'class="zero" x1="([\d.]+)%"', svg)],
        "dot": [float(x) for x in re.findall(r'circle cx="([\d.]+)%"', svg)],
    }


def test_a_whisker_stands_where_its_interval_is():
    # A scale from -1 to 3 on the 92 % between the margins: -1 at 4 %, 0 at 27 %, 1 at 50 %, 3 at 96 %.
    at = places(whisker(1.0, -1.0, 3.0, (-1.0, 3.0), "words"))
    assert at == {"reach": [4.0, 96.0], "zero": [27.0], "dot": [50.0]}


def test_an_end_beyond_the_scale_is_an_arrow():
    drawn = whisker(9.0, 0.5, 9.5, (-1.0, 3.0), "words")
    assert places(drawn)["dot"] == [] and "›" in drawn and "‹" not in drawn
    assert whisker(None, None, 1.0, (0.0, 1.0), "words") == ""


def test_zero_is_on_every_scale_and_hindsight_is_not():
    assert span([{"low": 0.2, "high": 0.5}, {"low": None, "high": None}]) == (0.0, 0.5)
    strategies = [
        {"available": True, "group": "simple", "intervals": {"sharpe": [-1, 2]}},
        {"available": True, "group": "hindsight", "intervals": {"sharpe": [20, 30]}},
        {"available": False, "group": "simple", "intervals": {"sharpe": [-9, 9]}},
    ]
    assert strategy_span(strategies, "sharpe") == (-1, 2)
