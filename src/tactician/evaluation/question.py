"""What a baseline is asked, and how it answers."""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tactician.environment import MarketTensors
from tactician.portfolio.frictions import Frictions

Targets = tuple[Float[Tensor, "step asset+1"], Bool[Tensor, " step"]]
"""Weights to trade to at each row's close, float64, cash last, and the rows in which nothing is traded. Every row of weights is
non-negative and sums to 1, also where nothing is traded."""


@dataclass(frozen=True)
class Piece:
    """Judged rows that share one training and one validation range, as in a fold of a walk-forward."""

    rows: range
    validation: range | None = None
    train: range | None = None


@dataclass(frozen=True)
class Question:
    """Everything that a baseline may use.

    Raises:
        ValueError: the pieces do not join up to the rows, or a range of a piece is not over when the piece begins.
    """

    market: MarketTensors
    rows: range
    """The judged rows, contiguous."""
    pieces: tuple[Piece, ...] = ()
    """They join up to ``rows``; empty for one piece without other ranges."""
    frictions: Frictions = field(default_factory=Frictions)
    portfolio_value: float = 1.0
    actions: Int64[Tensor, " step"] | None = None
    """The agent's regimes; None if there is no agent."""
    seed: int = 0
    notes: list[str] = field(default_factory=list, compare=False)
    """Remarks for the reader, such as the number of failed optimisations. Baselines append to it."""

    def __post_init__(self) -> None:
        if not self.pieces:
            object.__setattr__(self, "pieces", (Piece(self.rows),))
        if [row for piece in self.pieces for row in piece.rows] != list(self.rows):
            raise ValueError(f"the pieces do not join up to the rows {self.rows.start} to {self.rows.stop}")
        for piece in self.pieces:
            for earlier in (piece.validation, piece.train):
                # The decision in row t knows returns up to row t − 2.
                if earlier is not None and earlier.stop > piece.rows.start - 1:
                    raise ValueError(f"a range up to row {earlier.stop} is not over in row {piece.rows.start}")


@dataclass(frozen=True)
class Baseline:
    """A strategy without learning that the agent is compared with."""

    label: str
    """Its name in tables."""
    targets: Callable[[Question], Targets]
    """Computes its target weights. It raises `NotAvailable` if it cannot."""
    group: str = "simple"
    """'simple', 'regime', "agent's own", 'classical' or 'hindsight'."""
    always: bool = False
    """Whether it is cheap, so that each validation and each printed table has it."""
