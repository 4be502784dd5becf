"""The market cache: a market on disk, and further ones to train on. Loading runs no code, and refuses other settings."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tactician.config import Config
from tactician.environment.features import FEATURE_NAMES, FEATURE_VERSION
from tactician.environment.further import Built, further_key
from tactician.environment.held_out import draw_held_out
from tactician.environment.market_tensors import MarketTensors
from tactician.errors import UserError
from tactician.portfolio.regimes import regime_table
from tactician.storage import load_tensors, save_tensors

_FORMAT = "tactician market cache"

FURTHER = "further markets"
"""Name of the settings of the further markets, among those that a cache was built from."""
HELD_OUT = "held-out names"
"""Name of the symbols that are held out from training, among those settings."""


def save_market(
    market: MarketTensors,
    groups: Mapping[str, tuple[str, ...]],
    path: Path,
    beside: Sequence[Built] = (),
    apart: tuple[Built, Built] | None = None,
) -> None:
    """Write the cache atomically: a reader sees the old file or the new one, never a part.

    Args:
        market: the judged one.
        groups: its symbols by group.
        path: the file.
        beside: further markets (`further`).
        apart: the remaining and the held-out names (`held_out_markets`).

    Raises:
        UserError: the folder cannot be written.
    """
    content = {
        "format": _FORMAT,
        "feature_version": FEATURE_VERSION,
        "feature_names": list(FEATURE_NAMES),
        "regimes": market.regimes.kind,
        **_content(market, groups),
    }
    if beside:
        content["beside"] = [_content(*each) for each in beside]
    if apart is not None:
        content["remaining"], content["held_out"] = (_content(*each) for each in apart)
    save_tensors(content, path)


def _content(market: MarketTensors, groups: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    tensors = {f.name: value.cpu() for f in fields(market) if isinstance(value := getattr(market, f.name), Tensor)}
    del tensors["regime_weights"]  # they follow from the rest
    return {
        "symbols": list(market.symbols),
        "groups": {name: list(symbols) for name, symbols in groups.items()},
        "fingerprint": market.fingerprint,
        "built_from": dict(market.built_from),
        "findings": list(market.findings),
        "sessions_per_year": market.sessions_per_year,
        "tensors": tensors,
    }


def load_market(
    path: Path,
    expected: Mapping[str, str],
    rebuild: str,
    *,
    regimes: str | None = None,
    alone: bool = True,
    held_out: str = "",
) -> MarketTensors:
    """Read a cache and check that it was built from the configuration's settings.

    Args:
        path: the file.
        expected: settings by configuration key; the cache must have been built from the same.
        rebuild: the command that makes the cache; every error names it.
        regimes: table of the further markets; None for the one that the cache was built with.
        alone: leave out the further markets of the cache.
        held_out: symbols that are held out. A cache of the same ones gives the markets of held-out and remaining names.

    Raises:
        UserError: the file is missing, damaged, or no market cache, or was built from other settings or bars.
    """
    content = _read(path, rebuild)
    for key, value in expected.items():
        if content["built_from"].get(key) != value:
            raise UserError(
                f"{path} was built with {key} = {content['built_from'].get(key)}, but {value} is asked for; make it anew "
                f"with: {rebuild}"
            )
    market = _market(content, content["regimes"])
    if held_out and content["built_from"].get(HELD_OUT) == held_out:
        remaining, names = (_market(content[name], content["regimes"]) for name in ("remaining", "held_out"))
        market = replace(market, remaining=remaining, held_out=names)
    if alone or "beside" not in content:
        return market
    beside = tuple(_market(each, regimes or content["regimes"]) for each in content["beside"])
    return replace(market, beside=beside)


def _market(content: Mapping[str, Any], regimes: str) -> MarketTensors:
    table = regime_table(regimes, content["symbols"], content["groups"])
    tensors = content["tensors"]
    tensors["regime_weights"] = table.weights(tensors["factor_ranks"], tensors["tradable"])
    return MarketTensors(
        **tensors,
        symbols=tuple(content["symbols"]),
        regimes=table,
        fingerprint=content["fingerprint"],
        built_from=content["built_from"],
        findings=tuple(content["findings"]),
        sessions_per_year=content["sessions_per_year"],
    )


def _read(path: Path, rebuild: str) -> dict[str, Any]:
    """The content of a cache file of this version."""
    if not path.exists():
        raise UserError(f"There is no market cache at {path}; make it with: {rebuild}")
    try:
        content: dict[str, Any] = load_tensors(path)
        if content["format"] != _FORMAT:
            raise ValueError
    except Exception as error:  # torch raises many kinds for a damaged or foreign file; all mean the same to a user
        raise UserError(f"{path} is damaged or no market cache; make it anew with: {rebuild}") from error
    if content["feature_version"] != FEATURE_VERSION:
        raise UserError(f"{path} was built by another version of the features; make it anew with: {rebuild}")
    return content


def load_cached_market(config: Config, rebuild: str, *, alone: bool = False) -> MarketTensors:
    """Read the configuration's market cache, with the configuration's regime table.

    Args:
        config: the run's.
        rebuild: the command that makes the cache.
        alone: without the further markets, which only training needs. Held-out names are there if the cache has them.

    Raises:
        UserError: missing, damaged, or built from other settings.
    """
    further = "" if alone else further_key(config)
    expected = cache_key(config) | ({FURTHER: further} if further else {})
    held_out = " ".join(draw_held_out(config))
    if held_out and not alone:
        expected[HELD_OUT] = held_out
    market = load_market(config.cache, expected, rebuild, regimes=config.regimes, alone=not further, held_out=held_out)
    return market.with_regimes(config.regimes, config.groups)


def cache_key(config: Config) -> dict[str, str]:
    """The settings that determine a market cache. A cache built with other settings is refused."""
    return {
        "universe": " ".join(config.symbols),
        "start": str(config.start),
        "end": str(config.end),
        "cash_rate": str(config.cash_rate),
        "calendar": config.calendar,
        "listing_warmup": str(config.listing_warmup),
        "on_findings": config.on_findings,
        "closes": config.closes,
        "delisting_return": str(config.delisting_return),
    }
