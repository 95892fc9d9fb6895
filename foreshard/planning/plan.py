"""Plans and decisions as data: what `decide` writes down, and `migrate`, explain and simulate read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from foreshard.errors import InvalidInput
from foreshard.planning.cost import MigrationCost
from foreshard.planning.prediction import Prediction
from foreshard.planning.risk import ShardRisk
from foreshard.planning.timeline import Timeline


class Question(StrEnum):
    """What a plan must answer."""

    WHY_THESE_BUCKETS = "why these buckets"
    WHY_THERE = "why there"
    WHY_NOW = "why now"
    WHAT_IT_COSTS = "what it costs"
    WHAT_IF_NOT = "what if not"


@dataclass(frozen=True)
class Reason:
    """One answer: in words, and the numbers in those words by name (unit in the name; shares of capacity
    bare).
    """

    question: Question
    text: str
    numbers: Mapping[str, float]


class Purpose(StrEnum):
    """What a plan is for, in the order in which plans take their turns."""

    RELIEF = "relief"
    DRAIN = "drain"
    PIN = "pin"
    BALANCE = "balance"


@dataclass(frozen=True)
class Effect:
    """Predicted peak of one resource of one end, before and after, in units of capacity.

    The peak is that of the load that is planned with: of `threshold` the chosen quantile, else what the window exceeds
    with ``relief_probability`` only. ``limit`` is what it may reach: on the source the target ceiling, on the target
    the lower of that and its bounded share. ``exceeds_before`` and ``exceeds_after``: probability that load exceeds the
    capacity within the window; None where the policy does not reckon with it.
    """

    shard: str
    metric: str
    peak_before: float
    peak_after: float
    limit: float
    exceeds_before: float | None = None
    exceeds_after: float | None = None


@dataclass(frozen=True)
class Shortage:
    """No placement keeps the fleet under its ceilings: what is missing, from when.

    ``shards`` more shards of ``capacity`` (metric -> value, the fleet's median) are needed by ``needed_by``.
    """

    shards: int
    capacity: Mapping[str, float]
    needed_by: datetime
    text: str


@dataclass(frozen=True)
class MigrationPlan:
    """One source, one target, the buckets to move, in order of relief per byte.

    ``bytes`` is their size. ``risk_before`` is the source's score, ``risk_after`` the higher score of the two
    ends after the move; both without the migration's ``cost``, so before - after - cost is the gain.
    ``priority`` is risk x latency saved, to order plans by. ``prediction`` is None in plans stored before it was kept.
    ``strained``: the fleet has no room to keep the ceiling, so ends are planned by the policy's strained one, which
    load exceeds with this probability; None where the ceiling is kept.
    ``after``: positions in the decision's plans of those that must have ended first: the same shard is in them, or they
    make the room that this one needs.
    """

    source: str
    target: str
    buckets: tuple[str, ...]
    timeline: Timeline
    bytes: int
    cost: MigrationCost
    priority: float
    risk_before: float
    risk_after: float
    effects: tuple[Effect, ...]
    reasons: tuple[Reason, ...]
    prediction: Prediction | None = None
    purpose: Purpose = Purpose.RELIEF
    after: tuple[int, ...] = ()
    strained: float | None = None

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise InvalidInput("target", f"{self.target} is the source too")
        if not self.buckets or len(set(self.buckets)) != len(self.buckets):
            raise InvalidInput("buckets", "a plan moves at least one bucket, and none twice")

    @property
    def excess_at(self) -> datetime | None:
        """Start of the first step at which the source would exceed its capacity."""
        return self.timeline.excess_at

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        return _to_json(_PLAN, self)

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> MigrationPlan:
        """The plan that ``to_json`` gave. Raises ``InvalidInput`` naming what is missing or wrong."""
        return _from_json(_PLAN, stored)


@dataclass(frozen=True)
class Decision:
    """What was decided, and on which facts: the risk of every shard, the plans in order of priority.

    ``notes`` say what was not done and why. ``max_utilisation`` is the present utilisation of the busiest
    resource of the fleet; below ``reactive_threshold`` a system without forecasts would not have acted yet.
    ``shortage``: what the fleet lacks, None if every risk is relieved.
    """

    decided_at: datetime
    risks: tuple[ShardRisk, ...]
    plans: tuple[MigrationPlan, ...]
    notes: tuple[str, ...]
    max_utilisation: float
    reactive_threshold: float
    shortage: Shortage | None = None

    def to_json(self) -> dict[str, Any]:
        """The decision as JSON-ready values."""
        return _to_json(_DECISION, self)

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Decision:
        """The decision that ``to_json`` gave. Raises ``InvalidInput`` naming what is missing or wrong."""
        return _from_json(_DECISION, stored)


T = TypeVar("T")

_PLAN = TypeAdapter(MigrationPlan)
_DECISION = TypeAdapter(Decision)


def _to_json(kind: TypeAdapter[Any], value: object) -> dict[str, Any]:
    stored: dict[str, Any] = kind.dump_python(value, mode="json")
    return stored


def _from_json(kind: TypeAdapter[T], stored: Mapping[str, Any]) -> T:
    try:
        return kind.validate_python(dict(stored))
    except ValidationError as invalid:
        first = invalid.errors()[0]
        raise InvalidInput(".".join(map(str, first["loc"])) or "plan", first["msg"]) from None
