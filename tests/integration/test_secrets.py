"""The one statement that must hold a password leaves none in a server's log."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from foreshard.errors import ConfigurationError
from foreshard.fleet.throwaway import ShardPair
from foreshard.postgres import guard, replication
from foreshard.postgres.connect import connect, with_password
from foreshard.postgres.guard import Side
from foreshard.postgres.names import MigrationNames

NAMES = MigrationNames("c0de", 1)


@pytest.fixture
def pair(shard_pair: ShardPair) -> ShardPair:
    for shard, side in ((shard_pair.source, Side.SOURCE), (shard_pair.target, Side.TARGET)):
        with connect(shard.operator_dsn) as conn:
            guard.install(conn)
            guard.create_side(conn, NAMES, side, "peer", ["b0000"])
            replication.create_publication(conn, NAMES)
    return shard_pair


def test_a_subscription_leaves_no_password_in_any_log(pair: ShardPair) -> None:
    password = str(conninfo_to_dict(with_password(pair.source.operator_dsn))["password"])
    elsewhere = make_conninfo(with_password(pair.source.operator_dsn), port=1)
    with pair.target.connect() as admin:
        admin.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
        admin.execute("SELECT pg_reload_conf()")
    with (
        connect(pair.target.operator_dsn, statement_timeout_s=20) as conn,
        connect(pair.source.operator_dsn, statement_timeout_s=20) as source,
    ):
        with pytest.raises(psycopg.OperationalError):
            replication.subscribe(conn, source, elsewhere, NAMES, NAMES.forward, copy_data=True)
        replication.drop_orphaned_slot(conn, source, NAMES.forward)
        replication.subscribe(conn, source, pair.source.operator_dsn, NAMES, NAMES.forward, copy_data=True)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT subconninfo FROM pg_subscription")
    with pair.target.connect() as admin:
        admin.execute("ALTER SYSTEM RESET log_min_duration_statement")
        admin.execute("SELECT pg_reload_conf()")
    logs = [shard.server.log_file.read_text(errors="replace") for shard in (pair.source, pair.target)]
    assert "duration:" in logs[1], "the log shows statements, only not this one"
    assert all(password not in log for log in logs)


def test_the_password_comes_from_the_passfile(tmp_path: Path) -> None:
    passfile = tmp_path / "pgpass"
    passfile.write_text("# comment\nhost:5432:*:other:wrong\nhost:5432:db:role:with\\:colon\\\\slash\n")
    conninfo = f"host=host port=5432 dbname=db user=role passfile={passfile}"
    assert conninfo_to_dict(with_password(conninfo))["password"] == "with:colon\\slash"
    for wrong in (conninfo.replace("user=role", "user=nobody"), "host=host dbname=db user=role"):
        with pytest.raises(ConfigurationError):
            with_password(wrong)
