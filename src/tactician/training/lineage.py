"""Where a policy's weights come from: which run they belong to, and which data they have been shown.

Both travel with a checkpoint and through every run that goes on from it. A range that the weights, or those that they come
from, were trained or chosen on is not held out, whatever today's configuration calls it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Protocol

from tactician.environment import Environment
from tactician.errors import UserError

HARMLESS = frozenset(
    {
        "checkpoint_dir",
        "cache_path",
        "expanded_cache_path",
        "device",
        "save_every",
        "keep_checkpoints",
        "max_vram_gpu0",
        "max_vram_gpu1",
        "high_vram",
        "low_vram",
        "multi_gpu",
        "max_dropped_updates",
        "timesteps",
        "episodes",
        "iterations",
        "bars",
        "hindsight",
        "expanded_hindsight",
    }
)
"""Keys whose change leaves what is learnt as it is (durations: the run only gets longer or shorter)."""


def run_name(config: Mapping[str, Any], fingerprint: str, parent: str = "") -> str:
    """What tells a run from others: its data, the settings that shape what it learns, and what it began with.

    Two runs of one name go the same way to the last bit, so the one that is further on is the newer one.
    """
    settings = {key: value for key, value in config.items() if key not in HARMLESS}
    whole = json.dumps([settings, fingerprint, parent], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def run_of(content: Mapping[str, Any]) -> str | None:
    """The name of the run that a checkpoint belongs to; None for old formats, which do not tell."""
    if "run" in content:
        return str(content["run"])
    if "config" not in content or "data_fingerprint" not in content:
        return None
    return run_name(content["config"], content["data_fingerprint"])


@dataclass(frozen=True)
class Look:
    """A test range on which the model was judged."""

    first: str
    last: str
    count: int = 1


@dataclass(frozen=True)
class Seen:
    """The data that weights were shown, of all runs that they come from; dates as YYYY-MM-DD, '' where not known."""

    first: str = ""
    """First decision."""
    trained_until: str = ""
    """End of the last reward that was learnt from."""
    validated_until: str = ""
    """End of the last return that a best model was picked by."""
    symbols: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    """Of the market data."""
    looks: tuple[Look, ...] = ()
    known: bool = True
    """False if a file of an old format, which does not tell, is among the ancestors."""

    def merged(self, other: "Seen") -> "Seen":
        """What both have seen together; a gap between two ranges counts as seen."""
        return Seen(
            first=min(self.first, other.first),
            trained_until=max(self.trained_until, other.trained_until),
            validated_until=max(self.validated_until, other.validated_until),
            symbols=tuple(dict.fromkeys(self.symbols + other.symbols)),
            fingerprints=tuple(dict.fromkeys(self.fingerprints + other.fingerprints)),
            looks=self.looks + other.looks,
            known=self.known and other.known,
        )

    def looked(self, first: str, last: str) -> "Seen":
        """The same after one more judgement on a test range."""
        before = {(look.first, look.last): look.count for look in self.looks}
        before[first, last] = before.get((first, last), 0) + 1
        return replace(self, looks=tuple(Look(*dates, count) for dates, count in before.items()))

    def looks_at(self, first: str, last: str) -> int:
        """How often a range that overlaps this one was judged on."""
        return sum(look.count for look in self.looks if look.first <= last and first <= look.last)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint and for JSON."""
        return {
            **asdict(self),
            "symbols": list(self.symbols),
            "fingerprints": list(self.fingerprints),
            "looks": [asdict(look) for look in self.looks],
        }


class Ranges(Protocol):
    """What has a training, a validation and a test range: a run's setup, and whatever else judges."""

    @property
    def environment(self) -> Environment:
        """Gives the market."""

    @property
    def splits(self) -> dict[str, range]:
        """Rows of the market by range."""


def seen_by_run(judged: Ranges) -> Seen:
    """What a run that begins from nothing shows its weights."""
    train, validation = (_dates(judged, name) for name in ("train", "validation"))
    market = judged.environment.market
    return Seen(train[0], train[1], validation[1], tuple(market.symbols), (market.fingerprint,))


def seen_by_checkpoint(content: Mapping[str, Any]) -> Seen:
    """What a checkpoint's weights have seen: as it says; else by its configuration; else not known."""
    if "seen" in content:
        told = content["seen"]
        return Seen(
            **{
                **told,
                "symbols": tuple(told["symbols"]),
                "fingerprints": tuple(told["fingerprints"]),
                "looks": tuple(Look(**look) for look in told["looks"]),
            }
        )
    config = content.get("config")
    if not isinstance(config, Mapping) or not {"train_until", "validation_until"} <= config.keys():
        return Seen(known=False)
    groups = config.get("expanded_universe") if config.get("expanded") else config.get("universe")
    return Seen(
        trained_until=str(config["train_until"]),
        validated_until=str(config["validation_until"]),
        symbols=tuple(s for group in (groups or {}).values() for s in group if s != "CASH"),
        fingerprints=(str(content.get("data_fingerprint", "")),),
    )


@dataclass(frozen=True)
class Contamination:
    """Ranges that are called held out although the weights have seen them, or may have."""

    ranges: tuple[str, ...]
    """'validation', 'test'; none if it is only not known."""
    seen_until: str
    """The last session that the weights have seen; '' if not known."""
    known: bool

    @property
    def caveat(self) -> str:
        """What must be said of every result: a model that was picked on data it was trained on is no evidence anywhere."""
        if self.ranges:
            seen = " and ".join(self.ranges)
            return f"CONTAMINATED ({seen}): the model has seen data up to {self.seen_until}, so this is no evidence"
        return "whether the model has seen this range is not known"

    @property
    def metric(self) -> float:
        """1, or NaN for not known."""
        return 1.0 if self.ranges else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"ranges": list(self.ranges), "seen_until": self.seen_until or None, "known": self.known}


def contamination(judged: Ranges, seen: Seen) -> Contamination | None:
    """Which of a run's ranges its weights have seen before; None if no range is, for certain.

    The validation range may be seen in validation again, but not in training; the test range in neither.
    """
    until = {"validation": seen.trained_until, "test": max(seen.trained_until, seen.validated_until)}
    hit = []
    for name, bound in until.items():
        first, last = _dates(judged, name)
        if first < bound and seen.first < last:
            hit.append(name)
    if not hit and seen.known:
        return None
    return Contamination(tuple(hit), max(until.values()) if seen.known or hit else "", seen.known)


def refuse_contaminated(judged: Ranges, seen: Seen, path: Path) -> None:
    """Refuse to call held out what a checkpoint's weights have seen.

    Raises:
        UserError: names the range, what was seen, and the ways out.
    """
    found = contamination(judged, seen)
    if found is None or not found.ranges:
        return
    name = found.ranges[-1]  # the test range, if both are
    first, last = _dates(judged, name)
    key, bound = ("--validation-until", found.seen_until) if name == "test" else ("--train-until", seen.trained_until)
    raise UserError(
        f"The {name} range {first} to {last} is not held out: {path} has seen data from {seen.first or 'its start'} to "
        f"{bound}; set {key} to {bound} or later, start without this checkpoint, or give "
        "--allow-contaminated, which marks every result."
    )


def _dates(judged: Ranges, name: str) -> tuple[str, str]:
    """The first decision of a range, and the end of its last return."""
    market, rows = judged.environment.market, judged.splits[name]
    end = date(1970, 1, 1) + timedelta(days=int(market.end_dates[rows.stop - 1]))
    return str(market.date_of(rows.start)), str(end)
