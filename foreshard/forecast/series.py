"""What a load series is of: one metric of one bucket or one shard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from foreshard.errors import InvalidInput

STEP = timedelta(hours=1)


@dataclass(frozen=True, order=True)
class SeriesKey:
    """What a series measures: a shard's metric (``bucket`` is None) or a bucket's (``shard`` is None).

    A bucket's series does not name a shard because it must outlive moves.
    """

    shard: str | None
    bucket: str | None
    metric: str

    def __post_init__(self) -> None:
        if (self.shard is None) == (self.bucket is None):
            raise InvalidInput("key", "a series belongs to a shard or to a bucket, to exactly one of them")
        if not self.metric:
            raise InvalidInput("metric", "is empty")

    def __str__(self) -> str:
        return f"{self.shard or self.bucket}/{self.metric}"
