"""Placement: which shard each bucket lies on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foreshard.errors import InvalidInput, NotFound


@dataclass(frozen=True)
class Placement:
    """Bucket name -> shard name. ``of`` is copied and never changed; a move gives a new placement."""

    of: Mapping[str, str]

    def __post_init__(self) -> None:
        for bucket, shard in self.of.items():
            if not bucket or not shard:
                raise InvalidInput("placement", f"bucket {bucket!r} on shard {shard!r}: a name is empty")
        object.__setattr__(self, "of", dict(self.of))

    def shard_of(self, bucket: str) -> str:
        """The bucket's shard. Raises ``NotFound`` for a bucket that has no place."""
        try:
            return self.of[bucket]
        except KeyError:
            raise NotFound(f"Bucket {bucket} has no placement.", bucket=bucket) from None

    def buckets_on(self, shard: str) -> tuple[str, ...]:
        """The shard's buckets, sorted by name; empty for a shard that holds none."""
        return tuple(sorted(bucket for bucket, on in self.of.items() if on == shard))

    def moved(self, buckets: Iterable[str], target: str) -> Placement:
        """This placement with ``buckets`` on ``target``. Raises ``NotFound`` for an unknown bucket."""
        placed = dict(self.of)
        for bucket in buckets:
            self.shard_of(bucket)
            placed[bucket] = target
        return Placement(placed)
