"""The market cache: a market on disk, and further ones to train on. Loading runs no code, and refuses other settings."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tactician.config import Config
from tactician.environment.features import FEATURE_NAMES, FEATURE_VERSION
from tactician.environment.further import further_key
from tactician.environment.market_tensors import MarketTensors
from tactician.errors import UserError
from tactician.portfolio.regimes import regime_table
from tactician.storage import load_tensors, save_tensors

_FORMAT = "tactician market cache"

FURTHER = "further markets"
"""Name of the settings of the further markets, among those that a cache was built from."""


def save_market(
    market: MarketTensors,
    groups: Mapping[str, tuple[str, ...]],
    path: Path,
    beside: Sequence[tuple[MarketTensors, Mapping[str, tuple[str, ...]]]] = (),
) -> None:
    """Write the cache atomically: a reader sees the old file or the new one, never a part.

    Args:
        market: the judged one.
        groups: its symbols by group.
        path: the file.
        beside: further markets, each with its symbols by group (`further`).

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
    path: Path, expected: Mapping[str, str], rebuild: str, *, regimes: str | None = None, alone: bool = True
) -> MarketTensors:
    """Read a cache and check that it was built from the configuration's settings.

    Args:
        path: the file.
        expected: settings by configuration key; the cache must have been built from the same.
        rebuild: the command that makes the cache; every error names it.
        regimes: table of the further markets; None for the one that the cache was built with.
        alone: leave out the further markets of the cache.

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
        alone: without the further markets, which only training needs.

    Raises:
        UserError: missing, damaged, or built from other settings.
    """
    further = "" if alone else further_key(config)
    expected = cache_key(config) | ({FURTHER: further} if further else {})
    market = load_market(config.cache, expected, rebuild, regimes=config.regimes, alone=not further)
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
