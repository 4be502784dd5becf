"""Folds of a walk-forward: train, choose, test, and then go on in time.

Each fold has a training range, a validation range that picks its model, and a test piece that is read once. The test pieces
join into one out-of-sample range.

```
sessions  ────────────────────────────────────────────────►
fold 1    [ training      ]·purge·[validation][ test ]
fold 2    [ training             ]·purge·[validation][ test ]
fold 3    [ training                    ]·purge·[validation][ test ]
```

López de Prado (2018, "Advances in Financial Machine Learning", §7.4) *purges* training rows whose labels overlap those of the
test, and *embargoes* training rows that follow the test. Here a label is a reward, which spans one session: between two ranges
the row whose reward would end in the next one is left out. Training never follows a test, so there is nothing to embargo.

Features reach further back than labels: 252 sessions. The first days of a validation range look almost like the last days of
training, which a policy may have memorised, and it would be picked for that. So as many sessions as the longest look-back are
left out between training and validation. The test piece needs no such gap: nothing is trained on the validation range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Literal

from tactician.environment import LOOK_BACK, MarketTensors
from tactician.errors import UserError

FEWEST = 126
"""Sessions of a validation range: half a year says little about a policy, and less says nothing."""

Window = Literal["expanding", "rolling"]


@dataclass(frozen=True)
class Fold:
    """Ranges of market rows, in the order of time."""

    number: int
    """From 1."""
    train: range
    validation: range
    test: range

    @property
    def splits(self) -> dict[str, range]:
        """The ranges by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def make_folds(
    market: MarketTensors,
    n: int,
    *,
    episode_length: int,
    window: Window = "expanding",
    test_from: date | None = None,
    purge: int = LOOK_BACK,
) -> list[Fold]:
    """Cut a market into folds.

    Args:
        market: whose rows.
        n: folds.
        episode_length: the least that a training range holds.
        window: whether training ranges begin with the market and grow, or keep the length of the first.
        test_from: first session of the first test piece; default: the second half of the sessions is tested.
        purge: sessions left out between training and validation.

    Raises:
        UserError: a range would be empty or too short; names the flag to change.
    """
    begin = _first_test_row(market, test_from)
    pieces = _pieces(range(begin, market.n_days), n)
    if len(pieces[0]) < 2:
        raise UserError(
            f"{n} folds leave {len(pieces[0])} sessions for a test piece; ask for fewer --folds, or test from an earlier "
            "session (--test-from)."
        )
    folds: list[Fold] = []
    for number, test in enumerate(pieces, 1):
        # One row between the ranges: its reward would end in the session in which the next range decides.
        validation = range(test.start - 1 - max(len(pieces[0]), FEWEST), test.start - 1)
        train = range(1, validation.start - 1 - purge)
        if window == "rolling" and folds:
            train = range(train.stop - len(folds[0].train), train.stop)
        if len(train) < episode_length:
            raise UserError(
                f"Fold {number} has {max(len(train), 0)} sessions to train on before {market.date_of(test.start)}, too few for "
                f"one episode of {episode_length}; test from a later session (--test-from), lower --purge ({purge}) or "
                "--episode-length, or give a longer history."
            )
        folds.append(Fold(number, train, validation, test))
    return folds


def _first_test_row(market: MarketTensors, test_from: date | None) -> int:
    if test_from is None:
        return 1 + (market.n_days - 1) // 2
    first, last = market.date_of(1), market.date_of(market.n_days - 1)
    if not first < test_from <= last:
        raise UserError(f"--test-from {test_from} lies outside the market, which runs from {first} to {last}.")
    epoch = date(1970, 1, 1)
    return int((market.dates < (test_from - epoch).days).sum())


def _pieces(rows: range, n: int) -> Sequence[range]:
    """Rows in n consecutive pieces whose lengths differ by at most one."""
    ends = [rows.start + len(rows) * k // n for k in range(n + 1)]
    return [range(a, b) for a, b in pairwise(ends)]
