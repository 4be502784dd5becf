"""Do the intervals hold what they promise? Coverage of nominal 95 % intervals on series whose truth is known.

    python benchmarks/bench_coverage.py [--samples 1500] [--resamples 400]

Daily volatility is 1 %. The second path is 0.7 of the first plus 0.3 of an independent one. The output is the table of
docs/statistics.md.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np

from tactician.evaluation import inference
from tactician.evaluation.inference import interval, resampling

YEAR = 252
WARM = 200


def normal(draw: np.random.Generator, n: int) -> np.ndarray:
    return draw.standard_normal((n, 2))


def heavy_tails(draw: np.random.Generator, n: int) -> np.ndarray:
    return draw.standard_t(5, (n, 2)) / math.sqrt(5 / 3)


def autocorrelated(draw: np.random.Generator, n: int) -> np.ndarray:
    noise = draw.standard_normal((n + WARM, 2)) * math.sqrt(1 - 0.1**2)
    out = np.zeros_like(noise)
    for t in range(1, len(noise)):
        out[t] = 0.1 * out[t - 1] + noise[t]
    return out[WARM:]


def clustered(draw: np.random.Generator, n: int) -> np.ndarray:
    """GARCH(1, 1) with a mean variance of 1."""
    noise, variance = draw.standard_normal((n + WARM, 2)), np.ones(2)
    out = np.empty_like(noise)
    for t in range(len(noise)):
        out[t] = np.sqrt(variance) * noise[t]
        variance = 0.05 + 0.08 * out[t] ** 2 + 0.87 * variance
    return out[WARM:]


LAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": normal,
    "Student's t, 5 degrees": heavy_tails,
    "AR(1), 0.1": autocorrelated,
    "GARCH(1, 1)": clustered,
}


def coverage(law: str, n: int, sharpe: float, samples: int, draw: np.random.Generator) -> np.ndarray:
    """Share of samples whose interval holds the truth: Sharpe ratio, difference of Sharpe ratios, difference of growth."""
    mean, inside = sharpe * 0.01 / math.sqrt(YEAR), np.zeros(3)
    other = sharpe / math.hypot(0.7, 0.3)  # the Sharpe ratio of the mixture, whose mean is the same
    for _ in range(samples):
        noise = 0.01 * LAWS[law](draw, n)
        a, b = mean + noise[:, 0], mean + 0.7 * noise[:, 0] + 0.3 * noise[:, 1]
        found = (
            (inference.sharpe_interval(a, YEAR), sharpe),
            (inference.sharpe_difference(a, b, YEAR), sharpe - other),
            (inference.growth_difference(a, b, YEAR), 0.0),
        )
        inside += [x.low <= truth <= x.high for x, truth in found]
    return inside / samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args()
    interval.counts = lambda n, block: resampling.counts(n, block, given.resamples)
    draw = np.random.default_rng(given.seed)
    print(
        "| sessions | Sharpe ratio | law | Sharpe ratio | its difference | growth difference |\n|--:|--:|---|--:|--:|--:|"
    )
    for n in (250, 1000):
        for sharpe in (0.0, 1.0):
            for law in LAWS:
                cells = " | ".join(f"{100 * x:.1f} %" for x in coverage(law, n, sharpe, given.samples, draw))
                print(f"| {n:,} | {sharpe:.0f} | {law} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
