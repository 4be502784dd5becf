"""Draw docs/overview.png, README's picture: what is found where it is known, and what is said where it is not.

The left half is of benchmarks/results/learnability.json. The right half is of the model that `make train` has left, judged
again (the look is counted): ``python docs/make_picture.py``.
"""

import json
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, YearLocator
from matplotlib.figure import Figure

import tactician

ROOT = Path(__file__).parent.parent
STUDY, TARGET = ROOT / "benchmarks/results/learnability.json", ROOT / "docs/overview.png"
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
    """Wealth over the held-out test range, with the verdict above it."""
    config = tactician.load_config("embedded_sp500")
    result = tactician.evaluate(config.checkpoint_dir / "model_best.pt", split="test")
    market = tactician.load_market(config)
    first = next(k for k in range(market.n_days) if str(market.date_of(k)) == result.first)
    days = [market.date_of(first + k) for k in range(len(result.path.growth))]
    for name, (label, colour, width) in SHOWN.items():
        wealth = torch.exp(result.path.growth[:, result.path.column(name)].cumsum(0))
        axes.plot(days, wealth.tolist(), color=colour, linewidth=width, label=label)
    axes.xaxis.set_major_locator(YearLocator())
    axes.xaxis.set_major_formatter(DateFormatter("%Y"))
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    axes.set_ylabel("wealth, net of costs")
    axes.set_title(f"Real prices, held out:\n{result.verdict.partition(' (')[0]}", fontsize=10, loc="left")


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
