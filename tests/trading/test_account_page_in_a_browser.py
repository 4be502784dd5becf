"""The page of an account in a real browser: every page is checked for complaints and requests at its end."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest

from tactician.trading.account_page import ShadowPath, account_document, write_account_page
from tactician.trading.journal import Journal
from tests.report.browser import until
from tests.trading import account_sample as sample
from tests.trading.account_sample import SESSIONS, SPITEFUL, Hand, order


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of a journal that the cycle wrote, of one that is halted and strange, and of one that has only begun."""
    folder = tmp_path_factory.mktemp("pages")
    journal = sample.lived(folder / "lived", 40, sample.FAULTS)
    values = account_document(journal, None, sample.ACCOUNT, created=sample.CREATED)["wealth"]
    shadow = ShadowPath(values["sessions"], [x * (1 + 2e-5 * k) for k, x in enumerate(values["multiple"])])
    write(journal, shadow, folder / "lived.html")
    strange = Hand(folder / "strange.sqlite")
    strange.book("adopted", SESSIONS[0], 1e4, {"SPY": "10"}, foreign_positions={SPITEFUL: "1"})
    orders = [order(price=None), order(SPITEFUL, planned="5", filled="2", reason=SPITEFUL * 3, state="canceled")]
    strange.decide(SESSIONS[0], *orders, name=SPITEFUL, strange=["x" * 300])
    strange.book("checked", SESSIONS[1], math.nan, {SPITEFUL: "10"}, prices={"SPY": math.nan})
    strange.note("halted", reason=SPITEFUL + "y" * 300)
    write(strange.journal, None, folder / "strange.html")
    begun = Hand(folder / "begun.sqlite")
    begun.book("adopted", SESSIONS[0], 1e4)
    write(begun.journal, None, folder / "begun.html")
    write(Hand(folder / "empty.sqlite").journal, None, folder / "empty.html")
    return folder


def write(journal: Journal, shadow: ShadowPath | None, path: Path) -> None:
    account = sample.ACCOUNT.model_copy(update={"live": True})
    write_account_page(account_document(journal, shadow, account, created=sample.CREATED), path)
    journal.close()


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    list(itertools.product(("lived", "strange", "begun", "empty"), (1280, 400), ("light", "dark"))),
)
def test_every_page_is_drawn_and_fits(pages, reader, name, width, scheme):
    page = reader.open(pages / f"{name}.html", width, scheme)
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.locator("#chart-problem").is_hidden()
    assert page.locator(".js-plotly-plot .main-svg").count() >= {"lived": 2, "empty": 0}.get(name, 1)
    assert page.locator("img").count() == 0
    assert "real money" in page.inner_text(".kind").lower()
    assert not re.search(r"\b(NaN|undefined|null|None|Infinity)\b", page.inner_text("body"))


def test_the_charts_show_the_journals_values(pages, reader):
    page = reader.open(pages / "lived.html")
    shadow, own, gap = page.evaluate("document.getElementById('wealth-chart').data.map((t) => t.y)")
    assert len(own) == 40 and own[0] == shadow[0] == 1
    assert gap[10] == pytest.approx(1e4 * (own[10] / shadow[10] - 1), abs=1e-6)
    assert page.locator("#costs-legend li").count() == 5
    ink = "document.getElementById('costs-chart').layout.font.color"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    until(page, f"{ink} !== {json.dumps(light)}")


def test_it_reads_without_scripts(pages, reader):
    page = reader.look(pages / "lived.html", width=400, java_script_enabled=False)
    assert "Charts need JavaScript" in page.inner_text("body")
    assert page.locator("#orders tbody tr").count() > 50 and page.locator("#wealth-chart").is_hidden()
    assert page.locator("#headline .own").nth(2).inner_text().endswith("bp")


def test_tables_and_charts_come_as_csv(pages, reader):
    page = reader.open(pages / "lived.html")
    for button, name in (
        ("[data-download=wealth]", "wealth"),
        ("[data-download=costs]", "costs"),
        ("#orders .save", "orders"),
    ):
        with page.expect_download() as download:
            page.locator(button).click()
        assert download.value.suggested_filename == f"{name}.csv"
        assert len(Path(download.value.path()).read_text().splitlines()) > 9
