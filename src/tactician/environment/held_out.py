"""Names that are held out from training: which they are, and which remain (docs/generalisation.md)."""

import hashlib
from collections.abc import Collection, Mapping, Sequence

from tactician.config import Config
from tactician.errors import UserError

Groups = Mapping[str, Sequence[str]]


def draw_held_out(config: Config) -> tuple[str, ...]:
    """The symbols that training never trades or sees, in the universe's order; () if none are asked for.

    A symbol's place in the draw is a hash of ``held_out_seed`` and the symbol. So the order of the file does not matter. Each
    group keeps a name on both sides, if there are enough names.

    Raises:
        UserError: the table of regimes is made from groups, and a group would have no name on one side.
    """
    number, groups = config.held_out_names, config.groups
    if not number:
        return ()
    order = sorted(config.symbols, key=lambda symbol: _place(config.held_out_seed, symbol))
    chosen = _of_every_group(order, number, groups)
    if chosen is None and config.regimes != "factor":
        raise UserError(
            f"held_out_names is {number}, and the regimes '{config.regimes}' need a name of each of {len(groups)} groups "
            "both among the held-out names and among the others; change it or the groups, or use --regimes factor."
        )
    kept = set(order[:number] if chosen is None else chosen)
    return tuple(symbol for symbol in config.symbols if symbol in kept)


def without_held_out(config: Config) -> dict[str, tuple[str, ...]]:
    """The names that are trained on, by group. Without held-out names it is the universe.

    Raises:
        UserError: see `draw_held_out`.
    """
    held_out = draw_held_out(config)
    return groups_of(config.groups, [symbol for symbol in config.symbols if symbol not in held_out])


def groups_of(groups: Groups, symbols: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The groups with some of their symbols alone. A group that has none of them is left out."""
    kept = {group: tuple(s for s in names if s in symbols) for group, names in groups.items()}
    return {group: names for group, names in kept.items() if names}


def _place(seed: int, symbol: str) -> str:
    return hashlib.sha256(f"{seed} {symbol}".encode()).hexdigest()


def _of_every_group(order: Sequence[str], number: int, groups: Groups) -> set[str] | None:
    """The first symbols of an order such that each group has one among them and one among the others; None without such."""
    members = [set(symbols) for symbols in groups.values()]
    first = {next(symbol for symbol in order if symbol in group) for group in members}
    chosen: set[str] = set()
    for symbol in sorted(order, key=lambda symbol: symbol not in first):  # stable
        if len(chosen) < number and not any(group <= chosen | {symbol} for group in members):
            chosen.add(symbol)
    return chosen if len(chosen) == number and all(group & chosen for group in members) else None
