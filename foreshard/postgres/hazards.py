"""What stands against moving a bucket, as its shard's catalogs tell: by bucket and table, with reason and remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from foreshard.postgres import sequences
from foreshard.postgres.connect import Connection, sql_file
from foreshard.topology.keys import KeyType


class Effect(StrEnum):
    """What a hazard means for its bucket."""

    BLOCKS = "blocks"
    """It cannot be moved until this is mended."""

    WHOLE = "whole"
    """It moves in one flip of all keys: canary steps, with two owners within the bucket, could break this."""

    WARNS = "warns"
    """Perhaps harmless; a person should know before it moves."""


@dataclass(frozen=True)
class Hazard:
    """One thing found. ``table`` is None where it is about the bucket itself or an object that is no table."""

    bucket: str
    table: str | None
    subject: str
    why: str
    remedy: str
    effect: Effect

    def __str__(self) -> str:
        return f"{self.subject} {self.why}"


def find(
    conn: Connection, buckets: Sequence[str], tables: Mapping[str, str], key_type: KeyType | None = None
) -> list[Hazard]:
    """All hazards of the buckets on this shard, in seven queries however many tables there are.

    ``tables``: distribution column by table. ``key_type`` None: the fleet's is not decided yet, so any is good that
    a key may have.
    """
    asked = {
        "buckets": list(buckets),
        "tables": list(tables),
        "columns": list(tables.values()),
        "key_types": [key_type] if key_type else list(KeyType),
    }
    found = [
        Hazard(bucket, table, subject, why, remedy, effect)
        for effect, file in (
            (Effect.BLOCKS, "hazards.sql"),
            (Effect.WHOLE, "canary_obstacles.sql"),
            (Effect.WARNS, "preflight_triggers.sql"),
        )
        for bucket, table, subject, why, remedy in conn.execute(sql_file(file), asked)
    ]
    for query in (
        sql_file("hazards_columns.sql"),
        sql_file("hazards_notes.sql"),
        sql_file("hazards_dependents.sql").format(inside=sql_file("bucket_objects.sql")),
    ):
        found += [
            Hazard(bucket, table, subject, why, remedy, Effect(effect))
            for bucket, table, subject, why, remedy, effect in conn.execute(query, asked)
        ]
    return [*found, *_of_sequences(conn, buckets)]


def _of_sequences(conn: Connection, buckets: Sequence[str]) -> list[Hazard]:
    """Sequences that two sides cannot both count on. One flip of everything lets one go on where the other was."""
    found = []
    for (bucket, name), state in sequences.read(conn, buckets).items():
        subject = f"sequence {bucket}.{name}"
        if state.cycles:
            why = "cycles: two sides would give out the same values"
            found.append(
                Hazard(bucket, None, subject, why, "Give it a range that does not end.", Effect.WHOLE)
            )
            continue
        for least, effect in ((sequences.LEAST_MARGIN, Effect.BLOCKS), (sequences.SHARED_ROOM, Effect.WHOLE)):
            if state.room < least:
                needs = "a flip needs" if effect is Effect.BLOCKS else "two sides need"
                why = f"has {state.room} values left, {needs} {least}"
                found.append(
                    Hazard(
                        bucket, None, subject, why, "Give it, and the column it feeds, a wider type.", effect
                    )
                )
                break
    return found
