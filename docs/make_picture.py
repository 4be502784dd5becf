"""Draw docs/overview.png, README's picture: what is found where it is known, and what is said where it is not.

The left half is of benchmarks/results/learnability.json. The right half is of the report that `tactician walk-forward --config
embedded_sp500` has left in its default folder: ``python docs/make_picture.py [REPORT.json]``.
"""

import json
import math
import sys
from datetime import date
from itertools import accumulate
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, YearLocator
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

ROOT = Path(__file__).parent.parent
STUDY, TARGET = ROOT / "benchmarks/results/learnability.json", ROOT / "docs/overview.png"
JUDGED = Path(sys.argv[1] if len(sys.argv) > 1 else "checkpoints/embedded_sp500/walk_forward/report.json")
MARKETS = {
    "oracle": "tomorrow is announced",
    "observable": "a regime that is seen",
    "hidden": "a regime in noisy returns",
    "regimes": "twelve regimes, real costs",
    "predictable": "a signal that fades",
}
SHOWN = {"agent": ("Agent", "C0", 2.0), "equal_weight": ("Equal weight", "0.3", 1.2), "cash": ("Cash", "0.7", 1.2)}


def draw_found(axes: Axes) -> None:
    """Bars: the share of the best policy's gain, by market."""
    rows = {row["market"]: row for row in json.loads(STUDY.read_text())["table"] if row["variant"] == "window"}
    shares = [100 * rows[name]["share"] for name in MARKETS]
    lows = [100 * (rows[name]["share"] - rows[name]["share_low"]) for name in MARKETS]
    highs = [100 * (rows[name]["share_high"] - rows[name]["share"]) for name in MARKETS]
    places = range(len(MARKETS), 0, -1)
    axes.barh(places, shares, xerr=(lows, highs), color="C0", alpha=0.75, ecolor="0.2", capsize=3, height=0.6)
    for place, share in zip(places, shares, strict=True):
        axes.text(3, place, f"{share:.1f} %", va="center", color="white", fontweight="bold")
    axes.set_yticks([*places, 0], [*MARKETS.values(), "nothing to find"])
    axes.text(3, 0, "no trade, as is right", va="center", color="0.3")
    axes.axvline(100, color="0.4", linestyle="--", linewidth=1)
    axes.set(
        xlim=(0, 108),
        ylim=(-0.5, len(MARKETS) + 0.5),
        xlabel="% of the optimum's gain over the best constant regime\n(median and range of 5 seeds)",
    )
    axes.set_title(
        "Six synthetic markets whose best policy is known:\nhow much of its gain is found", fontsize=10, loc="left"
    )


def draw_judged(axes: Axes) -> None:
    """Wealth over all test pieces, with the seeds' band, and the verdict above it."""
    report = json.loads(JUDGED.read_text())
    days = [date.fromisoformat(day) for day in report["dates"]]
    band = report["band"]
    axes.fill_between(days, band["low"], band["high"], color="C0", alpha=0.15, linewidth=0, label="Each seed alone")
    for curve in report["curves"]:
        if curve["name"] in SHOWN:
            label, colour, width = SHOWN[curve["name"]]
            wealth = [math.exp(grown) for grown in accumulate(curve["growth"])]
            axes.plot(days, wealth, color=colour, linewidth=width, label=label)
    axes.xaxis.set_major_locator(YearLocator(2))
    axes.xaxis.set_major_formatter(DateFormatter("%Y"))
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g} ×")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks([1, 2, 4])
    axes.set_ylabel("wealth, net of costs")
    verdict = report["verdict"]["text"].partition(" (")[0].rstrip(".")
    axes.set_title(f"Real prices, five folds, each tested once:\n{verdict}", fontsize=10, loc="left")


def main() -> None:
    """Draw both halves and write the file."""
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    draw_found(left)
    draw_judged(right)
    figure.savefig(TARGET, dpi=110)
    print(f"Wrote {TARGET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
