"""Partitions of the tables of load: made when first needed, dropped whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from foreshard.control.load_levels import Level

SCHEMA = "load_partitions"

MAKING = "foreshard.load.partitions"
"""The advisory lock under which partitions are made."""

# Not by to_regclass: in a transaction that waited for another it still says what was before.
_THERE = """
SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relispartition AND relname = ANY (%s)
"""
_MAKE = "CREATE TABLE {part} (LIKE {table} INCLUDING ALL)"
# Attached, not created as a partition: that would shut readers and writers of the whole table out.
_ATTACH = "ALTER TABLE {table} ATTACH PARTITION {part} FOR VALUES FROM ({start}) TO ({end})"
_LIST = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = %s::regclass ORDER BY c.relname
"""


@dataclass(frozen=True)
class Partition:
    """One partition, from ``start`` to before ``end``."""

    level: Level
    start: datetime

    @property
    def end(self) -> datetime:
        return self.level.period.end(self.start)

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(SCHEMA, self.level.partition(self.start))


def needed(level: Level, moments: Iterable[datetime]) -> list[Partition]:
    """The partitions that hold these moments, oldest first."""
    return [Partition(level, start) for start in sorted({level.period.start(one) for one in moments})]


def missing(conn: psycopg.Connection, partitions: Iterable[Partition]) -> list[Partition]:
    """Those that are not there."""
    wanted = {one.level.partition(one.start): one for one in partitions}
    there = {name for (name,) in conn.execute(_THERE, [SCHEMA, list(wanted)])}
    return [one for name, one in wanted.items() if name not in there]


def make(conn: psycopg.Connection, partitions: Iterable[Partition]) -> None:
    """Make those that are missing, in the open transaction. Concurrent callers wait for each other."""
    conn.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [MAKING])
    for one in missing(conn, partitions):
        names = {"part": one.identifier, "table": one.level.table}
        conn.execute(sql.SQL(_MAKE).format(**names))
        conn.execute(sql.SQL(_ATTACH).format(**names, start=sql.Literal(one.start), end=sql.Literal(one.end)))


def existing(conn: psycopg.Connection, level: Level) -> list[Partition]:
    """All partitions of a table, oldest first."""
    rows = conn.execute(_LIST, [level.table.as_string(conn)]).fetchall()
    starts = [datetime.strptime(str(name)[-8:], "%Y%m%d").replace(tzinfo=UTC) for (name,) in rows]
    return [Partition(level, start) for start in starts]


def drop(conn: psycopg.Connection, one: Partition) -> None:
    """Drop it, in the open transaction."""
    conn.execute(sql.SQL("DROP TABLE {}").format(one.identifier))
