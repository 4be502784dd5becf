"""What tests of whole walk-forwards share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tactician.cli import main
from tests.conftest import LAST, TINY, synthetic_bars


@pytest.fixture(scope="session")
def tiny_longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny`, with a training range that has room for pieces that are left out, and for the look-back after them."""
    folder = tmp_path_factory.mktemp("tiny_longer")
    synthetic_bars(first="2008-01-02", last=LAST).to_parquet(folder / "bars.parquet")
    settings = {name: str(folder / file) for name, file in (("bars", "bars.parquet"), ("cache_path", "cache.pt"))}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **settings, "checkpoint_dir": str(folder / "run")}))
    assert main(["build-cache", "--config", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def short_validation() -> Iterator[None]:
    """Folds of a tiny walk-forward may validate on fewer sessions than users need: each training lives through them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tactician.studies.folds.FEWEST", 40)
        yield
