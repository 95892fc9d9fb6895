"""Sequences are not replicated: before a side takes writes, its sequences jump ahead of the other side's.

Positions count in a sequence's own direction, so that "ahead" is always "greater": a descending sequence's position is
its value with the sign changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from foreshard.errors import DataMismatch
from foreshard.postgres.connect import Connection, sql_file

MARGIN = 1_000_000
"""Increments to jump ahead by: twice what both sides may give out before somebody looks again."""

SHARED_ROOM = 4 * MARGIN
"""Fewer values left are too few for two sides: head start, one jump of both, and the way back."""

LEAST_MARGIN = 10_000
"""Increments that a flip of everything needs: what the closing side gives out between our look and its close."""

Name: TypeAlias = tuple[str, str]
"""Schema and sequence."""


@dataclass(frozen=True)
class SequenceState:
    """Where one sequence stands. ``position`` and ``limit`` (also its columns') in its own direction, ``step`` > 0."""

    position: int
    step: int
    limit: int
    descends: bool
    cycles: bool

    @property
    def room(self) -> int:
        """Values it can still give out before its end."""
        return (self.limit - self.position) // self.step


def read(conn: Connection, buckets: Sequence[str]) -> dict[Name, SequenceState]:
    """Every sequence of the buckets, those behind identity columns too."""
    return {
        (schema, name): SequenceState(*state)
        for schema, name, *state in conn.execute(sql_file("sequences.sql"), {"buckets": list(buckets)})
    }


def set_position(conn: Connection, name: Name, state: SequenceState, position: int) -> None:
    """The next value comes after ``position``. Values that sessions have cached stay theirs: they lie before it."""
    value = -position if state.descends else position
    compare = "<=" if state.descends else ">="
    # Asked once more where it is set: a late runner, or values given out since, must not be overtaken.
    conn.execute(
        "SELECT setval(s.sequence, %s) FROM (SELECT format('%%I.%%I', %s::text, %s::text)::regclass AS sequence) s"
        f" WHERE (pg_sequence_last_value(s.sequence) {compare} %s) IS NOT TRUE OR %s".encode(),
        (value, *name, value, state.cycles),
    )


def advance(
    behind: Connection, ahead: Connection, buckets: Sequence[str], *, at_any_rate: bool = False
) -> int:
    """Set every sequence on ``behind`` ahead of the one on ``ahead``, which is about to stop; returns how many.

    By `MARGIN`, or by what room there is. Never backwards, and not by a little: a session that draws values meanwhile
    would be overtaken. ``at_any_rate``: on the way back an exhausted sequence is better than no way back.

    Raises:
        DataMismatch: a sequence has not room for `LEAST_MARGIN`, or is not there.
    """
    ours = read(behind, buckets)
    theirs = read(ahead, buckets)
    for name, other in theirs.items():
        own = _both(ours, name)
        # One that cycles is at its end whenever it wants: it begins again there, and gives values out twice anyway.
        if other.room < LEAST_MARGIN and not other.cycles and not at_any_rate:
            raise DataMismatch(
                f"Sequence {'.'.join(name)} has {other.room} values left; both sides together need {LEAST_MARGIN}.",
                remedy="Give it (and its column) a wider type.",
                sequence=".".join(name),
            )
        margin = min(MARGIN, max(LEAST_MARGIN, other.room // 4))  # never all that is left
        position = min(other.position + margin * other.step, other.limit)
        enough = min(other.position + margin // 2 * other.step, position)
        if own.position < enough or other.cycles:
            set_position(behind, name, own, position)
    return len(theirs)


def _both(ours: Mapping[Name, SequenceState], name: Name) -> SequenceState:
    if name not in ours:
        raise DataMismatch(
            f"Sequence {'.'.join(name)} is on one side only.",
            remedy="Somebody changed a bucket's definition while it moves: take that back.",
            sequence=".".join(name),
        )
    return ours[name]
