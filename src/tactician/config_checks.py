"""Settings that contradict one another."""

from typing import TYPE_CHECKING

from tactician.errors import UserError

if TYPE_CHECKING:
    from tactician.config import Config

_FEWEST_NAMES = 3
"""Names on each side of a cut into held-out and other names. Of fewer there is little to rank or to choose from."""


def check_consistency(config: "Config", source: str) -> None:
    """Refuse settings that contradict one another.

    Raises:
        UserError: names both keys.
    """
    _check_sizes(config, source)
    _check_pairs(config, source)
    _check_dates(config, source)
    if not config.symbols:
        raise UserError(f"{source}: 'universe' names no asset besides CASH; add symbols.")
    _check_held_out(config, source)
    if config.member is not None and config.member > config.members:
        raise UserError(f"{source}: member {config.member} is not one of {config.members} members; lower it.")


def _check_sizes(config: "Config", source: str) -> None:
    if config.high_vram and config.low_vram:
        raise UserError(f"{source}: high_vram and low_vram contradict one another; choose one of them.")
    steps, episode = config.n_steps or config.episode_length, config.episode_length
    if max(steps, episode) % min(steps, episode):
        raise UserError(
            f"{source}: n_steps ({steps}) and episode_length ({episode}) must divide one another, so that an episode ends "
            "where a sequence ends; change one of them."
        )
    if config.n_envs is not None and config.n_envs % config.portfolios_per_window:
        raise UserError(
            f"{source}: n_envs ({config.n_envs}) must be a multiple of portfolios_per_window "
            f"({config.portfolios_per_window}); change one of them."
        )
    if config.baseline != "critic" and config.portfolios_per_window < 2:
        raise UserError(
            f"{source}: baseline '{config.baseline}' compares the portfolios of a window, and portfolios_per_window is 1; "
            "raise it, or use baseline 'critic'."
        )
    if config.objective == "softmin" and config.portfolios_per_window < 2:
        raise UserError(
            f"{source}: objective 'softmin' compares portfolios of a window; raise portfolios_per_window above 1."
        )


def _check_pairs(config: "Config", source: str) -> None:
    least, most = config.sub_universe_size
    if least > most:
        raise UserError(
            f"{source}: sub_universe_size ({least}, {most}) must begin with the smaller size; exchange them."
        )
    low, high = config.cost_multipliers
    if low > high:
        raise UserError(
            f"{source}: cost_multipliers ({low:g}, {high:g}) must begin with the smaller factor; exchange them."
        )


def _check_held_out(config: "Config", source: str) -> None:
    number, names = config.held_out_names, len(config.symbols)
    if number and not _FEWEST_NAMES <= number <= names - _FEWEST_NAMES:
        raise UserError(
            f"{source}: held_out_names ({number}) must hold out at least {_FEWEST_NAMES} of the {names} names, and leave at "
            f"least {_FEWEST_NAMES}; change it, or set it to 0."
        )


def _check_dates(config: "Config", source: str) -> None:
    if config.validation_until <= config.train_until:
        raise UserError(
            f"{source}: validation_until ({config.validation_until}) must lie after train_until ({config.train_until})."
        )
    if config.start and config.start >= config.train_until:
        raise UserError(f"{source}: start ({config.start}) must lie before train_until ({config.train_until}).")
    if config.start and config.end and config.end <= config.start:
        raise UserError(f"{source}: end ({config.end}) must lie after start ({config.start}).")
