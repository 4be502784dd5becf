"""The markets that a run trains on, and the environments on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.config import Config
from tactician.environment import (
    MAX_REGIMES,
    Environment,
    Joined,
    MarketTensors,
    Part,
    bootstrapped,
    draw_held_out,
    feature_range,
    fit_normaliser,
    join,
    market_bytes,
    normalise,
    same_days,
    stretches_of,
    training_part,
)
from tactician.errors import UserError
from tactician.hardware.available import available_memory
from tactician.hardware.memory import GB
from tactician.hardware.processes import Process
from tactician.portfolio.frictions import Frictions

_MOST_MEMORY = 0.25
"""Share of the available memory that further markets may take. They are copied while they are made."""


@dataclass(frozen=True)
class TrainedOn:
    """The markets that a run trains on, with features in their own units."""

    market: MarketTensors
    """The judged market; if names are held out, that of the remaining ones."""
    rows: tuple[range, ...]
    """Its rows on which the normaliser is fitted."""
    further: tuple[Part, ...] = ()
    """Other markets, of their own prices."""
    redrawn: tuple[Part, ...] = ()
    """Markets of the same days in another order. They say nothing new of a feature's mean and deviation."""
    joined: Joined | None = None
    """All of them one after another, the first one as above; None if there is no other."""

    @property
    def _seen(self) -> tuple[MarketTensors, tuple[range, ...]]:
        """A market, and the rows of it that describe all features that are trained on."""
        if self.joined is None or not self.further:
            return self.market, self.rows
        real = self.joined.stretches[: 1 + len(self.further)]
        return self.joined.market, tuple(part for stretches in real for part in stretches)

    def normaliser(self) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
        """Mean and standard deviation of each feature, over the training rows of all markets. One observation serves all."""
        market, rows = self._seen
        return fit_normaliser(market, *rows)

    def feature_range(self) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
        """Lowest and highest value of each feature over the same rows, in its own unit."""
        market, rows = self._seen
        return feature_range(market, *rows)

    def environment(
        self, judged: Environment, moments: tuple[Tensor, Tensor], cost_multipliers: tuple[float, float]
    ) -> Environment:
        """The environment of the rollouts.

        Args:
            judged: the environment of the judged market. Of one market of all names without drawn costs it is the same.
            moments: mean and deviation of the features.
            cost_multipliers: least and largest factor of all costs.
        """
        if cost_multipliers != judged.cost_multipliers:
            judged = replace(judged, cost_multipliers=cost_multipliers)
        if self.joined is None:
            return judged
        market, stretches = self.joined.market, self.joined.stretches
        return replace(
            judged,
            market=normalise(market, *moments).to(judged.market.device),
            rows=tuple(part for of_market in stretches for part in of_market),
            markets=self.joined.markets if len(self.joined.markets) > 1 else (),
        )


def markets_to_train_on(
    config: Config, market: MarketTensors, train: range, stretches: tuple[range, ...] = ()
) -> TrainedOn:
    """Make the markets that a configuration trains on. They are a function of the configuration and the market alone.

    Args:
        config: the run's.
        market: the judged one.
        train: its training range.
        stretches: parts of it in which episodes lie, if a piece is held out; () for all of it.

    Raises:
        UserError: they would take too much memory, or the market holds out other names, or these have no episode.
    """
    _check_held_out(config, market, train)
    if not config.bootstrap_markets and not market.beside and market.remaining is None:
        return TrainedOn(market, (train,))
    names, rows = names_trained_on(market, stretches or (train,), config.episode_length)
    own = training_part(names, rows)
    further = _further(config, names, own, market.beside)
    _check_memory(config, own, further)
    redrawn = tuple(
        bootstrapped(names, own.stretches, config.seed, number) for number in range(config.bootstrap_markets)
    )
    return TrainedOn(names, rows, further, redrawn, join((own, *further, *redrawn)))


def names_trained_on(
    market: MarketTensors, rows: Sequence[range], shortest: int = 1
) -> tuple[MarketTensors, tuple[range, ...]]:
    """The market of the names that training may see, and the same days in it. Without held-out names it is the same one.

    Args:
        market: the judged one.
        rows: of it, each range not empty.
        shortest: a range of fewer rows is left out.

    Raises:
        UserError: no range is left.
    """
    if market.remaining is None:
        return market, tuple(rows)
    days = (same_days(market, market.remaining, part) for part in rows)
    kept = tuple(part for part in days if len(part) >= shortest)
    if not kept:
        raise _no_days("remaining", market.remaining, shortest)
    return market.remaining, kept


def _check_held_out(config: Config, market: MarketTensors, train: range) -> None:
    """Refuse a market that holds out other names than the settings, or in which they have no episode.

    Raises:
        UserError: see above.
    """
    asked, there = draw_held_out(config), () if market.held_out is None else market.held_out.symbols
    if asked != there:
        raise UserError(
            f"The market holds out {', '.join(there) or 'none'}, and held_out_names asks for "
            f"{', '.join(asked) or 'none'}; build the market cache anew."
        )
    if market.held_out is not None and len(same_days(market, market.held_out, train)) < config.episode_length:
        raise _no_days("held-out", market.held_out, config.episode_length)


def _no_days(which: str, market: MarketTensors, needed: int) -> UserError:
    return UserError(
        f"The {which} names {', '.join(market.symbols)} have fewer than {needed} sessions in the training range; change "
        "held_out_seed or held_out_names, start earlier or lower episode_length."
    )


def _further(config: Config, market: MarketTensors, own: Part, beside: Sequence[MarketTensors]) -> tuple[Part, ...]:
    """The further markets of the cache, cut to a market's days of training. Those without an episode are left out.

    Raises:
        UserError: no further market has an episode, or its regimes are others.
    """
    parts = []
    for other in beside:
        if other.regimes.n_actions != market.regimes.n_actions:
            raise UserError(
                f"more_universes: a universe has {other.regimes.n_actions} regimes and the judged one "
                f"{market.regimes.n_actions}; give it as many groups, or use --regimes factor."
            )
        days = (same_days(market, other, rows) for rows in own.stretches)
        stretches = [rows for rows in days if len(rows) >= config.episode_length]
        if stretches:
            parts.append(training_part(other, stretches))
    if beside and not parts:
        raise UserError(
            f"None of the {len(beside)} further markets (sub_universes, more_universes) has an episode of "
            f"{config.episode_length} sessions in the training range; lower episode_length, or leave them out."
        )
    return tuple(parts)


def _check_memory(config: Config, own: Part, further: Sequence[Part]) -> None:
    """Refuse what would fill the memory.

    Raises:
        UserError: names the keys.
    """
    widest = max((own, *further), key=lambda part: market_bytes(part.market) / part.market.n_days)
    rows = sum(part.market.n_days for part in further) + config.bootstrap_markets * own.n_rows
    needed, most = market_bytes(widest.market) / widest.market.n_days * rows, _MOST_MEMORY * available_memory()
    if needed > most:
        raise UserError(
            f"Further markets (bootstrap_markets {config.bootstrap_markets:,}, {len(further):,} others) would take "
            f"{needed / GB:,.1f} GB, and {most / GB:,.1f} GB may be used for them; lower bootstrap_markets or sub_universes."
        )


def make_environment(config: Config, market: MarketTensors, rows: range) -> Environment:
    """Simulated portfolios on a range of a normalised market; a member of an ensemble has stretches of it."""
    return Environment(
        market=market,
        frictions=Frictions.of(config),
        rows=stretches_of(config, rows) or rows,
        episode_length=config.episode_length,
        portfolios_per_window=config.portfolios_per_window,
        portfolio_value=config.portfolio_value,
        first_holdings=config.first_holdings,
        seed=config.seed,
    )


def check_market(market: MarketTensors, config: Config, process: Process) -> None:
    """Refuse a market that the processes do not share, or whose actions an observation cannot hold.

    Raises:
        UserError: names the remedy.
    """
    others = (*market.beside, market.remaining, market.held_out)
    fingerprints = (market.fingerprint, *(other.fingerprint for other in others if other is not None))
    if len(set(process.gather_each(fingerprints))) > 1:
        raise UserError(
            f"The processes have different market caches; copy {config.cache} of one machine to the others."
        )
    if market.regimes.n_actions > MAX_REGIMES:
        raise UserError(f"The regime table '{config.regimes}' has more than {MAX_REGIMES} regimes; use fewer groups.")


def value_scale(market: MarketTensors, rows: Sequence[range], gamma: float) -> float:
    """Standard deviation of the discounted rewards of equal weight, for independent days: 100·σ/√(1 − γ²).

    The value head predicts in this unit, so that value errors and learning rates have the same meaning in every market.

    Args:
        market: of the names that are trained on.
        rows: of it that are trained on.
        gamma: discount per session.
    """
    earned = market.equal_weight_returns
    daily = torch.cat([earned[part.start : part.stop] for part in rows])
    return max(100 * float(daily.double().std()) / (1 - gamma**2) ** 0.5, 1e-3)
