"""What finished migrations measured, and what the next one is expected to run at because of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from statistics import median
from typing import TypeVar

from foreshard.errors import InvalidInput

RECENT = 5
"""So many of the newest samples of a pair count: servers and networks change, old rates are history."""


class RateKind(StrEnum):
    """What was measured. A copy by one method says nothing about the other."""

    COPY_PIPE = "copy_pipe"
    COPY_SUBSCRIPTION = "copy_subscription"
    INDEX = "index"
    CATCH_UP = "catch_up"
    VERIFY = "verify"


COPIES = frozenset({RateKind.COPY_PIPE, RateKind.COPY_SUBSCRIPTION})


@dataclass(frozen=True)
class Sample:
    """One migration's ``seconds`` for ``bytes`` of one kind of work.

    ``bytes``: the size of its buckets with indexes and TOAST, as plans count it, whatever the method sends; of
    ``catch_up`` the backlog's. ``at``: by the control database's clock.
    """

    source: str
    target: str
    kind: RateKind
    bytes: int
    seconds: float
    migration: int
    at: datetime

    def __post_init__(self) -> None:
        if self.bytes <= 0:
            raise InvalidInput("bytes", f"{self.bytes} is not positive")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise InvalidInput("seconds", f"{self.seconds} is not a duration")

    @property
    def bytes_per_s(self) -> float:
        """The rate."""
        return self.bytes / self.seconds


@dataclass(frozen=True)
class Pause:
    """For how many ``seconds`` writes were refused by all flips of one migration until its cutover was done.

    ``at``: when it was, by the control database's clock.
    """

    source: str
    target: str
    seconds: float
    migration: int
    at: datetime

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise InvalidInput("seconds", f"{self.seconds} is not a duration")


@dataclass(frozen=True)
class Estimate:
    """A rate in bytes/s, or a duration in seconds, and where it is from, in words. ``learnt``: not the policy's."""

    value: float
    origin: str
    learnt: bool = True


@dataclass(frozen=True)
class LearntRates:
    """The samples and the write pauses of all migrations, in any order.

    An estimate is the median of the pair's newest samples. A pair that has none gets the median of the other pairs'
    medians, so that one busy pair does not speak for the fleet; a fleet that has none, the policy's number.
    """

    samples: tuple[Sample, ...] = ()
    pauses: tuple[Pause, ...] = ()

    def copy_bytes_per_s(self, source: str, target: str, prior: float) -> Estimate:
        """Copying rows, by the method of the pair's newest copy, or where it has none of the fleet's."""
        copies = [one for one in self.samples if one.kind in COPIES]
        of_pair = [one for one in copies if (one.source, one.target) == (source, target)]
        newest = max(of_pair or copies, key=_age, default=None)
        learnt = None if newest is None else self._sampled(newest.kind, source, target, _rate)
        return learnt or _prior(prior)

    def index_bytes_per_s(self, source: str, target: str) -> Estimate | None:
        """Building indexes on the target; None where nobody measured it."""
        return self._sampled(RateKind.INDEX, source, target, _rate)

    def verify_bytes_per_s(self, source: str, target: str, prior: float) -> Estimate:
        """Comparing both sides."""
        return self._sampled(RateKind.VERIFY, source, target, _rate) or _prior(prior)

    def catch_up_s(self, source: str, target: str, prior: float) -> Estimate:
        """Seconds of catching up: how large the backlog will be is not known when a plan is made."""
        return self._sampled(RateKind.CATCH_UP, source, target, _seconds) or _prior(prior)

    def pause_s(self, source: str, target: str, prior: float) -> Estimate:
        """Seconds of refused writes, all flips together: how long a flip takes depends on the servers and on the
        longest transactions, not on the bytes.
        """
        return _learnt(self.pauses, source, target, _seconds) or _prior(prior)

    def _sampled(
        self, kind: RateKind, source: str, target: str, value: Callable[[Sample], float]
    ) -> Estimate | None:
        return _learnt([one for one in self.samples if one.kind is kind], source, target, value)


Found = TypeVar("Found", Sample, Pause)


def _learnt(
    found: Sequence[Found], source: str, target: str, value: Callable[[Found], float]
) -> Estimate | None:
    pairs: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        pairs.setdefault((one.source, one.target), []).append(one)
    recent = {pair: sorted(those, key=_age)[-RECENT:] for pair, those in pairs.items()}
    here = recent.get((source, target))
    if here:
        return Estimate(median(map(value, here)), f"{_migrations(here)} {source} -> {target}")
    if recent:
        medians = [median(map(value, those)) for those in recent.values()]
        others = [one for those in recent.values() for one in those]
        return Estimate(median(medians), f"{_migrations(others)} of other pairs of shards")
    return None


def _prior(value: float) -> Estimate:
    return Estimate(value, "the policy's number, nothing is learnt yet", learnt=False)


def _age(one: Sample | Pause) -> tuple[datetime, int, str, int, float]:
    """Sorts by time; equal times in one order whichever way they were given."""
    kind, size = (one.kind.value, one.bytes) if isinstance(one, Sample) else ("", 0)
    return one.at, one.migration, kind, size, one.seconds


def _rate(sample: Sample) -> float:
    return sample.bytes_per_s


def _seconds(one: Sample | Pause) -> float:
    return one.seconds


def _migrations(found: Sequence[Sample] | Sequence[Pause]) -> str:
    count = len({one.migration for one in found})
    return f"learnt from {count} migration{'' if count == 1 else 's'}"
