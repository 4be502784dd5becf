"""Alpaca on this machine, for one test; and a tiny trained model with its advisor."""

from pathlib import Path

import pytest

from tactician.trading.advice import Advisor
from tests.trading.connected import connect
from tests.trading.fake_alpaca import FakeAlpaca
from tests.trading.replays import advisor_of
from tests.trained import trained


@pytest.fixture(scope="session")
def model(tiny, tmp_path_factory) -> Path:
    return trained(tiny, tmp_path_factory.mktemp("traded"))


@pytest.fixture(scope="session")
def advisor(model) -> Advisor:
    """On the market that it was trained on."""
    return advisor_of(model)


@pytest.fixture
def fake(monkeypatch):
    """100,000 dollars and 10 QQQ at 400; SPY costs 500. Its keys are in the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeAlpaca() as fake:
        for name, value in fake.keys.items():
            monkeypatch.setenv(name, value)
        fake.set_price("SPY", 500)
        fake.set_price("QQQ", 400)
        fake.hold("QQQ", 10)
        yield fake


@pytest.fixture
def broker(fake):
    """The account, read and traded through alpaca-py."""
    return connect(fake)
