"""Training, validation and test ranges of a market."""

from tactician.config import Config
from tactician.environment.market_tensors import MarketTensors
from tactician.errors import UserError


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
