"""Sample pages on disk, made once."""

import pytest

from tactician.report import write_page
from tests.report import sample

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
