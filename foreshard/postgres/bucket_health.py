"""What is wrong with a bucket that nobody moves, on the shard where it stands: one finding for each object."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from foreshard.postgres import guard
from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.names import COPY_TRIGGER, GUARD_TRIGGER, TRUNCATE_TRIGGER

OUR_TRIGGERS = (GUARD_TRIGGER, TRUNCATE_TRIGGER, COPY_TRIGGER)


@dataclass(frozen=True)
class Ailment:
    """``kind`` of the object that is not as it should be, its name within the bucket, and what about it.

    ``ours``: what a migration makes, and takes away at its end.
    """

    kind: str
    name: str
    what: str
    ours: bool = False


def ailments(conn: Connection, bucket: str) -> list[Ailment]:
    """Invalid indexes, constraints that were never validated, disabled triggers, sequences that will give a value out
    twice, and what a migration has left. Reads the highest value of each column that has a sequence.
    """
    parameters = {"bucket": bucket, "ours": list(OUR_TRIGGERS)}
    found = [Ailment(*row) for row in conn.execute(sql_file("bucket_health.sql"), parameters)]
    if guard.installed(conn):
        found += [
            Ailment("row", "foreshard.moving", f"says that it moves in {migration}", ours=True)
            for (migration,) in conn.execute(
                "SELECT migration FROM foreshard.moving WHERE bucket = %s", (bucket,)
            )
        ]
    return found + _sequences_behind(conn, bucket)


def _sequences_behind(conn: Connection, bucket: str) -> list[Ailment]:
    """The next value of an owned sequence is one that its column has, or has passed."""
    found = []
    for sequence, table, column, up, last in conn.execute(
        sql_file("bucket_sequences.sql"), {"bucket": bucket}
    ).fetchall():
        row = conn.execute(
            sql.SQL("SELECT {}({}) FROM {}").format(
                sql.SQL("max" if up else "min"), sql.Identifier(column), sql.Identifier(bucket, table)
            )
        ).fetchone()
        most = None if row is None else row[0]
        if most is not None and (most > last if up else most < last):
            ahead = abs(int(most) - int(last))
            found.append(Ailment("sequence", sequence, f"is {ahead} behind {table}.{column}"))
    return found
