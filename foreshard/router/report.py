"""Reads over all buckets, for reports: what one bucket answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class BucketRows:
    """The rows of one bucket, read on ``shard``.

    ``exact`` is False while the bucket's keys have two owners: then it was read at the migration's source, which holds
    all of its rows; those of keys that are redirected already come back to it, some milliseconds late as a rule.
    """

    bucket: str
    shard: str
    rows: list[Row]
    exact: bool
