"""Portfolio regimes: the target weights that an action stands for.

A regime is a share of cash and a rule for the rest. The rule is data, not code: a tilt by one factor score
(:class:`FactorTilt`) or a set of groups of the universe (:class:`GroupSplit`). A table of regimes is built once. It turns
a market's scores into target weights for every session, and each session's weights depend on that session's row alone.
docs/regimes.md describes the tables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tactician.errors import UserError
from tactician.market.factors import FACTORS

OVERWEIGHT = 3.0
"""Ratio of an overweighted asset's weight to another's. With 3, the better half holds 75 % of the money."""

EQUAL_WEIGHT_REGIME = "EQUAL_WEIGHT"
"""Name of the regime that holds equal weight, in tables that have one."""

MIN_GROUPS, MAX_GROUPS = 2, 5
"""Number of groups that the generated tables accept. The regimes double with each group, to 64 at five."""


def tilt_weights(
    score: Float[Tensor, "*batch asset"],
    tradable: Bool[Tensor, "*batch asset"],
    top: float = 0.5,
    overweight: float = OVERWEIGHT,
) -> Float[Tensor, "*batch asset"]:
    """Weights over the tradable assets, with the best ones overweighted.

    The ``ceil(top·n)`` of ``n`` tradable assets with the highest scores get ``overweight`` times the weight of the others.
    Equal scores are ranked in asset order. An asset without a score (NaN) ranks last and is never overweighted. The weights
    are equal if no tradable asset has a score, or all have the same.

    Args:
        score: factor score, higher is better.
        tradable: which assets can be held.
        top: share of the tradable assets to overweight, in (0, 1].
        overweight: ratio of the two weights, at least 1; infinity holds only the best ones.

    Returns:
        Weights of the score's dtype. Each row sums to 1, or is zero if nothing is tradable.
    """
    scored = tradable & ~score.isnan()
    # Two stable sorts: by score, then assets with a usable score before all others, wherever the first sort put NaN.
    by_score = score.argsort(dim=-1, descending=True, stable=True)
    scored_first = scored.gather(-1, by_score).to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    order = by_score.gather(-1, scored_first)
    rank = order.argsort(dim=-1)
    # Double precision less 1e-9, so that 0.07 · 100 = 7.000000000000001 counts seven assets and not eight.
    count = (tradable.sum(-1, keepdim=True).double() * top - 1e-9).ceil()
    best = scored & (rank < count)
    # If all scores are equal, nobody is overweighted: otherwise asset order would decide.
    highest = score.masked_fill(~scored, -torch.inf).amax(-1, keepdim=True)
    best = best & (tradable & ~(scored & (score == highest))).any(-1, keepdim=True)
    raw = torch.full_like(score, 1.0 / overweight).masked_fill(best, 1.0) * tradable
    raw = torch.where(best.any(-1, keepdim=True), raw, tradable.to(score.dtype))
    return _normalise(raw)


def _normalise(raw: Float[Tensor, "*batch asset"]) -> Float[Tensor, "*batch asset"]:
    """Scale rows to sum 1. A row of zeros stays zero."""
    return raw / raw.sum(-1, keepdim=True).clamp_min(torch.finfo(raw.dtype).tiny)


@dataclass(frozen=True)
class FactorTilt:
    """Rule: tilt towards the best assets by one factor score; without a factor, equal weight."""

    factor: str | None = None
    top: float = 0.5
    overweight: float = OVERWEIGHT

    def weights(
        self, scores: Float[Tensor, "session asset factor"], tradable: Bool[Tensor, "session asset"]
    ) -> Float[Tensor, "session asset"]:
        """Risky weights. They sum to 1, or to 0 in a session without a tradable asset."""
        if self.factor is None:
            return _normalise(tradable.to(scores.dtype))
        return tilt_weights(scores[..., FACTORS.index(self.factor)], tradable, self.top, self.overweight)


@dataclass(frozen=True)
class GroupSplit:
    """Rule: equal shares for the groups that have a tradable asset, equal weights inside each group."""

    groups: tuple[tuple[int, ...], ...]
    """Positions of the assets of each group."""

    def weights(
        self, scores: Float[Tensor, "session asset factor"], tradable: Bool[Tensor, "session asset"]
    ) -> Float[Tensor, "session asset"]:
        """Risky weights. They sum to 1, or to 0 in a session without a tradable asset in the groups."""
        total = torch.zeros_like(scores[..., 0])
        for positions in self.groups:
            member = torch.zeros_like(tradable)
            member[..., list(positions)] = True
            total = total + _normalise((member & tradable).to(scores.dtype))
        return _normalise(total)


@dataclass(frozen=True)
class Regime:
    """One action: a share of cash, and a rule for the rest. HOLD and FULL_CASH have no rule."""

    name: str
    kind: str
    """'hold', 'cash', 'factor', 'mixed' or 'group'."""
    description: str
    cash: float = 0.0
    rule: FactorTilt | GroupSplit | None = None


def equal_weight_action(names: Sequence[str]) -> int:
    """The action of a policy that has found nothing: the regime of that name, else the last, which then stands for it."""
    return names.index(EQUAL_WEIGHT_REGIME) if EQUAL_WEIGHT_REGIME in names else len(names) - 1


def names_shown(names: Sequence[str], strength: float) -> tuple[str, ...]:
    """The names of regimes that are followed so far. At 0 all hold equal weight, and the one that is chosen says so.

    Args:
        names: of a table's regimes.
        strength: see `RegimeTable`.
    """
    if strength:
        return tuple(names)
    chosen = equal_weight_action(names)
    return tuple(EQUAL_WEIGHT_REGIME if k == chosen else name for k, name in enumerate(names))


@dataclass(frozen=True)
class RegimeTable:
    """The agent's actions in order; HOLD is always 0 and FULL_CASH always 1."""

    kind: str
    """Its name in `REGIME_TABLES`."""
    regimes: tuple[Regime, ...]
    strength: float = 1.0
    """How far targets go from equal weight to the regime's own: 1 is all the way, 0 makes every regime equal weight."""

    @property
    def names(self) -> tuple[str, ...]:
        """Upper-case names, each once, as they are shown with this strength (`names_shown`)."""
        return names_shown([r.name for r in self.regimes], self.strength)

    @property
    def kinds(self) -> tuple[str, ...]:
        """'hold', 'cash', 'factor', 'mixed' or 'group', by regime."""
        return tuple(r.kind for r in self.regimes)

    @property
    def n_actions(self) -> int:
        """Number of regimes R."""
        return len(self.regimes)

    def description(self, action: int) -> str:
        """What a regime holds, as far as it is followed."""
        regime = self.regimes[action]
        if self.strength == 1 or regime.kind == "hold":
            return regime.description
        if self.strength == 0:
            return _EQUAL_WEIGHT.description
        return f"{regime.description}, for {100 * self.strength:.0f} %; the rest in equal weight"

    @property
    def is_hold(self) -> Bool[Tensor, " regime"]:
        """True for a regime that keeps the holdings; its target weights have no meaning."""
        return torch.tensor([r.kind == "hold" for r in self.regimes])

    def weights(
        self, scores: Float[Tensor, "session asset factor"], tradable: Bool[Tensor, "session asset"]
    ) -> Float[Tensor, "session regime asset_and_cash"]:
        """Target weights of every regime, cash in the last column.

        Row t uses row t of the arguments and nothing else. The caller passes data known at the decision.

        Args:
            scores: factor scores in the order of :data:`FACTORS`; NaN for a missing one.
            tradable: which assets can be held.

        Returns:
            Weights of the scores' dtype. Rows are non-negative and sum to 1. The share of an asset that is not tradable
            goes to the rule's other assets, or to cash if there are none. The row of HOLD is zero.
        """
        return torch.stack([self.target(k, scores, tradable) for k in range(self.n_actions)], dim=-2)

    def target(
        self, index: int, scores: Float[Tensor, "session asset factor"], tradable: Bool[Tensor, "session asset"]
    ) -> Float[Tensor, "session asset_and_cash"]:
        """Target weights of one regime, as in :meth:`weights`."""
        own = _target(self.regimes[index], scores, tradable)
        if self.strength == 1 or self.regimes[index].kind == "hold":
            return own
        # A weight of exactly 0 leaves the other to the last bit, so at 0 the agent's path is that of equal weight.
        return self.strength * own + (1 - self.strength) * _target(_EQUAL_WEIGHT, scores, tradable)


def _target(
    regime: Regime, scores: Float[Tensor, "session asset factor"], tradable: Bool[Tensor, "session asset"]
) -> Float[Tensor, "session asset_and_cash"]:
    """A regime's own target weights, as in `RegimeTable.weights`."""
    risky = torch.zeros_like(scores[..., 0])
    if regime.rule is not None:
        risky = regime.rule.weights(scores, tradable) * (1.0 - regime.cash)
    cash = torch.full_like(risky[..., 0], regime.cash)
    if regime.kind != "hold":
        cash = cash.masked_fill(risky.sum(-1) == 0, 1.0)
    return torch.cat([risky, cash.unsqueeze(-1)], dim=-1)


def regime_table(kind: str, symbols: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None) -> RegimeTable:
    """Build one of `REGIME_TABLES`: HOLD, FULL_CASH and the regimes of its kind.

    Args:
        kind: a key of `REGIME_TABLES`. 'factor' has 12 regimes for any universe. From n groups, 'static' makes
            2 + 2·(2ⁿ − 1) regimes, and 'expanded' makes 2 + (2ⁿ − 1) + n + 3.
        symbols: risky symbols in the order of the market's columns.
        groups: symbols by group; needed by 'static' and 'expanded'.

    Raises:
        UserError: the kind is unknown, or the groups are unusable. They may be missing, too few or too many, name a symbol
            that the market lacks, or lead to two regimes of one name.
    """
    if kind not in REGIME_TABLES:
        *others, last = REGIME_TABLES
        raise UserError(f"regimes: there is no table '{kind}'; choose {', '.join(others)} or {last}.")
    table = RegimeTable(kind, _BASE + tuple(REGIME_TABLES[kind](symbols, groups)))
    if len(set(table.names)) < table.n_actions:
        twice = next(name for name in table.names if table.names.count(name) > 1)
        raise UserError(f"universe: its groups make two regimes named {twice}; rename a group.")
    return table


def _checked_groups(
    kind: str, symbols: Sequence[str], groups: Mapping[str, Sequence[str]] | None
) -> dict[str, tuple[str, ...]]:
    if not groups:
        raise UserError(f"universe: the regimes '{kind}' are made from groups; list the symbols by group.")
    if not MIN_GROUPS <= len(groups) <= MAX_GROUPS:
        raise UserError(
            f"universe: the regimes '{kind}' need {MIN_GROUPS} to {MAX_GROUPS} groups and there are {len(groups)}; "
            "regroup the symbols or use --regimes factor."
        )
    for name, group in groups.items():
        if not group:
            raise UserError(f"universe: the group '{name}' is empty; add a symbol or remove it.")
        for symbol in group:
            if symbol not in symbols:
                raise UserError(
                    f"universe: the group '{name}' names {symbol}, which the market does not hold; "
                    "remove it or rebuild the cache."
                )
    return {name: tuple(group) for name, group in groups.items()}


class _Groups:
    """Names and rules for sets of groups."""

    def __init__(self, symbols: Sequence[str], members: Mapping[str, tuple[str, ...]]) -> None:
        self._positions = {name: tuple(symbols.index(s) for s in group) for name, group in members.items()}
        # A group of one symbol takes the symbol's name, which says more than the group's.
        self._labels = {name: (group[0] if len(group) == 1 else name).upper() for name, group in members.items()}

    def label(self, subset: Sequence[str]) -> str:
        whole = len(subset) == len(self._labels)
        return "ALL" if whole else "+".join(self._labels[name] for name in subset)

    def regime(self, name: str, subset: Sequence[str], cash: float = 0.0) -> Regime:
        what = (
            "equal shares of " + ", ".join(self._labels[g] for g in subset) if len(subset) > 1 else self.label(subset)
        )
        rule = GroupSplit(tuple(self._positions[g] for g in subset))
        if cash == 0:
            return Regime(name, "group", f"100% {what}", 0.0, rule)
        return Regime(name, "mixed", f"{cash:.0%} cash + {1 - cash:.0%} {what}", cash, rule)


_Subsets = Sequence[tuple[str, ...]]
"""All sets of groups except the empty one, small sets first."""


def _static_regimes(groups: _Groups, subsets: _Subsets) -> list[Regime]:
    full = [groups.regime(groups.label(c), c) for c in subsets]
    return full + [groups.regime(f"HALF_{groups.label(c)}", c, 0.5) for c in subsets]


def _expanded_regimes(groups: _Groups, subsets: _Subsets) -> list[Regime]:
    full = [groups.regime(groups.label(c), c) for c in subsets]
    halves = [groups.regime(f"HALF_{groups.label(c)}", c, 0.5) for c in subsets if len(c) == 1]
    return full + halves + [groups.regime(f"ALL_CASH{cash}", subsets[-1], cash / 100) for cash in (25, 50, 75)]


_EQUAL = FactorTilt()
_EQUAL_WEIGHT = Regime(EQUAL_WEIGHT_REGIME, "factor", "Equal weight of all assets", 0.0, _EQUAL)
_MOMENTUM, _LOW_VOL, _QUALITY, _SIZE = (FactorTilt(factor) for factor in FACTORS)

_BASE = (
    Regime("HOLD", "hold", "Keep current allocation"),
    Regime("FULL_CASH", "cash", "100% cash", cash=1.0),
)
_FACTOR_REGIMES = (
    Regime("DEFENSIVE", "cash", "50% cash + 50% equal weight", 0.5, _EQUAL),
    Regime("LIGHT_CASH", "cash", "25% cash + 75% equal weight", 0.25, _EQUAL),
    _EQUAL_WEIGHT,
    Regime("MOMENTUM", "factor", "Overweight the top 50% by 20-day momentum", 0.0, _MOMENTUM),
    Regime("LOW_VOL", "factor", "Overweight the 50% with the lowest 20-day volatility", 0.0, _LOW_VOL),
    Regime("QUALITY", "factor", "Overweight the top 50% by 20-day Sharpe ratio", 0.0, _QUALITY),
    Regime("SIZE_SMALL", "factor", "Overweight the 50% with the lowest price", 0.0, _SIZE),
    Regime("SAFE_MOMENTUM", "mixed", "30% cash + 70% momentum tilt", 0.3, _MOMENTUM),
    Regime("SAFE_QUALITY", "mixed", "30% cash + 70% quality tilt", 0.3, _QUALITY),
    Regime("RISK_ON", "mixed", "Only the top 30% by 20-day momentum", 0.0, FactorTilt("momentum", 0.3, float("inf"))),
)

Regimes = Callable[[Sequence[str], Mapping[str, Sequence[str]] | None], Sequence[Regime]]
"""The regimes after HOLD and FULL_CASH, from the risky symbols and the symbols by group."""


def _of_groups(kind: str, generate: Callable[[_Groups, _Subsets], list[Regime]]) -> Regimes:
    """A maker of regimes that generates them from all sets of groups."""

    def regimes(symbols: Sequence[str], groups: Mapping[str, Sequence[str]] | None) -> list[Regime]:
        members = _checked_groups(kind, symbols, groups)
        subsets = [c for size in range(1, len(members) + 1) for c in combinations(members, size)]
        return generate(_Groups(symbols, members), subsets)

    return regimes


REGIME_TABLES: dict[str, Regimes] = {
    "factor": lambda symbols, groups: _FACTOR_REGIMES,
    "static": _of_groups("static", _static_regimes),
    "expanded": _of_groups("expanded", _expanded_regimes),
}
"""Makers of the regimes after HOLD and FULL_CASH, by the kind of table."""
