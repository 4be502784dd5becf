"""Draw docs/market_memory.png: what is computed per portfolio, and what once per window, in the two networks."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

TARGET = Path(__file__).parent / "market_memory.png"
PORTFOLIOS = 4
MARKET, PORTFOLIO, MEMORY, HEAD = "#cfe2f3", "#fce5cd", "#9fc5e8", "#f9cb9c"
HEIGHT, WIDTH = 0.55, 1.5


def box(axes: Axes, x: float, y: float, text: str, colour: str, width: float = WIDTH) -> None:
    """A box with its centre at (x, y)."""
    corner = (x - width / 2, y - HEIGHT / 2)
    axes.add_patch(FancyBboxPatch(corner, width, HEIGHT, boxstyle="round,pad=0.04", facecolor=colour, edgecolor="0.35"))
    axes.text(x, y, text, ha="center", va="center", fontsize=8)


def arrow(axes: Axes, x0: float, y0: float, x1: float, y1: float) -> None:
    """An arrow from the right edge of one box to the left edge of another."""
    ends = {"xy": (x1 - WIDTH / 2 - 0.06, y1), "xytext": (x0 + WIDTH / 2 + 0.06, y0)}
    axes.annotate("", **ends, arrowprops={"arrowstyle": "->", "color": "0.35", "linewidth": 0.9})


def remembers(axes: Axes, x: float, y: float) -> None:
    """A loop above a box: its state comes from the session before."""
    bend = {"arrowstyle": "->", "connectionstyle": "arc3,rad=1.1", "color": "0.35", "linewidth": 0.9}
    axes.annotate("", xy=(x - 0.35, y + 0.33), xytext=(x + 0.35, y + 0.33), arrowprops=bend)


def draw_recurrent(axes: Axes) -> None:
    """One memory per portfolio."""
    for k in range(PORTFOLIOS):
        y = float(PORTFOLIOS - 1 - k)
        box(axes, 0, y, f"market and\nportfolio {k + 1}", PORTFOLIO)
        box(axes, 2.2, y, "encoder, GRU", MEMORY)
        box(axes, 4.4, y, "heads", HEAD)
        remembers(axes, 2.2, y)
        arrow(axes, 0, y, 2.2, y)
        arrow(axes, 2.2, y, 4.4, y)
    axes.set_title("recurrent: every portfolio remembers", fontsize=10, loc="left")


def draw_market_memory(axes: Axes) -> None:
    """One memory per window."""
    middle = (PORTFOLIOS - 1) / 2
    box(axes, 0, middle, "market", MARKET)
    box(axes, 2.2, middle, "encoder, GRU,\nsummary", MEMORY)
    remembers(axes, 2.2, middle)
    arrow(axes, 0, middle, 2.2, middle)
    for k in range(PORTFOLIOS):
        y = float(PORTFOLIOS - 1 - k)
        box(axes, 4.7, y, f"portfolio {k + 1}", PORTFOLIO)
        box(axes, 6.9, y, "heads", HEAD)
        arrow(axes, 2.2, middle, 4.7, y)
        arrow(axes, 4.7, y, 6.9, y)
    axes.set_title("market_memory: the window remembers, once", fontsize=10, loc="left")


def main() -> None:
    """Draw both networks side by side."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(5.5, 8))
    draw_recurrent(left)
    draw_market_memory(right)
    for axes, last in ((left, 4.4), (right, 6.9)):
        axes.set(xlim=(-0.9, last + 0.9), ylim=(-0.5, PORTFOLIOS - 0.3))
        axes.axis("off")
    figure.savefig(TARGET, dpi=110)


if __name__ == "__main__":
    main()
