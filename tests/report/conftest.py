"""Sample pages on disk and a browser to read them, made once."""

import pytest

from tactician.report import write_page
from tests.report import sample
from tests.report.browser import Reader, chromium

DOCUMENTS = {
    "evaluation": sample.evaluation,
    "walk_forward": sample.walk_forward,
    "contaminated": sample.contaminated,
    "smallest": sample.smallest,
}


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, make in DOCUMENTS.items():
        write_page(make(), folder / f"{name}.html")
    return folder


@pytest.fixture(scope="session")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def reader(browser):
    made = Reader(browser)
    yield made
    for context in browser.contexts:
        context.close()
    assert not made.complaints
    assert all(address.startswith(("file:", "data:", "blob:")) for address in made.asked), made.asked
