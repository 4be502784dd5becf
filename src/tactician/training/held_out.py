"""The policy on the names that training saw, and on those that were held out from it."""

from collections.abc import Mapping
from dataclasses import replace

from tactician.environment import Environment, MarketTensors, same_days
from tactician.evaluation import evaluate
from tactician.policy import Network
from tactician.storage import plain
from tactician.training.deployed import deployed_gap

PLACES = {"train": "held_out_names", "validation": "held_out_names_validation", "test": "held_out_names_test"}
"""What the memorising gap calls figures on held-out names, by range of days."""


def on_trained_names(env: Environment) -> Environment:
    """The judged environment with the names that training saw alone, on the same days of training.

    Without held-out names it is the same one.

    Args:
        env: of the judged market, whose features are normalised; its rows are days of training.

    Raises:
        UserError: the names have no episode on these days.
    """
    names = env.market.remaining
    return env if names is None else _on(env, names)


def growth_on_held_out_names(
    env: Environment, policy: Network, splits: Mapping[str, range], seed: int
) -> dict[str, float | None]:
    """Annual log growth beyond equal weight on the held-out names, by place; {} if no names are held out.

    Training has never seen these names. They are judged as the others are: on days of training by `deployed_gap`, where equal
    weight pays no costs, and on other days by `evaluate`.

    Args:
        env: of the judged market, whose features are normalised; its rows are days of training.
        policy: as it is deployed.
        splits: rows of the judged market, by the names of the further ranges, 'validation' and 'test'.
        seed: of the episodes.

    Returns:
        A figure for days of training and one for each range, by the names in `PLACES`. It is None where the names have fewer
        than two sessions of a range.

    Raises:
        NotFinite: a growth or an output is not finite.
        UserError: the names have no episode on days of training.
    """
    names = env.market.held_out
    if names is None:
        return {}
    learnt = _on(env, names)
    found = {PLACES["train"]: plain(deployed_gap(learnt, policy, seed).deployed.beyond_equal_weight)}
    for split, rows in splits.items():
        days = same_days(env.market, names, rows)
        judged = evaluate(learnt, policy, days) if len(days) >= 2 else None
        found[PLACES[split]] = None if judged is None else plain(judged.growth_beyond_equal_weight)
    return found


def _on(env: Environment, names: MarketTensors) -> Environment:
    """An environment on the same days of other names."""
    return replace(env, market=names, rows=tuple(same_days(env.market, names, rows) for rows in env.stretches))
