"""Markets beside the judged one: random sub-universes of its names, universes named by the user, and names that are held out.

Features, ranks and targets of each are computed from its own names alone, as those of the judged market are from its own. They
are built with the market cache and kept in it, since a cache holds no prices.
"""

import json
from dataclasses import replace

import torch

from tactician.bars import read_source
from tactician.config import Config
from tactician.environment.features import market_features
from tactician.environment.held_out import Groups, draw_held_out, groups_of, without_held_out
from tactician.environment.market_tensors import MarketTensors, build_market_tensors
from tactician.environment.noise import Stream, permutation, uniform
from tactician.errors import UserError
from tactician.market import Market, market_of

Built = tuple[MarketTensors, dict[str, tuple[str, ...]]]
"""A market, and its symbols by group."""


def further_key(config: Config) -> str:
    """The settings that determine the further markets of a cache, as text; '' if there are none."""
    if not config.sub_universes and not config.more_universes:
        return ""
    drawn = [config.sub_universes, config.sub_universe_size, config.sub_universe_seed] if config.sub_universes else []
    held_out = [draw_held_out(config)] if config.held_out_names else []
    return json.dumps([drawn, config.more_universes, *held_out], sort_keys=True)


def further_markets(market: Market, config: Config) -> list[Built]:
    """Build the further markets that a configuration names, each with its symbols by group.

    A market without one session for which all features are known is left out.

    Args:
        market: the judged one, validated.
        config: sub-universes, named universes, source, regimes.

    Raises:
        UserError: the universe has too few names, bars of a named universe cannot be read, its regimes are others, or it has
            a held-out name.
    """
    groups = draw_sub_universes(config) if config.sub_universes else []
    built = [(_tensors(market.only(_symbols(each)), config, each), each) for each in groups]
    for name, universe in config.more_universes.items():
        own = {group: tuple(s for s in symbols if s != "CASH") for group, symbols in universe.items()}
        own = {group: symbols for group, symbols in own.items() if symbols}
        held_out = [symbol for symbol in draw_held_out(config) if symbol in _symbols(own)]
        if held_out:
            raise UserError(
                f"more_universes, '{name}': training would see {', '.join(held_out)}, which held_out_names holds out; leave "
                "them out there, or change held_out_seed."
            )
        other = config.model_copy(update={"universe": own, "expanded": False})
        try:
            built.append((_tensors(market_of(read_source(other), other), config, own), own))
        except UserError as error:
            raise UserError(f"more_universes, '{name}': {error}") from None
    return [(tensors, own) for tensors, own in built if tensors is not None]


def held_out_markets(market: Market, config: Config) -> tuple[Built, Built] | None:
    """The market of the names that remain for training, and that of the held-out names; None if none are held out.

    Args:
        market: of the whole universe, validated.
        config: number and seed of the held-out names, universe, regimes.

    Raises:
        UserError: one of them has no session for which all features are known; or see `draw_held_out`.
    """
    held_out = draw_held_out(config)
    if not held_out:
        return None
    remaining = _of_names(market, config, without_held_out(config), "that remain for training")
    return remaining, _of_names(market, config, groups_of(config.groups, held_out), "that are held out")


def _of_names(market: Market, config: Config, groups: dict[str, tuple[str, ...]], which: str) -> Built:
    tensors = _tensors(market.only(_symbols(groups)), config, groups)
    if tensors is None:
        raise UserError(
            f"The names {which} ({' '.join(_symbols(groups))}) have no session for which all features are known; change "
            "held_out_seed or held_out_names, or give a longer history."
        )
    return tensors, groups


def draw_sub_universes(config: Config) -> list[dict[str, tuple[str, ...]]]:
    """Random sub-universes by group: a uniform number of names, and that many of all names without replacement.

    Each group keeps a name, if the smallest sub-universe has as many names as there are groups. So the tables of regimes that
    are made from groups keep their regimes. The draw depends on ``sub_universe_seed``, not on the seed of a run. Held-out
    names are not drawn.

    Raises:
        UserError: the universe has too few names, or too many groups for its table of regimes.
    """
    groups, (low, high) = without_held_out(config), config.sub_universe_size
    names = _symbols(groups)
    if len(names) < low:
        left = " without the held-out ones" if config.held_out_names else ""
        raise UserError(
            f"sub_universe_size begins with {low}, and the universe has {len(names)} names{left}; lower it, or set "
            "sub_universes to 0."
        )
    every_group = len(groups) <= low
    if not every_group and config.regimes != "factor":
        raise UserError(
            f"sub_universe_size begins with {low}, and the regimes '{config.regimes}' need a name of each of {len(groups)} "
            "groups; raise it, or use --regimes factor."
        )
    seed, drawn = config.sub_universe_seed, []
    for number in range(config.sub_universes):
        place = uniform(seed, Stream.SUB_UNIVERSE_SIZE, torch.tensor([number])).item()
        size = low + int(place * (min(high, len(names)) - low + 1))
        order = permutation(len(names), seed, Stream.SUB_UNIVERSE, number, device=torch.device("cpu")).tolist()
        chosen = [names[k] for k in order]
        if every_group:
            # The first name of each group goes before all others.
            first = [next(name for name in chosen if name in symbols) for symbols in groups.values()]
            chosen = list(dict.fromkeys([*first, *chosen]))
        drawn.append(groups_of(groups, set(chosen[:size])))
    return drawn


def _symbols(groups: Groups) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s for symbols in groups.values() for s in symbols))


def _tensors(market: Market, config: Config, groups: Groups) -> MarketTensors | None:
    """The market's tensors up to the first session whose features cannot be computed; None if there is no row."""
    features = market_features(market)
    known = features.isfinite().all(1)
    usable = torch.nonzero(known & (market.tradable.sum(1) >= 2))[:, 0]
    if len(usable) == 0:
        return None
    first = int(usable[0])
    # With few names, fewer than two may be tradable later. What came before is good all the same. Whether a market is taken
    # must not depend on what follows.
    broken = torch.nonzero(~known[first:])[:, 0]
    market = market.until(first + int(broken[0])) if len(broken) else market
    if first + 2 >= len(market.sessions):
        return None
    tensors = build_market_tensors(market, config.regimes, groups, {"source": market.source})
    return replace(tensors, findings=())
