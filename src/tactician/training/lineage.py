"""The lineage of a policy's weights: the run that they belong to, and the data that they have seen.

Both are saved in every checkpoint, and are passed on to every run that resumes from it. A range is not held out if the
weights or their ancestors were trained or chosen on it, whatever the present configuration calls it.
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
        "fused",
        "max_dropped_updates",
        "timesteps",
        "episodes",
        "iterations",
        "bars",
        "hindsight",
        "expanded_hindsight",
        "report",
    }
)
"""Keys that do not affect what is learnt. (A duration only makes the run longer or shorter.)"""


def run_name(config: Mapping[str, Any], fingerprint: str, parent: str = "") -> str:
    """The identity of a run: a hash of its data, of the settings that affect learning, and of its parent.

    Two runs with the same name compute the same to the last bit. So the checkpoint with more steps is the newer one.
    """
    settings = {key: value for key, value in config.items() if key not in HARMLESS}
    whole = json.dumps([settings, fingerprint, parent], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def run_of(content: Mapping[str, Any]) -> str | None:
    """The name of the run that a checkpoint belongs to; None for old formats, which do not name it."""
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
    """The data that weights have seen, in this run and in its ancestors. Dates are YYYY-MM-DD, '' if not known."""

    first: str = ""
    """Session of the first decision."""
    trained_until: str = ""
    """Session in which the last training reward ends."""
    validated_until: str = ""
    """Session in which the last return ends that was used to pick a best model."""
    symbols: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    """Of the market data."""
    looks: tuple[Look, ...] = ()
    known: bool = True
    """False if an ancestor is a file of an old format, which does not say what it has seen."""

    def merged(self, other: "Seen") -> "Seen":
        """The data that either has seen. A gap between two ranges counts as seen."""
        return Seen(
            first=min(self.first, other.first),
            trained_until=max(self.trained_until, other.trained_until),
            validated_until=max(self.validated_until, other.validated_until),
            symbols=tuple(dict.fromkeys(self.symbols + other.symbols)),
            fingerprints=tuple(dict.fromkeys(self.fingerprints + other.fingerprints)),
            looks=self.looks + other.looks,
            known=self.known and other.known,
        )

    def with_looks_of(self, other: "Seen") -> "Seen":
        """A copy that knows the judgements of another record of the same models, too: of each range, the larger count."""
        counts = {(look.first, look.last): look.count for look in self.looks}
        for look in other.looks:
            counts[look.first, look.last] = max(counts.get((look.first, look.last), 0), look.count)
        return replace(self, looks=tuple(Look(*dates, count) for dates, count in counts.items()))

    def looked(self, first: str, last: str) -> "Seen":
        """A copy with one more judgement on a test range."""
        before = {(look.first, look.last): look.count for look in self.looks}
        before[first, last] = before.get((first, last), 0) + 1
        return replace(self, looks=tuple(Look(*dates, count) for dates, count in before.items()))

    def looks_at(self, first: str, last: str) -> int:
        """Number of judgements on ranges that overlap this one."""
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
    """The data that the weights of a new run will see. Its held-out names are not among the symbols."""
    train, validation = (_dates(judged, name) for name in ("train", "validation"))
    market = judged.environment.market
    own = market.remaining or market
    names = dict.fromkeys(symbol for each in (own, *market.beside) for symbol in each.symbols)
    return Seen(train[0], train[1], validation[1], tuple(names), (market.fingerprint,))


def seen_by_checkpoint(content: Mapping[str, Any]) -> Seen:
    """The data that a checkpoint's weights have seen: from its record, else from its configuration, else not known."""
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
    """Ranges that the run calls held out, although the weights have seen them or may have."""

    ranges: tuple[str, ...]
    """'validation', 'test', or both; empty if it is only not known."""
    seen_until: str
    """The last session that the weights have seen; '' if not known."""
    known: bool

    @property
    def caveat(self) -> str:
        """Text that goes with every result. A model picked on data that it was trained on is no evidence on any range."""
        if self.ranges:
            seen = " and ".join(self.ranges)
            return f"CONTAMINATED ({seen}): the model has seen data up to {self.seen_until}, so this is no evidence"
        return "whether the model has seen this range is not known"

    @property
    def metric(self) -> float:
        """1 for a range that was seen, NaN if it is not known."""
        return 1.0 if self.ranges else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"ranges": list(self.ranges), "seen_until": self.seen_until or None, "known": self.known}


def contamination(judged: Ranges, seen: Seen) -> Contamination | None:
    """The ranges of a run that its weights have seen before; None if it is certain that there are none.

    The validation range may have been used for validation before, but not for training. The test range may have been used
    for neither.
    """
    until = {"validation": seen.trained_until, "test": max(seen.trained_until, seen.validated_until)}
    hit = []
    for name, bound in until.items():
        first, last = _dates(judged, name)
        # Two ranges overlap if each begins before the other ends. An empty ``seen.first`` counts as the earliest date.
        if first < bound and seen.first < last:
            hit.append(name)
    if not hit and seen.known:
        return None
    return Contamination(tuple(hit), max(until.values()) if seen.known or hit else "", seen.known)


def refuse_contaminated(judged: Ranges, seen: Seen, path: Path) -> None:
    """Refuse a run that calls a range held out although the checkpoint's weights have seen it.

    Raises:
        UserError: names the range, the data seen, and the remedies.
    """
    found = contamination(judged, seen)
    if found is None or not found.ranges:
        return
    name = found.ranges[-1]  # the test range, if both are
    first, last = _dates(judged, name)
    key, bound = ("validation_until", found.seen_until) if name == "test" else ("train_until", seen.trained_until)
    raise UserError(
        f"The {name} range {first} to {last} is not held out: {path} has seen data from {seen.first or 'its start'} to "
        f"{bound}; set the key {key} to {bound} or later, use another checkpoint, or give "
        "--allow-contaminated, which marks every result."
    )


def _dates(judged: Ranges, name: str) -> tuple[str, str]:
    """The first decision of a range, and the end of its last return."""
    market, rows = judged.environment.market, judged.splits[name]
    end = date(1970, 1, 1) + timedelta(days=int(market.end_dates[rows.stop - 1]))
    return str(market.date_of(rows.start)), str(end)
