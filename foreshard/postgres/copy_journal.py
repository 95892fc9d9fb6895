"""What of a migration's copy is done, kept on the target in the transactions that do it. SQL: sql/copy_journal.sql."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from foreshard.errors import LeaseLost
from foreshard.postgres.block_ranges import BlockRange, Leaf
from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.copy_snapshot import CopySnapshot
from foreshard.postgres.names import MigrationNames


@dataclass(frozen=True)
class Copying:
    """A copy under way: its ``attempt``, the snapshot that it reads, whether all of it is there."""

    attempt: int
    snapshot: CopySnapshot
    finished: bool


@dataclass(frozen=True)
class Chunk:
    """A range of blocks by its number in the journal; ``rows`` is None until it is copied."""

    number: int
    range: BlockRange
    rows: int | None


class CopyJournal:
    """One migration's journal on the target; every method may be called on any connection to it."""

    def __init__(self, names: MigrationNames) -> None:
        self._names = names

    def create(self, conn: Connection) -> None:
        """The journal's tables. Idempotent."""
        with conn.transaction():
            conn.execute(self._sql(sql_file("copy_journal.sql")))

    def copying(self, conn: Connection) -> Copying | None:
        """The copy under way or finished; None if none was begun."""
        row = conn.execute(
            self._sql(
                sql.SQL(
                    "SELECT attempt, snapshot, holder_pid, holder_start, finished FROM {migration}.copying"
                )
            )
        ).fetchone()
        return None if row is None else Copying(row[0], CopySnapshot(*row[1:4]), row[4])

    def begin(
        self,
        conn: Connection,
        before: Copying | None,
        snapshot: CopySnapshot,
        ranges: Sequence[BlockRange],
        tables: Sequence[sql.Identifier],
    ) -> None:
        """A new attempt in place of ``before``: whatever an earlier one copied into ``tables`` is gone, and leaves no
        dead rows behind.

        Only while a copy guard stands on the tables and no subscription reads them.

        Raises:
            LeaseLost: another runner has begun an attempt meanwhile.
        """
        with conn.transaction():
            begun = conn.execute(
                self._sql(
                    sql.SQL(
                        "INSERT INTO {migration}.copying AS c (attempt, snapshot, holder_pid, holder_start)"
                        " VALUES (%(attempt)s, %(name)s, %(pid)s, %(start)s)"
                        " ON CONFLICT (singleton) DO UPDATE SET (attempt, snapshot, holder_pid, holder_start, finished)"
                        "   = (EXCLUDED.attempt, EXCLUDED.snapshot, EXCLUDED.holder_pid, EXCLUDED.holder_start, false)"
                        " WHERE c.attempt = %(before)s AND NOT c.finished RETURNING attempt"
                    )
                ),
                {
                    "attempt": 1 if before is None else before.attempt + 1,
                    "before": 0 if before is None else before.attempt,
                    "name": snapshot.name,
                    "pid": snapshot.holder_pid,
                    "start": snapshot.holder_start,
                },
            ).fetchone()
            if begun is None:
                raise LeaseLost("Another runner began this copy anew; this one stops.")
            self.allow_writes(conn)
            conn.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(tables)))
            conn.execute(self._sql(sql.SQL("DELETE FROM {migration}.chunks")))
            with conn.cursor() as cursor:
                cursor.executemany(
                    self._sql(
                        sql.SQL(
                            "INSERT INTO {migration}.chunks"
                            ' (bucket, "table", leaf_schema, leaf, first_block, end_block, bytes)'
                            " VALUES (%s, %s, %s, %s, %s, %s, %s)"
                        )
                    ),
                    [
                        (r.leaf.bucket, r.leaf.table, r.leaf.schema, r.leaf.name, r.first, r.end, r.bytes)
                        for r in ranges
                    ],
                )

    def chunks(self, conn: Connection) -> list[Chunk]:
        """All chunks of the present attempt, in the order in which they should be copied."""
        rows = conn.execute(
            self._sql(
                sql.SQL(
                    'SELECT id, bucket, "table", leaf_schema, leaf, first_block, end_block, bytes, rows'
                    "  FROM {migration}.chunks ORDER BY id"
                )
            )
        )
        return [
            Chunk(number, BlockRange(Leaf(bucket, table, schema, leaf, 0, 0), first, end, size), copied)
            for number, bucket, table, schema, leaf, first, end, size, copied in rows
        ]

    def claim(self, conn: Connection, chunk: Chunk) -> bool:
        """Inside the chunk's transaction: nobody else copies it while that lasts. False if it is copied already.

        Raises:
            LeaseLost: it is of an attempt that another runner has ended.
        """
        row = conn.execute(
            self._sql(sql.SQL("SELECT rows IS NULL FROM {migration}.chunks WHERE id = %s FOR UPDATE")),
            (chunk.number,),
        ).fetchone()
        if row is None:
            raise LeaseLost("Another runner began this copy anew; this one stops.")
        return bool(row[0])

    def copied(self, conn: Connection, chunk: Chunk, rows: int) -> None:
        """Inside the chunk's transaction: its rows are there as soon as that commits."""
        conn.execute(
            self._sql(sql.SQL("UPDATE {migration}.chunks SET rows = %s WHERE id = %s")), (rows, chunk.number)
        )

    def finish(self, conn: Connection) -> None:
        """All of it is there: the snapshot is not needed any more, and no attempt begins anew."""
        conn.execute(
            self._sql(
                sql.SQL(
                    "UPDATE {migration}.copying SET finished = true"
                    " WHERE NOT EXISTS (SELECT FROM {migration}.chunks WHERE rows IS NULL)"
                )
            )
        )

    def allow_writes(self, conn: Connection) -> None:
        """Let this session write where the copy guard stands."""
        conn.execute("SELECT set_config('foreshard.copies', %s, false)", (self._names.schema,))

    def made(self, conn: Connection) -> set[str]:
        """Labels of the definitions that have been made."""
        return {label for (label,) in conn.execute(self._sql(sql.SQL("SELECT label FROM {migration}.made")))}

    def note_made(self, conn: Connection, label: str) -> None:
        """Inside the transaction that makes it. Raises `psycopg.errors.UniqueViolation` if another one did."""
        conn.execute(self._sql(sql.SQL("INSERT INTO {migration}.made VALUES (%s)")), (label,))

    def _sql(self, query: sql.SQL) -> sql.Composed:
        return query.format(migration=sql.Identifier(self._names.schema))
