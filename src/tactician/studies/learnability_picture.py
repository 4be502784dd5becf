"""The picture of the cost sweep: how much is traded at which cost."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tactician.storage import write_atomically
from tactician.studies.learnability_plan import SWEPT
from tactician.studies.learnability_table import Row


def plot_turnover(rows: Sequence[Row], path: Path) -> bool:
    """Draw the learned turnover beside the optimum's against the cost of trading, as a PNG.

    Returns:
        False, and nothing is written, if the rows hold no sweep.

    Raises:
        UserError: the file cannot be written.
    """
    swept = sorted((float(r.market.removeprefix(SWEPT)), r) for r in rows if r.market.startswith(SWEPT))
    if not swept:
        return False
    costs = [share for share, _ in swept]
    figure = Figure(figsize=(7, 4), layout="constrained")  # pyplot would load the backend that the environment names
    axes = figure.subplots()
    axes.axvline(1, color="0.6", linestyle="--", linewidth=1)
    axes.annotate(
        "trading must stop",
        (1, 0.97),
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="right",
        va="top",
        color="0.4",
    )
    axes.plot(costs, [100 * r.turnover_of_optimum for _, r in swept], "o-", color="0.5", label="optimum")
    axes.plot(costs, [100 * r.turnover for _, r in swept], "s--", color="C0", label="learned (median of seeds)")
    axes.set(
        xlabel="cost of a trade, as a share of the cost at which following the signal earns nothing",
        ylabel="turnover, % of the portfolio per session",
        title="Observable regime: how much is traded at which cost",
        ylim=(-0.5, None),
    )
    axes.legend()
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))
    return True
