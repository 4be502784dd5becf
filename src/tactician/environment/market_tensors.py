"""The market for the environment: tensors on the device. The one-session lag is applied here and nowhere else."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tactician.environment.features import FEATURE_NAMES, FEATURE_VERSION, market_features, rank_scores
from tactician.environment.held_out import groups_of
from tactician.errors import UserError
from tactician.market import Market
from tactician.portfolio.regimes import RegimeTable, regime_table

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class MarketTensors:
    """D decision sessions of A risky assets. Row t belongs to the decision at the close of session t.

    * The agent *sees* features, ranks, regime targets, tradable, volatility and volume of sessions ≤ t − 1.
    * The ledger alone uses ``fillable`` and ``delisted``, which are of session t.
    * The decision *earns* ``returns`` and ``cash_return``, from the close of t to the close of t + 1.
    """

    dates: Int64[Tensor, " day"]
    """Decision sessions, in days since 1970-01-01."""
    end_dates: Int64[Tensor, " day"]
    """The session at whose close the row's return ends."""
    symbols: tuple[str, ...]
    returns: Float[Tensor, "day asset"]
    """Total return from close t to close t + 1, simple, decimal."""
    cash_return: Float[Tensor, " day"]
    """Return of cash from close t to close t + 1, at the rate quoted at t."""
    features: Float[Tensor, "day feature"]
    """Market features in their own units; the environment holds a normalised copy."""
    regime_weights: Float[Tensor, "day regime asset+1"]
    """Target weights of every regime, cash last; the HOLD row is zero."""
    tradable: Bool[Tensor, "day asset"]
    """Whether a rule may hold the asset."""
    fillable: Bool[Tensor, "day asset"]
    """Whether an order at this row's close can be filled. It is of the session itself, so only the ledger may use it."""
    delisted: Bool[Tensor, "day asset"]
    """Whether the asset's last bar lies before this row's session, so that its holding is cash. Only for the ledger, too."""
    factor_ranks: Float[Tensor, "day asset factor"]
    """Cross-sectional ranks of the factor scores in [−1, 1]."""
    vol_daily: Float[Tensor, "day asset"]
    """Daily volatility over 20 sessions."""
    dollar_volume: Float[Tensor, "day asset"]
    """Mean daily traded value over 20 sessions, in currency; NaN if an asset has no volumes or no price as traded."""
    regimes: RegimeTable
    fingerprint: str
    """sha256 of the market's bars, cash rates and rules, and of the features' version."""
    built_from: Mapping[str, str]
    """The settings that it was built from, by configuration key, and the source's name."""
    findings: tuple[str, ...] = ()
    """Findings about the bars."""
    sessions_per_year: int = 252
    """Figures are annualised by it."""
    beside: tuple["MarketTensors", ...] = ()
    """Further markets, which training may use beside this one (`further`)."""
    remaining: "MarketTensors | None" = None
    """The market of the names that training may see, if some are held out."""
    held_out: "MarketTensors | None" = None
    """The market of the held-out names alone."""

    @property
    def n_days(self) -> int:
        """D, the number of decision sessions."""
        return len(self.dates)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.returns.device

    @cached_property
    def always_fillable(self) -> bool:
        """Whether every asset that a portfolio may hold can be traded in every row. Then the ledger needs no masks."""
        held = self.tradable.cumsum(0) > 0
        return not bool((held & (~self.fillable | self.delisted)).any())

    @property
    def equal_weight_returns(self) -> Float[Tensor, " day"]:
        """Return of equal weight of the tradable assets from close t to close t + 1, without costs; 0 if there is none."""
        return torch.where(self.tradable, self.returns, 0.0).sum(-1) / self.tradable.sum(-1).clamp(min=1)

    def canonical_regimes(self, rows: range) -> Int64[Tensor, " regime"]:
        """For every regime, the first regime with the same targets in all of these rows. A move between them is no trade.

        Other rows do not count: what differs only later is not known yet.
        """
        first: dict[bytes, int] = {}
        weights = self.regime_weights[rows.start : rows.stop].cpu()
        seen = [hashlib.sha256(weights[:, k].numpy().tobytes()).digest() for k in range(weights.shape[1])]
        return torch.tensor([first.setdefault(key, k) for k, key in enumerate(seen)], device=self.device)

    def require_traded_values(self) -> None:
        """Refuse a market in which impact on traded volume cannot be computed for every asset.

        Raises:
            UserError: names the assets without a traded value.
        """
        unknown = (self.dollar_volume.isnan() & self.tradable).any(0).tolist()
        missing = [symbol for symbol, none in zip(self.symbols, unknown, strict=True) if none]
        if missing:
            shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
            raise UserError(
                f"impact_adv needs traded values, and the market cache has none of {shown}; build it from bars with volumes "
                "whose closes are as traded (closes: as_traded), or set impact_adv to 0."
            )

    def to(self, device: torch.device | str) -> "MarketTensors":
        """The same market on another device."""
        moved: dict[str, Any] = {
            f.name: value.to(device) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)._names_apart(lambda part: part.to(device))

    def with_features(self, change: Callable[[Float[Tensor, "day feature"]], Tensor]) -> "MarketTensors":
        """The same market with its features changed, also those of the held-out and of the remaining names."""
        changed = replace(self, features=change(self.features))
        return changed._names_apart(lambda part: part.with_features(change))

    def _names_apart(self, change: Callable[["MarketTensors"], "MarketTensors"]) -> "MarketTensors":
        """The same market with the markets of held-out and remaining names changed."""
        if self.remaining is None or self.held_out is None:
            return self
        return replace(self, remaining=change(self.remaining), held_out=change(self.held_out))

    def with_regimes(self, kind: str, groups: Mapping[str, Sequence[str]]) -> "MarketTensors":
        """The same market with the weights of another regime table, computed from ranks and tradability."""
        same = self._with_table(regime_table(kind, self.symbols, groups))
        return same._names_apart(lambda part: part.with_regimes(kind, groups_of(groups, part.symbols)))

    def with_strength(self, strength: float) -> "MarketTensors":
        """The same market with regimes that go only so far from equal weight to their own targets (`RegimeTable`)."""
        same = self._with_table(replace(self.regimes, strength=strength))
        return same._names_apart(lambda part: part.with_strength(strength))

    def _with_table(self, table: RegimeTable) -> "MarketTensors":
        if table == self.regimes:
            return self
        weights = table.weights(self.factor_ranks.cpu(), self.tradable.cpu()).to(self.device)
        return replace(self, regimes=table, regime_weights=weights)

    def rows(self, after: date | None, until: date | None) -> range:
        """Rows that lie in a range as a whole: the decision is after ``after``, and its return ends by ``until``.

        Args:
            after: the range begins after this session. None begins with row 1, because the first holdings of an episode
                earn the session before its first decision.
            until: last session of the range; None for the last row.
        """
        first, last = 1, self.n_days
        if after is not None:
            first = max(1, int((self.dates <= (after - _EPOCH).days).sum()))
        if until is not None:
            last = int((self.end_dates <= (until - _EPOCH).days).sum())
        return range(first, max(first, last))

    def until(self, row: int) -> "MarketTensors":
        """The rows up to one as they were known when it was decided: nothing of its own session, and nothing later."""
        cut: dict[str, Any] = {
            f.name: value[: row + 1] for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        # The return of the row before ends at this row's close, so it is not known either.
        cut["returns"] = torch.cat([cut["returns"][:-2], torch.zeros_like(cut["returns"][-2:])])
        cut["fillable"] = torch.cat([cut["fillable"][:-1], torch.ones_like(cut["fillable"][-1:])])
        cut["cash_return"] = torch.cat([cut["cash_return"][:-1], cut["cash_return"][-2:-1]])
        cut["delisted"] = torch.cat([cut["delisted"][:-1], cut["delisted"][-2:-1]])
        return replace(self, **cut)

    def date_of(self, row: int) -> date:
        """The decision session of a row."""
        return _EPOCH + timedelta(days=int(self.dates[row]))

    def dates_of(self, rows: range) -> tuple[str, str]:
        """First and last decision session of a range, YYYY-MM-DD."""
        return str(self.date_of(rows[0])), str(self.date_of(rows[-1]))


def build_market_tensors(
    market: Market, regimes: str, groups: Mapping[str, Sequence[str]], built_from: Mapping[str, str]
) -> MarketTensors:
    """Lag, trim and cast a validated market.

    The rows start with the first session for whose decision all features are known and two assets are tradable.

    Args:
        market: S sessions as known after their close.
        regimes: name of the regime table.
        groups: the universe by group.
        built_from: the settings that the market was built from; they are kept with it.

    Raises:
        UserError: the history is too short for a single row.
    """
    features, n_sessions = market_features(market), len(market.sessions)
    first = _first_row(features, market)
    known = slice(first, n_sessions - 2)  # session t − 1, which the agent sees
    now = slice(first + 1, n_sessions - 1)  # session t, at whose close the trade takes place
    then = slice(first + 2, n_sessions)  # session t + 1, at whose close the return ends
    days = torch.from_numpy(market.sessions.to_numpy().astype("datetime64[D]").astype("int64"))
    ranks = rank_scores(market.scores[known], market.tradable[known])
    table = regime_table(regimes, market.symbols, groups)
    version = hashlib.sha256(f"{market.fingerprint} features {FEATURE_VERSION}".encode()).hexdigest()
    return MarketTensors(
        dates=days[now],
        end_dates=days[then],
        symbols=tuple(market.symbols),
        returns=market.returns[then].float(),
        cash_return=market.cash_returns[now].float(),
        features=_finite(features[known], market).float(),
        regime_weights=table.weights(ranks.float(), market.tradable[known]),
        tradable=market.tradable[known],
        fillable=market.fillable[now],
        delisted=market.delisted[now],
        factor_ranks=ranks.float(),
        vol_daily=torch.nan_to_num(market.volatility[known]).float(),
        dollar_volume=market.dollar_volume[known].float(),
        regimes=table,
        fingerprint=version,
        built_from=dict(built_from),
        findings=tuple(f"{f.name}: {f.message}" for f in market.findings),
        sessions_per_year=market.sessions_per_year,
    )


def _first_row(features: Float[Tensor, "session feature"], market: Market) -> int:
    """The first session after whose close everything is known that a decision needs."""
    seen = features.isfinite().all(dim=1) & (market.tradable.sum(1) >= 2)
    usable = torch.nonzero(seen)
    n_sessions = len(market.sessions)
    if len(usable) == 0 or int(usable[0]) + 2 >= n_sessions:
        raise UserError(
            f"{market.source}: {n_sessions} sessions are too few; the features need 252 after a listing warm-up: give a "
            "longer history."
        )
    return int(usable[0])


def _finite(features: Tensor, market: Market) -> Tensor:
    broken = torch.nonzero(~features.isfinite())
    if len(broken):
        row, column = broken[0].tolist()
        raise UserError(
            f"{market.source}: the feature {FEATURE_NAMES[column]} is not finite {row} sessions after the first complete "
            "one; fewer than two assets were tradable then: widen the universe or start later."
        )
    return features
