"""How near each phase of training is to what a device can do: its rate of products, and of bytes (a roofline).

A phase that makes I floating-point operations per byte of memory traffic cannot be faster than min(I · bandwidth, rate of
products) (Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model"). The picture shows this
ceiling as it was measured, by copies and by products of large bfloat16 matrices, and one point per phase.

    python benchmarks/roofline.py measured.json --picture roofline.png

The JSON has `device`, `copy_tb_per_s` (bytes read and written), `matmul_tflop_per_s`, and `phases`, a list of objects with
`name`, `flop_per_step`, `bytes_per_step` and `seconds_per_step`. A step is one environment's.

The functions of this file count operations and bytes per step. They count what no implementation can save, if it keeps the
network as it is: matrix products, and tensors that must pass through memory. So a point shows useful work over the time that
it took, and its intensity is the best that could be reached, not that of today's kernels.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_line import run

from tactician.errors import UserError

FLOAT = 4
"""Bytes of an entry that stays in float32: observations, recurrent states, what a rollout stores."""

INT = 4
"""Bytes of a day (row of the market) or an action that a rollout stores."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the specified network (`tactician.policy.ActorCritic`)."""

    hidden: int = 256
    """H."""
    layers: int = 2
    """L, of the GRU."""
    actions: int = 12
    """R."""
    obs: int = 64
    portfolio: int = 20
    """Entries of an observation that differ between the portfolios of a day. The others are looked up in the market."""
    encoder_layers: int = 2
    head: int = 128
    dropout: bool = True
    """Whether there are dropout masks, which differ between environments."""

    @property
    def trunk_weights(self) -> int:
        """Entries of the matrices in encoder and GRU: obs·H + (E − 1)·H² + 6·L·H²; an encoder of 0 layers has obs·H."""
        further = max(self.encoder_layers - 1, 0)
        return self.obs * self.hidden + (further + 6 * self.layers) * self.hidden**2

    @property
    def actor_weights(self) -> int:
        """Entries of the matrices in the policy's head: 128·H + 128·R."""
        return self.head * (self.hidden + self.actions)

    @property
    def value_weights(self) -> int:
        """Entries of the matrices in the value's head: 128·H + 128."""
        return self.head * (self.hidden + 1)

    @property
    def kept(self) -> int:
        """Entries per step that the backward pass needs: 2·E·H + 5·L·H + 4·128 + R + 1.

        Of each encoder layer what the ReLU let through and the normalised result (H entries for 0 layers). Of a GRU
        layer r, z, n, W_hn h + b_hn and the state. Of each head twice its hidden layer. And the logits and the value.
        """
        encoder = max(2 * self.encoder_layers, 1) * self.hidden
        return encoder + 5 * self.layers * self.hidden + 4 * self.head + self.actions + 1

    @property
    def kept_of_value(self) -> int:
        """The value head's part of them: 2·128 + 1."""
        return 2 * self.head + 1


def rollout_flop(shape: Shape) -> int:
    """Operations of one step of acting: 2 · (trunk + actor + value), a product and a sum for each weight."""
    return 2 * (shape.trunk_weights + shape.actor_weights + shape.value_weights)


def rollout_bytes(shape: Shape) -> int:
    """Least bytes of one step of acting: 4·obs + (2 + m)·4·L·H + 4·20 + 16.

    The observation is read, the recurrent state read and written, and the dropout mask read (m is 1 with dropout, else 0).
    Then the portfolio's 20 entries, day, action, log-probability and value are stored. Weights stay in the cache.
    """
    state = FLOAT * shape.layers * shape.hidden
    return FLOAT * shape.obs + (2 + shape.dropout) * state + FLOAT * shape.portfolio + 2 * INT + 2 * FLOAT


def joint_flop(shape: Shape, epochs: int = 1) -> int:
    """Operations per step of the joint epochs: 3 · `rollout_flop` for each, since a backward pass costs two forward ones."""
    return 3 * epochs * rollout_flop(shape)


def joint_bytes(shape: Shape, epochs: int = 1, width: int = 2) -> int:
    """Least bytes per step of the joint epochs: E · (4·20 + 20 + 2·w·kept).

    In each epoch the portfolio's entries, day, action, log-probability, advantage and target are read. What the backward
    pass needs is written once and read once, in w bytes an entry, since a minibatch is larger than a cache. First states and
    masks, which are read once per sequence, are left out.
    """
    return epochs * (FLOAT * shape.portfolio + 2 * INT + 3 * FLOAT + 2 * width * shape.kept)


def critic_flop(shape: Shape, epochs: int = 1, trunk_passes: int = 0) -> int:
    """Operations per step of the critic epochs: C · 3 · 2 · value head, and 2 · trunk for each pass that makes the features.

    Args:
        shape: of the network.
        epochs: C.
        trunk_passes: 1 if the features are made once for all epochs, C if in each of them, 0 to leave them out.
    """
    return 6 * epochs * shape.value_weights + 2 * trunk_passes * shape.trunk_weights


def critic_bytes(shape: Shape, epochs: int = 1, width: int = 2) -> int:
    """Least bytes per step of the critic epochs: C · (w·H + 4 + 2·w·(2·128 + 1)).

    In each epoch the features and the target are read, and what the value head's backward pass needs is written and read.
    """
    return epochs * (width * shape.hidden + FLOAT + 2 * width * shape.kept_of_value)


def environment_flop(assets: int, actions: int, factors: int = 4) -> int:
    """Operations of one step of the environment, counted in the order of A·R and A: 7·A·R + (24 + 4 + 2·F)·A.

    The observed cost of each of R moves takes per asset a difference, its absolute value, and x·(a + b·√x) with its sum. The
    trade evaluates its cost three times, with 8 operations per asset. Holdings grow twice (1 + r, and the product). The
    exposures to F factors are products. Random numbers are integers and do not count.
    """
    return 7 * assets * actions + (24 + 4 + 2 * factors) * assets


def environment_bytes(assets: int, obs: int = 64, portfolios_per_window: int = 1) -> float:
    """Least bytes of one step of the environment, float32: 2·(4·(A + 1) + 21 + 32/P) + 8 + 4·obs + 29.

    The state is read and written: holdings of A assets and cash, regime and sessions since the trade (int64), growth of the
    trade, and whether it is open; and four int64 per window of P portfolios. The action (int64) is read. Observation and
    outcome are written: reward, four costs, turnover, return of the trade, and whether one ended. The market's tensors
    are the same for all environments and count as cached.
    """
    state = FLOAT * (assets + 1) + 2 * 8 + FLOAT + 1 + 4 * 8 / portfolios_per_window
    outcome = FLOAT * (1 + 4 + 1 + 1) + 1
    return 2 * state + 8 + FLOAT * obs + outcome


@dataclass(frozen=True)
class Point:
    """A phase in the picture."""

    name: str
    intensity: float
    """Operations per byte."""
    rate: float
    """TFLOP/s."""
    ceiling: float
    """TFLOP/s that the device could reach at this intensity."""

    @property
    def label(self) -> str:
        """Its name, and the share of the ceiling that it reaches."""
        return f"{self.name} ({100 * self.rate / self.ceiling:.2g} %)"


def points(measured: Mapping[str, Any]) -> list[Point]:
    """Where the phases lie.

    Args:
        measured: what the JSON holds.

    Raises:
        UserError: a key is missing, or a figure is not a positive number.
    """
    copy, product = (_positive(measured, key, "the measurements") for key in ("copy_tb_per_s", "matmul_tflop_per_s"))
    found = []
    phases = measured.get("phases")
    for number, phase in enumerate(phases if isinstance(phases, list) else [], 1):
        name = str(phase.get("name", number) if isinstance(phase, Mapping) else number)
        flop, moved, seconds = (
            _positive(phase, f"{key}_per_step", f"phase '{name}'") for key in ("flop", "bytes", "seconds")
        )
        # TB/s times FLOP per byte are TFLOP/s.
        found.append(Point(name, flop / moved, flop / seconds / 1e12, min(product, copy * flop / moved)))
    if not found:
        raise UserError("the measurements name no phases; 'phases' must be a list of at least one.")
    return found


def _positive(mapping: Mapping[str, Any], key: str, where: str) -> float:
    if not isinstance(mapping, Mapping):
        raise UserError(f"{where} must be an object with the key '{key}'.")
    value = mapping.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UserError(f"'{key}' of {where} is {value!r}; it must be a positive number.")
    return float(value)


def draw(measured: Mapping[str, Any], path: Path) -> None:
    """Draw the ceilings and the phases.

    Args:
        measured: what the JSON holds.
        path: of the PNG.

    Raises:
        UserError: see `points`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = points(measured)
    copy, product = float(measured["copy_tb_per_s"]), float(measured["matmul_tflop_per_s"])
    ridge = product / copy
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    left, right = min(ridge, *(p.intensity for p in found)) / 4, max(ridge, *(p.intensity for p in found)) * 8
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(min(copy * left, *(p.rate for p in found)) / 3, product * 3)
    axes.plot([left, ridge, right], [copy * left, product, product], color="black")
    axes.grid(alpha=0.3)
    axes.set_xlabel("floating-point operations per byte of memory traffic, at best")
    axes.set_ylabel("TFLOP/s")
    axes.set_title(f"{measured.get('device', 'device')}: share of the ceiling that each phase reaches")
    for number, point in enumerate(found):
        axes.plot([point.intensity] * 2, [point.rate, point.ceiling], ":", color=f"C{number}", linewidth=1)
        axes.plot(point.intensity, point.rate, "o", color=f"C{number}")
    figure.draw_without_rendering()  # places on paper are known only after the layout
    _name_ceilings(axes, copy, product, (left, ridge, right))
    _label(axes, found)
    figure.savefig(path, dpi=120)


def _name_ceilings(axes: Any, copy: float, product: float, places: tuple[float, float, float]) -> None:
    """Say along each ceiling what was measured. The layout must stand, since the slope on paper depends on it."""
    left, ridge, right = places
    above = {"xytext": (0, 4), "textcoords": "offset points", "fontsize": "small", "rotation_mode": "anchor"}
    axes.annotate(f"bfloat16 products: {product:,.4g} TFLOP/s", (right / 1.1, product), ha="right", **above)
    (x, y), (far, high) = axes.transData.transform([(left, copy * left), (ridge, product)])
    middle, slope = (left * ridge) ** 0.5, math.degrees(math.atan2(high - y, far - x))
    axes.annotate(f"copies: {copy:.3g} TB/s", (middle, copy * middle), ha="center", rotation=slope, **above)


def _label(axes: Any, found: Sequence[Point]) -> None:
    """Write each phase's label at the nearest place that is free of points, lines and other labels."""
    from matplotlib.path import Path as Line
    from matplotlib.text import Text

    renderer = axes.figure.canvas.get_renderer()
    inside = axes.get_window_extent(renderer)
    marks = axes.transData.transform([(p.intensity, p.rate) for p in found])
    taken = [text.get_window_extent(renderer) for text in axes.texts]
    lines = [line.get_path().transformed(line.get_transform()) for line in axes.lines if line.get_linestyle() != "None"]

    def covered(box: Any, leader: Any) -> int:
        """How much a label and the line to its point would cover. To leave the picture is the worst."""
        corners = sum(not inside.contains(*corner) for corner in box.corners())
        covers = sum(box.overlaps(other) for other in taken) + sum(box.contains(*mark) for mark in marks)
        covers += sum(leader.intersects_bbox(other, filled=False) for other in taken)
        return 100 * corners + 10 * covers + sum(line.intersects_bbox(box, filled=False) for line in lines)

    for number, point in enumerate(found):
        colour, written = f"C{number}", []
        for dx, dy in _places():
            text = axes.annotate(
                point.label,
                (point.intensity, point.rate),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="center",
                fontsize="small",
                color=colour,
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8} if math.hypot(dx, dy) > 15 else None,
            )
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # without the line to the point
            leader = Line([marks[number], ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)])
            written.append((covered(box.padded(2), leader), len(written), text, box, leader))
            if written[-1][0] == 0:
                break
        best = min(written)  # of equal ones the nearest
        for other in written:
            if other is not best:
                other[2].remove()
        taken.append(best[3])
        lines.append(best[4])


def _places() -> list[tuple[float, float]]:
    """Offsets of a label in points, the nearest first."""
    rings = [(x * k, y * k) for k in range(1, 12) for y in (14.0, 28.0, -14.0, -28.0) for x in (14.0, -14.0)]
    return [(9.0, 0.0), (-9.0, 0.0), (0.0, -13.0), (0.0, 13.0), *sorted(rings, key=lambda place: math.hypot(*place))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path, help="the JSON of measurements")
    parser.add_argument("--picture", type=Path, default=Path("roofline.png"))
    args = parser.parse_args()
    try:
        measured = json.loads(args.measured.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{args.measured} cannot be read as JSON ({error}); name a file of measurements.") from error
    draw(measured, args.picture)
    for point in points(measured):
        print(f"{point.label}: {point.intensity:.3g} FLOP/byte, {point.rate:.3g} of {point.ceiling:.3g} TFLOP/s")


if __name__ == "__main__":
    run(main)
