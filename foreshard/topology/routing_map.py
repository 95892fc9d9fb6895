"""The routing map and the decision it gives for one key.

The map is a hint: ownership lives on the shards, whose guards refuse a write that a stale map sent to the
wrong side. A router only has to be right most of the time, and to learn from a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from foreshard.errors import InvalidInput
from foreshard.topology.bucketing import BucketingKind, BucketOf
from foreshard.topology.keys import SLOTS, Key, KeyTypes, bucket_number, slot
from foreshard.topology.placement import Placement


class Intent(StrEnum):
    """What a transaction is going to do with its key."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Redirection:
    """One migration: in each of ``buckets`` the target owns slots below ``bound``, the source the rest.

    ``shadow_percent`` (0..100) of the reads are repeated on the side that does not own the key; it is above 0
    only while both sides hold a verified copy.
    """

    migration: int
    buckets: frozenset[str]
    source: str
    target: str
    bound: int
    shadow_percent: float

    def __post_init__(self) -> None:
        if not self.buckets:
            raise InvalidInput("buckets", f"migration {self.migration} redirects no bucket")
        if self.source == self.target:
            raise InvalidInput("target", f"migration {self.migration} has {self.source} on both ends")
        if not 0 <= self.bound <= SLOTS:
            raise InvalidInput("bound", f"{self.bound} is not between 0 and {SLOTS}")
        if not 0 <= self.shadow_percent <= 100:
            raise InvalidInput("shadow_percent", f"{self.shadow_percent} is not between 0 and 100")

    def owner(self, of_slot: int) -> str:
        """The shard that owns this slot of the redirected buckets."""
        return self.target if of_slot < self.bound else self.source

    def other(self, of_slot: int) -> str:
        """The shard that holds the other copy of this slot."""
        return self.source if of_slot < self.bound else self.target


@dataclass(frozen=True)
class RoutingMap:
    """Placements and redirections at one routing epoch.

    ``buckets`` is in order of bucket number: under ``hash``, ``buckets[bucket_number(key, …, len(buckets))]`` holds the
    key.
    Raises ``InvalidInput`` if a bucket has no placement or is in two redirections.
    """

    epoch: int
    key_type: KeyTypes
    buckets: tuple[str, ...]
    placement: Placement
    redirections: tuple[Redirection, ...] = ()
    bucketing: BucketingKind = BucketingKind.HASH
    _redirected: Mapping[str, Redirection] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.buckets:
            raise InvalidInput("buckets", "the map has no bucket")
        if len(set(self.buckets)) != len(self.buckets):
            raise InvalidInput("buckets", "a bucket stands twice in the map")
        unplaced = sorted(set(self.buckets) - self.placement.of.keys())
        if unplaced:
            raise InvalidInput("placement", f"no shard for {', '.join(unplaced)}")
        redirected: dict[str, Redirection] = {}
        for redirection in self.redirections:
            for bucket in redirection.buckets:
                if bucket not in self.placement.of:
                    raise InvalidInput("redirections", f"bucket {bucket} is not in the map")
                if bucket in redirected:
                    raise InvalidInput("redirections", f"bucket {bucket} is in two migrations")
                redirected[bucket] = redirection
        object.__setattr__(self, "_redirected", redirected)

    def redirection_of(self, bucket: str) -> Redirection | None:
        """The migration that the bucket is in, if any."""
        return self._redirected.get(bucket)

    def served_by(self, shard: str) -> tuple[str, ...]:
        """The buckets of which ``shard`` owns the greater part: where their load is measured while they move."""
        return tuple(bucket for bucket in self.buckets if self._mostly_on(bucket) == shard)

    def _mostly_on(self, bucket: str) -> str:
        redirection = self.redirection_of(bucket)
        if redirection is None:
            return self.placement.shard_of(bucket)
        return redirection.owner(SLOTS // 2)

    def bucket_of(self, key: Key) -> str:
        """The key's bucket by its hash.

        Raises ``InvalidInput`` for an unusable key (field ``key``), or where keys are found otherwise (``bucketing``).
        """
        if self.bucketing is not BucketingKind.HASH:
            raise InvalidInput(
                "bucketing",
                f"keys of this fleet are found by {self.bucketing}, which the map does not hold",
                remedy="Give the router a bucket_of, or make it by `fleet_router`.",
            )
        return self.buckets[bucket_number(key, self.key_type, len(self.buckets))]


class Route(NamedTuple):
    """Where one transaction goes. ``shadow`` is the other copy's shard if the read may be repeated there.

    ``slot`` is None where it decides nothing: the bucket is at rest.
    """

    bucket: str
    shard: str
    slot: int | None
    migration: int | None
    shadow: str | None


def route(routing_map: RoutingMap, key: Key, intent: Intent, bucket_of: BucketOf | None = None) -> Route:
    """Where a transaction on ``key`` goes: to its owner, for reads too, so that one reads one's own writes.

    ``bucket_of`` finds the key's bucket where that is not the map's hash.
    Raises ``InvalidInput`` (field ``key``) for an unusable key, or one whose bucket is not in the map.
    """
    bucket = routing_map.bucket_of(key) if bucket_of is None else bucket_of(key)
    if bucket not in routing_map.placement.of:
        raise InvalidInput("key", f"{key!r} is in bucket {bucket!r}, which is not in the map")
    redirection = routing_map.redirection_of(bucket)
    if redirection is None and bucket_of is None:  # the hash took half of a lookup's time already
        return Route(bucket, routing_map.placement.shard_of(bucket), None, migration=None, shadow=None)
    key_slot = slot(key, routing_map.key_type)  # refuses a key that the column cannot hold, as the hash did
    if redirection is None:
        return Route(bucket, routing_map.placement.shard_of(bucket), key_slot, migration=None, shadow=None)
    shadowed = intent is Intent.READ and redirection.shadow_percent > 0
    return Route(
        bucket,
        redirection.owner(key_slot),
        key_slot,
        migration=redirection.migration,
        shadow=redirection.other(key_slot) if shadowed else None,
    )
