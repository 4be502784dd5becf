"""Training, validation and test ranges of a market, and pieces of the training range that are held out."""

from dataclasses import dataclass
from itertools import pairwise

from tactician.config import Config
from tactician.environment.market_tensors import MarketTensors
from tactician.errors import UserError

LOOK_BACK = 252
"""Sessions of the features' longest look-back."""


@dataclass(frozen=True)
class InnerFold:
    """A piece of the training range that is held out, and what is left for training."""

    number: int
    """From 1."""
    held_out: range
    stretches: tuple[range, ...]
    """Before and after the piece."""


def inner_folds(train: range, n: int, episode_length: int) -> tuple[InnerFold, ...]:
    """Cut the training range into pieces, each held out once.

    After a held-out piece as many sessions as the features look back are left out, too. So no day that is trained on shows a
    return of the piece, and its rewards are new to the policy (an embargo: López de Prado 2018, "Advances in Financial Machine
    Learning", §7.4.2).

    Args:
        train: decision rows of the training range.
        n: number of pieces, at least two.
        episode_length: the least that a stretch for training holds.

    Raises:
        UserError: the range is too short for so many pieces.
    """
    edges = [train.start + k * len(train) // n for k in range(n + 1)]
    folds = []
    for number, (first, stop) in enumerate(pairwise(edges), 1):
        # One row between, as between the other ranges. The last return of the piece ends at close ``stop``. A decision at t
        # knows closes up to t − 1, and its features reach back to close t − 1 − 252.
        parts = (range(train.start, first - 1), range(min(stop + LOOK_BACK + 1, train.stop), train.stop))
        stretches = tuple(part for part in parts if len(part) >= episode_length)
        if stop - first < 2:
            raise UserError(
                f"The training range has {len(train)} sessions, too few for {n} pieces; use fewer members or start earlier."
            )
        if not stretches:
            raise UserError(
                f"The training range has {len(train)} sessions: without one of {n} pieces, no episode of {episode_length} is "
                "left; use more members, which leave out less each, start earlier or lower episode_length."
            )
        folds.append(InnerFold(number, range(first, stop), stretches))
    return tuple(folds)


def stretches_of(config: Config, train: range) -> tuple[range, ...]:
    """Parts of the training range that a member of an ensemble trains on; () for all of it.

    Raises:
        UserError: see `inner_folds`.
    """
    return () if config.member is None or config.members == 1 else fold_of_member(config, train).stretches


def fold_of_member(config: Config, train: range) -> InnerFold:
    """What a member of an ensemble leaves out of the training range, and what it trains on.

    Raises:
        UserError: see `inner_folds`.
        ValueError: the configuration is of no member.
    """
    if config.member is None:
        raise ValueError("the configuration is of no member")
    return inner_folds(train, config.members, config.episode_length)[config.member - 1]


def split_rows(config: Config, market: MarketTensors) -> dict[str, range]:
    """Rows of the training, validation and test ranges. No reward spans two ranges.

    Raises:
        UserError: the training range has no room for one episode, or another range has fewer than two sessions.
    """
    splits = {
        "train": market.rows(None, config.train_until),
        "validation": market.rows(config.train_until, config.validation_until),
        "test": market.rows(config.validation_until, None),
    }
    if len(splits["train"]) < config.episode_length:
        raise UserError(
            f"The training range up to train_until ({config.train_until}) has {len(splits['train'])} usable sessions, too "
            f"few for one episode of {config.episode_length}; start earlier, move train_until or lower episode_length."
        )
    for name, key in (("validation", "validation_until"), ("test", "end")):
        if len(splits[name]) < 2:
            raise UserError(
                f"The {name} range has {len(splits[name])} sessions, and the bars end on "
                f"{market.date_of(market.n_days - 1)}; move train_until, validation_until or {key}."
            )
    return splits
