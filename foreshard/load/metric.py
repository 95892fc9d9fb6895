"""What a metric's name says: its unit, and whether its values add up."""

from __future__ import annotations

import re

from foreshard.errors import InvalidInput

ACTIVITY = "queries_per_s"
"""The metric of buckets that is forecast."""

ACTIVITIES = (ACTIVITY, "rows_read_per_s", "rows_written_per_s")
"""What is measured per bucket, and by which the shards' other metrics are apportioned. A history may lack some."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def additive(name: str) -> bool:
    """Whether values of shards, and of buckets, may be added: rates and processors in use may.

    All others are states (bytes, seconds): the same bucket on two shards during a migration is not twice as large.
    """
    return name.endswith("_per_s") or name == "cpu_cores"


def check_metric(name: str) -> str:
    """``name``, if it can be a metric's.

    Raises:
        InvalidInput: it is not lower-case letters, digits and underscores, or longer than 63.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "metric",
            f"{name!r} is not a name of a metric",
            remedy="Use lower-case letters, digits and underscores, with the unit at the end: queries_per_s.",
        )
    return name
