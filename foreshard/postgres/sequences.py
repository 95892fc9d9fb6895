"""Sequences are not replicated: before a side takes writes, its sequences jump ahead of the other side's."""

from __future__ import annotations

from collections.abc import Sequence

from foreshard.errors import DataMismatch
from foreshard.postgres.connect import Connection

_READ = """
-- Every sequence of the buckets: where it is, and where it ends.
SELECT schemaname, sequencename, coalesce(last_value, start_value), increment_by, max_value, cycle
  FROM pg_sequences WHERE schemaname = ANY(%s) ORDER BY 1, 2
"""

_ADVANCE = """
-- Never backwards: the side may have been ahead already (an earlier attempt, a reversal).
SELECT setval(format('%%I.%%I', s.schemaname, s.sequencename)::regclass, greatest(%s, coalesce(s.last_value, 1)))
  FROM pg_sequences s WHERE s.schemaname = %s AND s.sequencename = %s
"""


def advance(
    behind: Connection, ahead: Connection, buckets: Sequence[str], margin: int, *, at_any_rate: bool = False
) -> int:
    """Set every sequence on ``behind`` to the value on ``ahead`` plus ``margin`` increments; returns how many.

    ``at_any_rate``: as far as there is room; on the way back an exhausted sequence is better than no way back.

    Raises:
        DataMismatch: a sequence descends, cycles, or has no room for the margin.
    """
    rows = ahead.execute(_READ, (list(buckets),)).fetchall()
    for schema, name, last, increment, maximum, cycles in rows:
        value = last + margin * increment
        if at_any_rate and increment > 0 and not cycles:
            value = min(value, maximum)
        if increment < 0 or cycles or value > maximum:
            raise DataMismatch(
                f"Sequence {schema}.{name} cannot jump ahead by {margin} (at {last}, maximum {maximum}).",
                remedy="Give it a wider type, or move the bucket in one flip without a canary.",
                sequence=f"{schema}.{name}",
            )
        behind.execute(_ADVANCE, (value, schema, name))
    return len(rows)
