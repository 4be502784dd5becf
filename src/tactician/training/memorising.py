"""The memorising gap: what the deployed policy earns beyond equal weight where it has learnt, and where it has not."""

from collections.abc import Mapping, Sequence
from typing import Any

from tactician.evaluation import Found
from tactician.storage import plain
from tactician.training.deployed import Deployed


def memorising_gap(
    learnt: Deployed,
    found: Found | None,
    validation: float | None,
    test: float | None,
    held_out_names: Mapping[str, float | None] | None = None,
) -> dict[str, float | None]:
    """Annual log growth beyond equal weight, by place; None where there is no figure.

    Args:
        learnt: the deployed policy on days of training, of the names that were trained on. Equal weight pays no costs there.
        found: each member alone on the days that it left out, whatever is deployed.
        validation: the deployed policy on the validation range.
        test: on the test range; None if it was not read.
        held_out_names: figures on names that training never saw (`growth_on_held_out_names`), if there are any.
    """
    told = {
        "training": learnt.deployed.beyond_equal_weight,
        "held_out_days": None if found is None else found.difference.value,
        "validation": validation,
        "test": test,
    }
    return {name: plain(value) for name, value in {**told, **(held_out_names or {})}.items()}


def mean_gap(gaps: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of several gaps by place, as those of the folds of a study; None where one has no figure."""
    columns = {place: [gap[place] for gap in gaps] for place in gaps[0]}
    return {
        place: None if None in values else sum(x for x in values if x is not None) / len(values)
        for place, values in columns.items()
    }


def sentence(gap: Mapping[str, Any]) -> str:
    """The gap in one sentence; places without a figure are left out."""
    words = {
        "training": "days of training",
        "held_out_days": "days left out",
        "validation": "validation",
        "test": "test",
        "held_out_names": "held-out names on days of training",
        "held_out_names_validation": "held-out names on validation",
        "held_out_names_test": "held-out names on test",
    }
    parts = [f"{word} {100 * gap[name]:+.1f} %" for name, word in words.items() if gap.get(name) is not None]
    return "Log growth per year beyond equal weight: " + ", ".join(parts)
