"""A tiny trained model, and its advisor on the market that it was trained on."""

from pathlib import Path

import pytest

from tactician.trading.advice import Advisor
from tests.trading.replays import advisor_of
from tests.trained import trained


@pytest.fixture(scope="session")
def model(tiny, tmp_path_factory) -> Path:
    return trained(tiny, tmp_path_factory.mktemp("traded"))


@pytest.fixture(scope="session")
def advisor(model) -> Advisor:
    return advisor_of(model)
