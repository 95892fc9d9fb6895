"""A migration of one large table, and writers of it: for benchmarks of the comparison."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from foreshard.fleet.grants import APPLICATION, OWNER
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.settings import MigrationSettings
from foreshard.topology.keys import KeyType
from tests.integration.moving_fleet import MovingFleet

BUCKET, TABLE = "b0000", "entries"
TENANTS = 1000
SPACING = 10
"""Ids of rows are multiples of it, so that there is room for rows that should not be there."""

COLUMNS = ("id", "tenant", "at", "amount", "counter", "note")
SCHEMA = """
CREATE SCHEMA {bucket};
CREATE TABLE {table} (
    id bigint PRIMARY KEY, tenant bigint NOT NULL, at timestamptz NOT NULL, amount numeric(12,2) NOT NULL,
    counter int NOT NULL DEFAULT 0, note text);
GRANT USAGE ON SCHEMA {bucket} TO {application};
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {application};
"""
FILL = """
INSERT INTO {table}
SELECT n * {spacing}, mod(n, {tenants}), timestamptz '2026-01-01' + n * interval '1 second', n / 100.0, 0,
       CASE WHEN mod(n, 50) > 0 THEN repeat(md5(n::text), 2) || mod(n, 100000) END
  FROM generate_series(1, {rows}) AS n
"""
INDEXES = """
CREATE INDEX ON {table} (tenant, at);
CREATE INDEX ON {table} (at);
"""


class LedgerFleet(MovingFleet):
    """One bucket with one table of ``rows`` rows of about 150 bytes and two secondary indexes."""

    key_type = KeyType.INT8
    tables = {TABLE: "tenant"}  # noqa: RUF012
    all_buckets = (BUCKET,)
    buckets = (BUCKET,)

    def __init__(
        self, pair: ShardPair, control_dsn: str, state_dir: Path, settings: MigrationSettings, rows: int
    ) -> None:
        self.rows = rows
        super().__init__(pair, control_dsn, state_dir, settings)

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        """Create and fill it."""
        names = {
            "bucket": sql.Identifier(BUCKET),
            "table": sql.Identifier(BUCKET, TABLE),
            "application": sql.Identifier(APPLICATION),
            "rows": sql.Literal(self.rows),
            "spacing": sql.Literal(SPACING),
            "tenants": sql.Literal(TENANTS),
        }
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        for statements in (SCHEMA, FILL, INDEXES):
            conn.execute(sql.SQL(statements).format(**names))
        conn.execute("RESET ROLE")
        conn.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(BUCKET, TABLE)))


@contextmanager
def ledger_writers(
    source: ShardDatabase, rows: int, writes_per_s: int, clients: int = 4
) -> Iterator[list[int]]:
    """Write at the source until the block ends; the list then holds how many writes were acknowledged.

    Six tenths are updates of random rows, a tenth updates of three hot rows, the rest inserts and deletes. Ids whose
    tens are 0 (a tenth of all rows) are left alone: a fault that is put there stays.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(there, source.application_dsn, rows, writes_per_s, clients)
    )
    process.start()
    there.close()
    acknowledged: list[int] = []
    try:
        here.recv()  # every client is connected
        yield acknowledged
    finally:
        here.send(None)
        acknowledged.append(here.recv())
        process.join()


def _run(pipe: Pipe[Any, Any], dsn: str, rows: int, writes_per_s: int, clients: int) -> None:
    stop = threading.Event()
    counts = [0] * clients
    connections = [psycopg.connect(dsn, autocommit=True) for _ in range(clients)]

    def work(number: int) -> None:
        draw, conn = random.Random(number), connections[number]
        every = clients / writes_per_s
        due = time.monotonic() + draw.random() * every
        while not stop.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(
                due + every, time.monotonic() - 10 * every
            )  # what is late is caught up with, within reason
            statement, parameters = _write(draw, rows)
            conn.execute(statement, parameters)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    pipe.send(None)
    pipe.recv()
    stop.set()
    for thread in threads:
        thread.join()
    pipe.send(sum(counts))


_UPDATE = f"UPDATE {BUCKET}.{TABLE} SET counter = counter + 1, amount = amount + 0.01 WHERE id = %s"
_INSERT = f"INSERT INTO {BUCKET}.{TABLE} (id, tenant, at, amount) VALUES (%s, %s, now(), 1.00) ON CONFLICT DO NOTHING"
_DELETE = f"DELETE FROM {BUCKET}.{TABLE} WHERE id = %s"


def _write(draw: random.Random, rows: int) -> tuple[bytes, Sequence[int]]:
    row = draw.randrange(1, rows) // SPACING * SPACING + draw.randrange(
        1, SPACING
    )  # never a multiple of SPACING
    action = draw.random()
    if action < 0.6:
        return _UPDATE.encode(), (row * SPACING,)
    if action < 0.7:
        return _UPDATE.encode(), (draw.randrange(1, 4) * SPACING,)
    if action < 0.85:
        return _INSERT.encode(), (row * SPACING + 1, row % TENANTS)
    return _DELETE.encode(), (row * SPACING + 1,)
