"""What a reader sees and can do, in a real browser: every page is checked for complaints and requests at its end."""

import csv
import io
import itertools
import json
import re

import pytest

from tactician.report import write_page
from tests.report import sample
from tests.report.browser import WIDTHS, until
from tests.report.conftest import DOCUMENTS

SECTIONS = ("verdict", "headline", "wealth", "timeline", "why", "costs", "training", "months", "comparison")
SECTIONS += ("statistics", "provenance")


@pytest.mark.parametrize(("name", "width", "scheme"), list(itertools.product(DOCUMENTS, WIDTHS, ("light", "dark"))))
def test_every_page_is_drawn_and_fits(pages, reader, name, width, scheme):
    page = reader.open(pages / f"{name}.html", width, scheme)
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.locator(".js-plotly-plot .main-svg").count() >= 2
    assert page.locator("#chart-problem").is_hidden()
    words = page.inner_text("body")
    assert not re.search(r"\b(NaN|undefined|null|None|Infinity)\b", words)


def test_the_verdict_stands_first_and_all_sections_are_there(pages, reader):
    page = reader.open(pages / "evaluation.html")
    tops = [page.locator(f"#{name}").bounding_box()["y"] for name in SECTIONS if name != "training"]
    assert tops == sorted(tops)
    assert page.locator("#training").is_visible()
    assert page.locator("#folds, #seeds").count() == 0, "an evaluation has neither folds nor seeds"
    page = reader.open(pages / "walk_forward.html")
    assert page.locator("#folds tbody tr").count() == 5
    assert page.locator("#seeds tbody tr").count() == 3


def test_sections_without_data_are_left_out(pages, reader):
    page = reader.open(pages / "smallest.html")
    assert page.locator("#why, #training, #folds, #seeds, #run").count() == 0
    assert page.locator("#statistics .missing").first.get_attribute("title") == "needs 60 sessions, has 2"


def test_a_name_from_a_file_is_text_and_never_markup(pages, reader):
    page = reader.open(pages / "contaminated.html", width=380)
    page.on("dialog", lambda dialog: pytest.fail("a symbol ran as a script"))
    assert page.locator("img").count() == 0
    assert sample.SPITEFUL in page.inner_text("h1")
    assert sample.SPITEFUL in page.inner_text("#assets-legend")
    drawn = page.locator("#timeline-chart").text_content()
    assert "</scrip…" in drawn and "<b>Q</b>" in drawn, "plotly shows the name letter by letter"
    page.locator("details summary").first.click()
    assert sample.SPITEFUL in page.inner_text("#provenance details")


def test_the_comparison_is_sorted_by_its_heads(pages, reader):
    page = reader.open(pages / "evaluation.html")
    returns = {s["label"]: s["figures"]["annual_return"] for s in sample.evaluation()["strategies"]}

    def order():
        heads = page.locator("#comparison tbody th").all_inner_texts()
        return [returns[head.split("\n")[0].strip()] for head in heads]

    head = page.locator("#comparison thead th").nth(1)
    for wanted, reverse in (("descending", True), ("ascending", False)):
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == wanted
        *known, last = order()
        assert known == sorted(known, reverse=reverse)
        assert last is None, "what is not available stays at the end"


def test_wealth_can_be_drawn_to_a_log_scale(pages, reader):
    page = reader.open(pages / "evaluation.html")
    kind = "document.getElementById('wealth-chart').layout.yaxis.type"
    assert page.evaluate(kind) == "linear"
    page.get_by_role("button", name="Log", exact=True).click()
    assert page.evaluate(kind) == "log"
    assert page.get_by_role("button", name="Log", exact=True).get_attribute("aria-pressed") == "true"


def test_curves_are_shown_and_hidden(pages, reader):
    page = reader.open(pages / "walk_forward.html")
    drawn = "document.getElementById('wealth-chart').data.length"
    before = page.evaluate(drawn)
    page.get_by_role("button", name="Cash").click()
    assert page.evaluate(drawn) == before + 2, "its wealth and its drawdown"
    page.get_by_role("button", name="each seed").click()
    assert page.evaluate(drawn) == before + 5
    page.get_by_role("button", name="more curves").click()
    assert page.get_by_role("button", name="Upper bound with hindsight").is_visible()


def test_wealth_and_drawdown_are_those_of_the_document(pages, reader):
    page = reader.open(pages / "evaluation.html")
    wealth, peak, fall = 1.0, 1.0, []
    for growth in sample.evaluation()["curves"][0]["growth"]:
        wealth *= 2.718281828459045**growth
        peak = max(peak, wealth)
        fall.append(wealth / peak - 1)
    shown = page.evaluate("document.getElementById('wealth-chart').data.filter((t) => t.yaxis === 'y2').at(-1).y")
    assert shown == pytest.approx(fall, abs=1e-5)
    assert page.locator("[data-curve=agent] .end").inner_text() == f"{wealth:.2f} ×"


def test_a_chosen_day_is_explained(pages, reader):
    page = reader.open(pages / "evaluation.html")
    document = sample.evaluation()
    at = 500
    page.fill("#day", document["decided"][at])
    page.dispatch_event("#day", "change")
    names = [document["why"]["entries"][entry] for entry, *_ in document["why"]["decisions"][at]]
    assert page.locator("#decision tbody th").all_inner_texts() == names
    assert "2020" in page.inner_text("#why-day")
    traded = [k for k, x in enumerate(document["trading"]["turnover"]) if x >= 0.001]
    after = next(k for k in traded if k > at)
    page.get_by_role("button", name="Next trade").first.click()
    assert page.input_value("#day") == document["decided"][after]
    page.get_by_role("button", name="Trade before").first.click()
    assert page.input_value("#day") == document["decided"][max(k for k in traded if k < after)]


def test_a_click_and_a_hover_read_the_day_under_the_pointer(pages, reader):
    page = reader.open(pages / "evaluation.html")
    chart = page.locator("#timeline-chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    at = (box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    before = page.inner_text("#why-day")
    page.mouse.move(*at)
    page.wait_for_selector("#timeline-chart .hovertext")
    told = page.locator("#timeline-chart .hovertext").first.text_content()
    assert "probability" in told and "turnover" in told and "cost" in told
    page.mouse.click(*at)
    until(page, f"document.getElementById('why-day').innerText !== {json.dumps(before)}")
    assert page.inner_text("#readout .day") == page.inner_text("#why-day").split(":")[0]


def test_both_charts_share_their_span_of_dates(pages, reader):
    page = reader.open(pages / "evaluation.html")
    ranges = "['wealth-chart', 'timeline-chart'].map((id) => document.getElementById(id).layout.xaxis.range)"
    whole = page.evaluate(ranges)[0]
    box = page.locator("#wealth-chart").bounding_box()
    page.mouse.move(box["x"] + 400, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 110, steps=5)
    page.mouse.up()
    until(page, f"{ranges}[1][0] !== {json.dumps(whole[0])}")
    wealth, timeline = page.evaluate(ranges)
    assert wealth == timeline != whole
    page.get_by_role("button", name="All", exact=True).first.click()
    assert page.evaluate(ranges) == [whole, whole]


def test_data_of_charts_and_tables_come_as_csv(pages, reader):
    page = reader.open(pages / "contaminated.html")
    document = sample.contaminated()

    def saved(button):
        with page.expect_download() as download:
            button.click()
        with open(download.value.path(), encoding="utf-8", newline="") as file:
            return download.value.suggested_filename, list(csv.reader(io.StringIO(file.read())))

    name, rows = saved(page.locator("[data-download=timeline]"))
    assert name == "timeline.csv" and [row[0] for row in rows[1:]] == document["decided"]
    assert f"weight: {sample.SPITEFUL}" in rows[0]
    turnover = [float(row[rows[0].index("turnover")]) for row in rows[1:]]
    assert turnover == pytest.approx(document["trading"]["turnover"], abs=1e-5)
    name, (head, *rows) = saved(page.get_by_label("Download this table as CSV").and_(page.locator("#costs .save")).last)
    assert name == "starts.csv" and head[2:5] == [
        "Beside equal weight, per year" + end for end in ("", ": low", ": high")
    ]
    ends = [[start[key] for key in ("beyond_equal_weight", "low", "high")] for start in document["starts"]]
    assert [[float(x) for x in row[2:5]] for row in rows] == [pytest.approx(end) for end in ends]
    name, rows = saved(page.locator("[data-download=wealth]"))
    assert name == "wealth.csv" and len(rows) == 321
    name, rows = saved(page.get_by_label("Download this table as CSV").last)
    assert name == "provenance.csv" and [row[0] for row in rows if "8f14e" in row[1]] == ["Fingerprint of the data"]
    name, rows = saved(page.locator("#comparison").get_by_label("Download this table as CSV"))
    assert any(row[0].startswith("'=HYPERLINK(") for row in rows), "no spreadsheet runs it as a formula"


def test_charts_follow_light_and_dark(pages, reader):
    page = reader.open(pages / "evaluation.html", scheme="light")
    ink = "document.getElementById('wealth-chart').layout.font.color"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    until(page, f"{ink} !== {json.dumps(light)}")


def test_a_printed_page_shows_its_charts_in_light_colours(pages, reader):
    page = reader.open(pages / "evaluation.html", scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#wealth-chart .main-svg").first.bounding_box()["width"] == 690
    assert page.evaluate("document.getElementById('wealth-chart').layout.font.color") == "#57616c"
    assert not any(button.is_visible() for button in page.locator(".tools button").all())
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_it_reads_without_scripts(pages, reader):
    page = reader.look(pages / "walk_forward.html", width=380, java_script_enabled=False)
    assert "Charts need JavaScript" in page.inner_text("body")
    assert page.locator(".sentence").is_visible()
    assert page.locator("#comparison tbody tr").count() == 13
    assert page.locator("#wealth-chart").is_hidden()


def test_a_browser_that_cannot_unpack_says_so(pages, browser):
    context = browser.new_context()
    context.add_init_script("delete window.DecompressionStream")
    page = context.new_page()
    page.goto((pages / "evaluation.html").as_uri())
    page.wait_for_selector("#chart-problem", state="visible")
    assert page.locator("#wealth-chart").is_hidden() and page.locator("#comparison").is_visible()
    context.close()


def test_a_long_range_of_many_regimes_is_drawn_whole(tmp_path, reader):
    document = sample.evaluation(sessions=6000, regimes=64)
    write_page(document, tmp_path / "long.html")
    page = reader.open(tmp_path / "long.html")
    assert page.evaluate("document.getElementById('timeline-chart').data[0].x.length") == 6000
    assert page.evaluate("document.getElementById('timeline-chart').data.at(-1).z.length") == 13, (
        "twelve and the others"
    )
