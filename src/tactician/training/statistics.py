"""Statistics of an iteration for --verbose: rewards, values, the rollout's place in the market, and advantages."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tactician.environment import EnvState
from tactician.learning import STATISTIC, Rollout, describe, extremes
from tactician.monitor.progress import Reporter
from tactician.monitor.wording import count, tell
from tactician.training.setup import Setup

_MOST_USED = 5


def rollout_statistics(setup: Setup, rollout: Rollout, env_state: EnvState, valid: Tensor | None) -> dict[str, Tensor]:
    """Statistics as scalar tensors, over all processes. Their names begin with `STATISTIC`.

    Args:
        setup: of the run.
        rollout: of the iteration.
        env_state: of its environments.
        valid: which samples count; None for all.
    """
    collective, day = setup.process.collective, rollout.day
    first_day, last_day = extremes(rollout.day, None, collective)
    first_window, last_window = extremes(env_state.window, None, collective)
    inside = [(day >= part.start) & (day < part.stop) for part in setup.training_environment.stretches]
    outside = ~torch.stack(inside).any(0)
    ended = ~rollout.continues if valid is None else ~rollout.continues & valid
    counts = torch.stack([outside.sum(), ended.sum(), torch.ones_like(ended).sum()]).double()
    n_outside, n_ended, n_samples = collective.add_up(counts).unbind()
    places = {
        "first_day": first_day,
        "last_day": last_day,
        "first_window": first_window,
        "last_window": last_window,
        "outside": n_outside,
        "episodes": n_ended,
        "samples": n_samples,
    }
    return {
        **describe("reward", rollout.rewards, valid, collective),
        **describe("value", rollout.values, valid, collective),
        **{f"{STATISTIC}{name}": figure for name, figure in places.items()},
    }


def take_statistics(metrics: dict[str, float]) -> dict[str, float]:
    """Remove the statistics from an iteration's metrics, and return them without the prefix of their names."""
    names = [name for name in metrics if name.startswith(STATISTIC)]
    return {name.removeprefix(STATISTIC): metrics.pop(name) for name in names}


def tell_statistics(
    reporter: Reporter,
    setup: Setup,
    rollout: Rollout,
    statistics: Mapping[str, float],
    metrics: Mapping[str, float],
    n_valid: int,
) -> None:
    """Print the lines for --verbose; nothing if there are no statistics.

    Args:
        reporter: tells them.
        setup: of the run.
        rollout: of the iteration.
        statistics: of `rollout_statistics` and of the update, by name.
        metrics: the iteration's.
        n_valid: samples that count, of all processes.
    """
    if not statistics:
        return
    n_samples = int(statistics["samples"])
    for line in (
        f"Rewards, % per session: {_told(statistics, 'reward')}",
        f"Values: {_told(statistics, 'value')}",
        f"Regimes: {_use(metrics)}",
        f"Trades: {int(metrics['trades']):,} closed, {tell(100 * metrics['win_rate'], '.0f', ' %')} with a gain",
        f"Indexing: {_places(setup, statistics)}",
        f"Advantages, not normalised: {_told(statistics, 'advantage')}",
        f"Samples: {n_valid:,} of {n_samples:,} samples counted ({100 * n_valid / n_samples:.0f} %), "
        f"{tell(100 * metrics['clip_fraction'], '.1f', ' %')} of them clipped",
        f"Memory: {rollout.bytes_per_sample:.0f} bytes held per sample "
        f"(formula: {setup.memory.formula_bytes_per_sample})",
    ):
        reporter.debug(line)


def _told(statistics: Mapping[str, float], name: str) -> str:
    patterns = {"mean": "+.4f", "std": ".4f", "min": "+.4f", "max": "+.4f"}
    return ", ".join(f"{which} {tell(statistics[f'{name}_{which}'], p)}" for which, p in patterns.items())


def _use(metrics: Mapping[str, float]) -> str:
    """The most used regimes with their shares, and the share of the others."""
    use = {name.removeprefix("use_"): share for name, share in metrics.items() if name.startswith("use_")}
    ranked = sorted((item for item in use.items() if item[1] > 0), key=lambda item: -item[1])
    told = [f"{name} {100 * share:.1f} %" for name, share in ranked[:_MOST_USED]]
    if rest := ranked[_MOST_USED:]:
        told.append(f"{count(len(rest), 'other')} {100 * sum(share for _, share in rest):.1f} %")
    return ", ".join(told) + f" ({len(ranked)} of {len(use)} used)"


def _places(setup: Setup, statistics: Mapping[str, float]) -> str:
    market = setup.training_environment.market
    rows = " and ".join(f"{part.start} to {part.stop - 1}" for part in setup.training_environment.stretches)
    first, last = int(statistics["first_day"]), int(statistics["last_day"])
    outside = int(statistics["outside"])
    verdict = f"{count(outside, 'sample')} OUTSIDE" if outside else "all inside"
    return (
        f"rows {first} to {last} ({market.date_of(first)} to {market.date_of(last)}), {verdict} the training rows "
        f"{rows}; windows {int(statistics['first_window'])} to "
        f"{int(statistics['last_window'])}; {count(int(statistics['episodes']), 'episode')} ended"
    )
