"""The application of the backfill benchmarks: one table a bucket, rows of about 150 bytes, a key, two more indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.grants import OWNER, grants_sql
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.postgres import guard
from foreshard.postgres.connect import connect
from foreshard.settings import MigrationSettings
from foreshard.topology.keys import KeyType
from tests.integration.moving_fleet import MovingFleet, ignore

ROW_BYTES = 149
"""Of the heap, with the row's header and its pointer."""

BUCKET = """
CREATE SCHEMA {bucket} AUTHORIZATION {owner};
SET LOCAL ROLE {owner};
CREATE TABLE {orders} (
  id bigint NOT NULL, product int NOT NULL, placed_at timestamptz NOT NULL, amount numeric(10, 2) NOT NULL,
  status text NOT NULL, note text NOT NULL
);
INSERT INTO {orders}
SELECT n, (n * 7919) % 100003, '2020-01-01'::timestamptz + n * interval '1 s', (n % 10000) / 100.0, 'st' || n % 7,
  md5(n::text) || md5((n + 1)::text) || left(md5((n + 2)::text), 20)
FROM generate_series(1::bigint, {rows}) n;
ALTER TABLE {orders} ADD PRIMARY KEY (id);
CREATE INDEX ON {orders} (product);
CREATE INDEX ON {orders} (placed_at);
"""

COPIED = """
SELECT format('index %%s valid=%%s', pg_get_indexdef(i.indexrelid), i.indisvalid) FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = ANY (%(buckets)s::regnamespace[])
UNION ALL
SELECT format('constraint on %%s: %%s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
WHERE connamespace = ANY (%(buckets)s::regnamespace[])
UNION ALL
SELECT format('table %%s %%s %%s', oid::regclass, relpersistence, pg_get_userbyid(relowner)) FROM pg_class
WHERE relkind = 'r' AND relnamespace = ANY (%(buckets)s::regnamespace[])
ORDER BY 1
"""
"""What every contestant must leave behind: indexes that are valid, constraints, logged tables and their owner."""


@dataclass(frozen=True)
class Shape:
    """How many buckets, and about how many MB (of 10^6 bytes) of heap in each of them."""

    buckets: int
    megabytes: int

    @property
    def names(self) -> tuple[str, ...]:
        """In order of bucket number."""
        return tuple(f"bucket_{number:04}" for number in range(self.buckets))

    @property
    def rows(self) -> int:
        """Of each bucket."""
        return self.megabytes * 1_000_000 // ROW_BYTES


class OrdersFleet(MovingFleet):
    """A source that is filled once, and a new migration for every target."""

    key_type = KeyType.INT8
    tables: Mapping[str, str] = {"orders": "id"}

    def __init__(
        self, pair: ShardPair, control_dsn: str, state_dir: Path, settings: MigrationSettings, shape: Shape
    ) -> None:
        self.shape = shape
        self.all_buckets: Sequence[str] = shape.names
        self.buckets: Sequence[str] = shape.names
        super().__init__(pair, control_dsn, state_dir, settings)
        self._give_up()  # the one that the base class opens

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        for bucket in self.buckets:
            with conn.transaction():
                conn.execute(
                    sql.SQL(BUCKET).format(
                        bucket=sql.Identifier(bucket),
                        orders=sql.Identifier(bucket, "orders"),
                        owner=sql.Identifier(OWNER),
                        rows=sql.Literal(self.shape.rows),
                    )
                )
            # As rows stand that are older than the last vacuum: the first reader would pay for its hint bits.
            conn.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(bucket, "orders")))

    def next_migration(self, target: ShardDatabase, settings: MigrationSettings) -> None:
        """Plan to move the buckets to ``target``; the migration before must have ended."""
        self.pair = ShardPair(self.pair.source, target)
        TopologyStore(self.control).put_shard(
            ShardRecord(target.name, target.operator_dsn, target.application_dsn, {"queries_per_s": 100.0})
        )
        for shard in (self.pair.source, target):
            with shard.connect() as conn:
                conn.execute(grants_sql(database=shard.database).encode())
            with connect(shard.operator_dsn) as operator:
                guard.install(operator)
        self.settings = self.settings.model_copy(update={"migration": settings})
        self.migration = self.store.open(self.plan(self.pair.source.name, target.name, self.buckets))

    def uninstall(self) -> None:
        """Leave only the application on the source, until the next migration: others are not to copy Foreshard."""
        with self.pair.source.connect() as conn:
            conn.execute("DROP SCHEMA IF EXISTS foreshard CASCADE")

    def heap_bytes(self) -> int:
        """Of all buckets on the source, without indexes."""
        with self.pair.source.connect() as conn:
            row = conn.execute(
                "SELECT sum(pg_relation_size(oid)) FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = ANY (%s::regnamespace[])",
                [list(self.buckets)],
            ).fetchone()
        assert row is not None
        return int(str(row[0]))

    def copied(self, shard: ShardDatabase) -> list[str]:
        """Definitions and row counts of the buckets there."""
        with shard.connect() as conn:
            found = [
                str(line) for (line,) in conn.execute(COPIED, {"buckets": list(self.buckets)}).fetchall()
            ]
            for bucket in self.buckets:
                counted = conn.execute(
                    sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(bucket, "orders"))
                ).fetchone()
                found.append(f"rows of {bucket}: {counted}")
        return found

    def _give_up(self) -> None:
        with self.runner() as runner:
            runner.abort(ignore)
