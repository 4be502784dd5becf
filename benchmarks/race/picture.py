"""The race in one picture: bars of steps per second, and dots of seconds until 95 % of the optimum's gain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw(whole: Mapping[str, Any], path: Path) -> None:
    """Draw what there is of both parts.

    Args:
        whole: what race.json holds.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    if "speed" in whole:
        _bars(left, whole["speed"])
    if "learning" in whole:
        _dots(right, whole["learning"])
    for axes, part in ((left, "speed"), (right, "learning")):
        if part not in whole:
            axes.set_axis_off()
            axes.text(0.5, 0.5, f"{part}: not measured", ha="center", transform=axes.transAxes)
    figure.savefig(path, dpi=120)


def _bars(axes: Any, speed: Mapping[str, Any]) -> None:
    rates: Mapping[str, float] = speed["steps_per_second"]
    bars = axes.barh(list(rates), list(rates.values()), color="tab:blue")
    axes.bar_label(bars, [f" {rate:,.0f}" for rate in rates.values()])
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("environment steps per second (longer is better)")
    axes.set_title(f"Speed: hidden {speed['hidden_dim']}, {speed['n_gru_layers']} layer(s)")


def _dots(axes: Any, learning: Mapping[str, Any]) -> None:
    """A row of dots per market and contestant, one dot per seed. A hollow triangle stands where the time ended."""
    from matplotlib.ticker import LogLocator

    runs: Sequence[Mapping[str, Any]] = learning["runs"]
    names, markets = (list(dict.fromkeys(run[key] for run in runs)) for key in ("contestant", "market"))
    for number, name in enumerate(names):
        colour = f"C{number}"
        axes.plot([], [], "o", color=colour, label=name)
        own = [run for run in runs if run["contestant"] == name]
        place = {market: k + 0.7 * ((number + 0.5) / len(names) - 0.5) for k, market in enumerate(markets)}
        there = [run for run in own if run["seconds"] is not None]
        late = [run for run in own if run["seconds"] is None]
        axes.plot([r["seconds"] for r in there], [place[r["market"]] for r in there], "o", color=colour)
        axes.plot([r["spent"] for r in late], [place[r["market"]] for r in late], ">", color=colour, fillstyle="none")
    if any(run["seconds"] is None for run in runs):
        limit = f"not in {learning['seconds']:.0f} s, or in all of its steps"
        axes.plot([], [], ">", color="grey", fillstyle="none", label=limit)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(range(len(markets)), markets)
    axes.set_ylim(len(markets) - 0.5, -0.5)
    axes.set_xlabel("seconds of training until 95 % of the optimum's gain (left is better)")
    axes.set_title("Learning")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
