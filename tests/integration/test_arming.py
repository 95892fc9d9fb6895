"""Guards onto tables that something else holds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from psycopg import sql

from foreshard.errors import ForeshardError
from foreshard.fleet.grants import OPERATOR
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.migration import arming
from foreshard.postgres import guard
from foreshard.postgres.connect import Connection
from tests.integration.guarded_fleet import NAMES, Fleet
from tests.integration.moving_fleet import wait_until

TABLE = sql.Identifier("b0000", "aircraft")


@pytest.fixture
def vacuumed(shard_pair: ShardPair) -> Iterator[ShardDatabase]:
    """A target on which an autovacuum of the bucket's table has begun that would take hours."""
    fleet = Fleet(shard_pair)
    fleet.begin_migration()
    target = shard_pair.target
    with target.connect() as conn:
        conn.execute(
            "ALTER TABLE b0000.aircraft SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,"
            " autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0)"
        )
        conn.execute("SET session_replication_role = replica")  # past the guard
        conn.execute(
            "INSERT INTO b0000.aircraft SELECT 'v' || n || repeat('x', 200) FROM generate_series(1, 20000) n"
        )
        conn.execute("DELETE FROM b0000.aircraft WHERE tailnum LIKE 'v%%'")
    with target.server.connect("postgres") as admin:
        admin.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        admin.execute("SELECT pg_reload_conf()")
    try:
        with target.connect() as conn:
            wait_until(lambda: _vacuums(conn), "an autovacuum of the table", timeout_s=60)
        yield target
    finally:
        with target.server.connect("postgres") as admin:
            admin.execute("ALTER SYSTEM RESET autovacuum_naptime")
            admin.execute("SELECT pg_reload_conf()")


def _vacuums(conn: Connection) -> bool:
    return (
        conn.execute(
            "SELECT 1 FROM pg_stat_progress_vacuum WHERE relid = 'b0000.aircraft'::regclass"
        ).fetchone()
        is not None
    )


def _arm(conn: Connection) -> None:
    arming.patiently(TABLE, partial(guard.arm_for_copy, conn, NAMES, TABLE))


def test_an_autovacuum_gives_way_where_nobody_is_served(
    vacuumed: ShardDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arming, "ATTEMPTS", 5)
    with vacuumed.connect(OPERATOR) as conn:
        guard.create_copy_guard(conn, NAMES)
        conn.execute("SET lock_timeout = 50")
        with pytest.raises(ForeshardError, match="No lock on"):
            _arm(conn)
        assert _vacuums(conn)
        conn.execute(f"SET lock_timeout = {arming.long_wait_ms(conn)}".encode())
        _arm(conn)
