"""What tests of whole walk-forwards share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def short_validation() -> Iterator[None]:
    """Folds of a tiny walk-forward may validate on fewer sessions than users need: each training lives through them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tactician.studies.folds.FEWEST", 40)
        yield
