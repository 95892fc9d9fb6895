"""The rights that `foreshard grants --sql` gives: they are enough, and none is too many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import func, update

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_models import Migration
from foreshard.control.router_store import RouterStore
from foreshard.control.shadow_store import ShadowStore, ShadowTotals
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import ForeshardError, PreflightFailed, RegistrationRefused
from foreshard.fleet.grants import (
    APPLICATION,
    OPERATOR,
    OWNER,
    application_grants_sql,
    control_grants_sql,
    directory_grants_sql,
    grants_sql,
    set_password,
)
from foreshard.fleet.server import SUPERUSER, PostgresServer
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration import janitor
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import room
from foreshard.postgres.connect import connect
from foreshard.postgres.names import GUARD_TRIGGER
from foreshard.postgres.subscriptions import QUIET
from foreshard.router import ControlMapSource
from foreshard.router.fleet_router import fleet_router
from tests.integration.moving_fleet import MovingFleet, ignore

REFUSALS = (ForeshardError, psycopg.Error)


def grant(shard: ShardDatabase) -> None:
    with shard.connect() as admin:
        admin.execute(grants_sql(database=shard.database).encode())


def change(shard: ShardDatabase, statement: str) -> None:
    with shard.connect() as admin:
        admin.execute(
            sql.SQL(statement).format(  # type: ignore[arg-type]
                database=sql.Identifier(shard.database), operator=sql.Identifier(OPERATOR),
                owner=sql.Identifier(OWNER), application=sql.Identifier(APPLICATION),
            )
        )  # fmt: skip


@pytest.fixture
def mended(shard_pair: ShardPair) -> Iterator[None]:
    """Roles belong to servers, which other tests share: whatever was taken away is given back."""
    yield
    for shard in (shard_pair.source, shard_pair.target):
        grant(shard)


WITHOUT = {
    "REPLICATION": ("ALTER ROLE {operator} NOREPLICATION", "REPLICATION"),
    "owner, INHERIT": ("GRANT {owner} TO {operator} WITH INHERIT FALSE", "b0000|schema|owner"),
    "owner, SET": (
        "GRANT {owner} TO {operator} WITH SET FALSE",
        f"belongs to {OWNER}, which we may not act for",
    ),
    "pg_create_subscription": ("REVOKE pg_create_subscription FROM {operator}", "pg_create_subscription"),
    "pg_read_all_stats": ("REVOKE pg_read_all_stats FROM {operator}", "pg_read_all_stats|pg_monitor"),
    "pg_read_all_settings": (
        "REVOKE pg_read_all_settings FROM {operator}",
        "pg_read_all_settings|pg_monitor",
    ),
    "CREATE": ("REVOKE CREATE ON DATABASE {database} FROM {operator}, {owner}", "CREATE|for database"),
    "CONNECT": ("REVOKE CONNECT ON DATABASE {database} FROM {operator}, PUBLIC", "CONNECT privilege"),
    "schema": ("ALTER SCHEMA foreshard OWNER TO {owner}", "schema foreshard|permission"),
}


@pytest.mark.slow
@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("right", WITHOUT)
def test_without_any_one_right_a_migration_says_what_is_missing(fleet: MovingFleet, right: str) -> None:
    statement, words = WITHOUT[right]
    shards = (fleet.pair.source, fleet.pair.target)
    for shard in shards:
        change(shard, statement)
    with pytest.raises(REFUSALS, match=words):
        fleet.run_until(Stage.CATCH_UP)
    for shard in shards:
        grant(shard)
    fleet.run_until(Stage.CATCH_UP)


@pytest.mark.slow
@pytest.mark.usefixtures("mended")
def test_preflight_wants_every_parameter_that_keeps_a_password_unseen(fleet: MovingFleet) -> None:
    target = fleet.pair.target
    for name in QUIET:
        change(target, f"REVOKE SET ON PARAMETER {name} FROM {{operator}}")
        with pytest.raises(PreflightFailed, match="CREATE SUBSCRIPTION out of the log"):
            fleet.run_until(Stage.PREPARE)
        grant(target)
    fleet.run_until(Stage.PREPARE)


@pytest.mark.usefixtures("mended")
def test_free_disk_far_away_needs_its_right(shard_pair: ShardPair, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = shard_pair.source
    monkeypatch.setattr("foreshard.postgres.room._on_this_host", lambda _: False)
    with connect(shard.operator_dsn) as conn:
        free = room.free_disk(conn, 1e15).free_bytes
        assert free is not None
        change(shard, "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() FROM {operator}")
        with pytest.raises(errors.InsufficientPrivilege, match="pg_ls_waldir"):
            room.free_disk(conn, 1e15)


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("REVOKE USAGE ON SCHEMA foreshard FROM {application}", "foreshard"),
        ("REVOKE CONNECT ON DATABASE {database} FROM {application}, PUBLIC", "CONNECT|connect"),
    ],
)
def test_without_its_rights_the_application_cannot_write(
    fleet: MovingFleet, statement: str, words: str
) -> None:
    write(fleet, fleet.control)
    change(fleet.pair.source, statement)
    with pytest.raises(REFUSALS, match=words):
        write(fleet, fleet.control)
    grant(fleet.pair.source)
    write(fleet, fleet.control)


def write(fleet: MovingFleet, control: ControlDatabase) -> None:
    """A write through a router, as the application."""
    key = fleet.starts()[0].tailnum
    with closing(fleet_router(control, "test", deadline_s=2)) as router:
        router.run(
            key, lambda tx: tx.execute("UPDATE {aircraft} SET cycles = cycles WHERE tailnum = %s", (key,))
        )


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["done", "reversed", "aborted", "left to the janitor"])
def test_with_these_rights_a_migration_comes_to_every_end(fleet: MovingFleet, ends: str) -> None:
    for shard in (fleet.pair.source, fleet.pair.target):
        grant(shard)  # again: it takes nothing away
        with shard.connect() as admin:
            assert admin.execute(
                "SELECT bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls) FROM pg_roles"
                " WHERE rolname = ANY (%s)",
                ([OPERATOR, OWNER, APPLICATION],),
            ).fetchone() == (False,)
            assert admin.execute(
                "SELECT bool_and(auth_method = 'scram-sha-256') FROM pg_hba_file_rules"
            ).fetchone() == (True,)
    if ends == "done":
        fleet.run_until(None)
    elif ends == "reversed":
        fleet.run_until(Stage.SOAK)
        with fleet.runner() as runner:
            runner.reverse(ignore)
    elif ends == "aborted":
        fleet.run_until(Stage.CUTOVER)
        with fleet.runner() as runner:
            runner.abort(ignore)
    else:
        fleet.run_until(Stage.VERIFY)
        with fleet.control.transaction() as session:  # it ended, and everything is still there
            session.execute(
                update(Migration).values(stage=Stage.ABORTED.value, finished_at=func.clock_timestamp())
            )
    janitor.clean(fleet.control)
    assert fleet.leftovers() == []
    with fleet.pair.source.connect() as admin:
        users = admin.execute("SELECT usename FROM pg_stat_activity WHERE usename IS NOT NULL").fetchall()
    assert {user for (user,) in users} <= {SUPERUSER, OPERATOR, APPLICATION}


FORBIDDEN = (
    "SELECT * FROM foreshard.sides",
    "SELECT * FROM foreshard.moving",
    "INSERT INTO foreshard.moving VALUES ('b0000', 'mine')",
    "DELETE FROM foreshard.moving",
    "UPDATE foreshard.sides SET side = 'target'",
    "SELECT foreshard.require_owner('b0000', 1, 1, true)",
    "SELECT foreshard.close('{schema}', 9, 1024, gen_random_uuid(), false)",
    "SELECT foreshard.rehearse_close('{schema}')",
    "SELECT foreshard.open('{schema}', 9, 0)",
    "SELECT foreshard.cancel('{schema}', 9)",
    "SELECT foreshard.adopt_timeline('{schema}', 0, 'x')",
    "SELECT foreshard.drop_copy('{schema}', 0)",
    "SELECT foreshard.retire('{schema}')",
    "SELECT * FROM {schema}.marker",
    "SELECT setval('{schema}.bound', 1024)",
    "SELECT last_value FROM {schema}.bound",
    "CREATE TABLE foreshard.mine ()",
    "CREATE FUNCTION foreshard.mine() RETURNS int RETURN 1",
    "CREATE OR REPLACE FUNCTION foreshard.timeline() RETURNS text LANGUAGE sql RETURN 'x'",
    "DROP SCHEMA foreshard CASCADE",
    f"DROP TRIGGER {GUARD_TRIGGER} ON b0000.aircraft",
    f"ALTER TABLE b0000.aircraft DISABLE TRIGGER {GUARD_TRIGGER}",
    "SET session_replication_role = replica",
    "SET ROLE foreshard",
    "SET ROLE airline",
    "SELECT rolpassword FROM pg_authid",
    "SELECT subconninfo FROM pg_subscription",
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
    "SELECT pg_read_file('pg_hba.conf')",
)


def test_the_application_can_neither_look_at_guards_nor_turn_them_off(copied_fleet: MovingFleet) -> None:
    with copied_fleet.runner() as runner:
        schema = runner.work.names.schema
    for shard in (copied_fleet.pair.source, copied_fleet.pair.target):
        with shard.connect(APPLICATION) as conn:
            for statement in FORBIDDEN:
                with pytest.raises(
                    (errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState),
                    match=r"denied|must be",
                ):
                    conn.execute(statement.format(schema=schema).encode())


def test_the_operator_reads_no_password(shard: ShardDatabase) -> None:
    with shard.connect(OPERATOR) as conn:
        for statement in (
            "SELECT rolpassword FROM pg_authid",
            "SELECT subconninfo FROM pg_subscription",
            "SELECT usename, passwd FROM pg_shadow",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(statement.encode())


def test_no_type_of_the_application_is_used_by_what_runs_as_the_operator(copied_fleet: MovingFleet) -> None:
    """pg_temp comes first in a search_path that does not name it: a domain there ran the application's code as us."""
    key = copied_fleet.starts()[0].tailnum
    with copied_fleet.pair.source.connect(APPLICATION) as conn:
        conn.execute("CREATE TEMP TABLE ran (as_whom text)")
        conn.execute("GRANT ALL ON ran TO PUBLIC")
        for name in ("regclass", "text", "int4", "int8", "bool", "oid", "uuid", "record", "json"):
            conn.execute(
                sql.SQL(
                    "CREATE FUNCTION pg_temp.spy({0}) RETURNS bool LANGUAGE plpgsql AS"
                    " 'BEGIN INSERT INTO pg_temp.ran VALUES (current_user); RETURN true; END'"
                ).format(sql.Identifier("pg_catalog", name))
                if name != "record"
                else sql.SQL("SELECT")
            )
            if name != "record":
                conn.execute(
                    sql.SQL("CREATE DOMAIN pg_temp.{0} AS pg_catalog.{0} CHECK (pg_temp.spy(VALUE))").format(
                        sql.Identifier(name)
                    )
                )
        conn.execute("SELECT foreshard.assert_owner('b0000', 'x'::pg_catalog.text)")
        conn.execute("UPDATE b0000.aircraft SET cycles = cycles WHERE tailnum = %s", (key,))
        assert conn.execute("SELECT DISTINCT as_whom FROM ran").fetchall() == []


def test_a_fleet_that_has_its_roles_keeps_them_as_they_are(shard: ShardDatabase) -> None:
    """Two owners, an application that is a group, an owner that logs in: as the fleet has them."""
    script = grants_sql("mover", ["one owner", "two"], ["readers", "writer"], shard.database).encode()
    roles = ["mover", "one owner", "two", "readers", "writer"]
    with shard.connect() as conn:
        conn.execute("CREATE ROLE mover LOGIN REPLICATION CONNECTION LIMIT 30")
        conn.execute("CREATE ROLE \"one owner\" LOGIN CREATEROLE VALID UNTIL '2099-01-01'")
        conn.execute("CREATE ROLE readers NOLOGIN; CREATE ROLE app LOGIN; GRANT readers TO app")
        try:
            before = conn.execute(
                "SELECT rolname, xmin FROM pg_authid WHERE rolname = ANY (%s)", (roles,)
            ).fetchall()
            conn.execute(script)
            grown = conn.execute("SELECT rolname, xmin FROM pg_authid WHERE rolname = ANY (%s)", (roles,))
            after = grown.fetchall()
            assert set(before) <= set(after), "what was right was changed"
            assert {name for name, _ in after} == set(roles)
            assert conn.execute("SELECT pg_has_role('app', 'readers', 'USAGE')").fetchone() == (True,)
            for owner in ("one owner", "two"):
                assert conn.execute("SELECT pg_has_role('mover', %s, 'USAGE')", (owner,)).fetchone() == (
                    True,
                )
            conn.execute(script)
            again = conn.execute("SELECT rolname, xmin FROM pg_authid WHERE rolname = ANY (%s)", (roles,))
            assert set(again.fetchall()) == set(after)
        finally:
            conn.execute('DROP OWNED BY mover, "one owner", two, readers, writer CASCADE')
            conn.execute('DROP ROLE mover, "one owner", two, readers, writer, app')


def test_an_owner_that_is_a_superuser_is_refused(shard: ShardDatabase) -> None:
    with shard.connect() as conn, pytest.raises(errors.RaiseException, match="postgres is a superuser"):
        conn.execute(grants_sql(owners=[SUPERUSER], database=shard.database).encode())


@pytest.fixture
def as_application(
    fleet: MovingFleet, control_server: PostgresServer
) -> Iterator[tuple[ControlDatabase, psycopg.Connection[tuple[object, ...]]]]:
    """The control database as the application sees it, and the administrator's connection to it."""
    database = str(conninfo_to_dict(fleet.control.conninfo)["dbname"])
    with control_server.connect(database) as admin:
        admin.execute(control_grants_sql(scheduler=None, control_database=database).encode())
        admin.execute(f"CREATE ROLE {APPLICATION} LOGIN".encode())
        set_password(admin, APPLICATION, control_server.passwords.ensure(control_server.port, APPLICATION))
        with connect(fleet.control.conninfo) as owner:
            owner.execute(application_grants_sql(control_database=database).encode())
        control = ControlDatabase(control_server.dsn(APPLICATION, database))
        yield control, admin
        control.close()
        admin.execute(f"DROP OWNED BY {APPLICATION}; DROP ROLE {APPLICATION}".encode())


def test_a_router_works_as_the_application_and_needs_each_right(
    fleet: MovingFleet, as_application: tuple[ControlDatabase, psycopg.Connection[tuple[object, ...]]]
) -> None:
    control, admin = as_application
    write(fleet, control)
    evidence = ShadowTotals(reads=1, matches=1)
    ShadowStore(control).record(fleet.migration, "test", evidence)
    database = str(conninfo_to_dict(control.conninfo)["dbname"])
    again = application_grants_sql(control_database=database).encode()
    for table in ("control_plane", "shards", "buckets", "migrations", "migration_buckets"):
        admin.execute(f"REVOKE SELECT ON {table} FROM {APPLICATION}".encode())
        with pytest.raises(Exception, match=f"permission denied for table {table}"):
            read_all(control)
        admin.execute(again)
    read_all(control)
    for revoked in (
        "INSERT ON shadow_reads",
        "SELECT (id, at) ON shadow_reads",
        "USAGE ON SEQUENCE shadow_reads_id_seq",
    ):
        admin.execute(f"REVOKE {revoked} FROM {APPLICATION}".encode())
        with pytest.raises(Exception, match=r"permission denied for .* shadow_reads"):
            ShadowStore(control).record(fleet.migration, "test", evidence)
        admin.execute(again)
    registration, read_map = RouterStore(control).registration("test"), TopologyStore(control).routing_map
    registration.beat(1)
    for revoked in (
        *(f"INSERT ({column})" for column in ("id", "application", "host", "pid", "lease_s", "epoch")),
        "SELECT (id)",
        "UPDATE (epoch)",
        "UPDATE (heartbeat_at)",
    ):
        admin.execute(f"REVOKE {revoked} ON routers FROM {APPLICATION}".encode())
        with pytest.raises(RegistrationRefused, match="permission denied for table routers") as refused:
            registration.beat(2)
        assert "foreshard grants" in str(refused.value.remedy)
        unregistered = RouterStore(control).registration("test")
        with closing(ControlMapSource(control.conninfo, read_map, unregistered)) as source:
            assert source.current().buckets  # it works, and every read asks its shard
            assert not source.fresh()
        admin.execute(again)
    registration.beat(2)
    admin.execute(f"REVOKE DELETE ON routers FROM {APPLICATION}".encode())
    with pytest.raises(Exception, match="permission denied for table routers"):
        registration.end()
    admin.execute(again)
    registration.end()
    with control.connect() as conn:
        conn.autocommit = True
        for statement in (
            "SELECT * FROM routers",
            "UPDATE routers SET lease_s = 300",
            "TRUNCATE routers",
            "SELECT * FROM shadow_reads",
            "SELECT * FROM approvals",
            "SELECT * FROM approvers",
            "INSERT INTO approval_events DEFAULT VALUES",
            "UPDATE migrations SET bound = 0",
            "UPDATE buckets SET shard = 'target'",
            "DELETE FROM shadow_reads",
            "CREATE TABLE mine ()",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(statement.encode())


def read_all(control: ControlDatabase) -> None:
    """What a router reads: the map, and the addresses of shards."""
    topology = TopologyStore(control)
    topology.routing_map()
    topology.shards()


def test_nobody_else_enters_the_control_database(servers: ThrowawayServers) -> None:
    dsn = servers.new_control_database()
    server, database = servers.server("control"), str(conninfo_to_dict(dsn)["dbname"])
    with server.connect(database) as admin:
        admin.execute(control_grants_sql(scheduler=None, control_database=database).encode())
        admin.execute("CREATE ROLE stranger LOGIN")
        set_password(admin, "stranger", server.passwords.ensure(server.port, "stranger"))
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(server.dsn("stranger", database))
        with pytest.raises(errors.RaiseException, match="not there yet"):
            admin.execute(application_grants_sql(control_database=database).encode())
        admin.execute("DROP ROLE stranger")
    control = ControlDatabase(dsn)
    control.migrate()
    control.close()
    servers.drop("control", database)


def test_a_directory_shows_two_columns_to_the_application(shard: ShardDatabase) -> None:
    with shard.connect() as conn:
        conn.execute('CREATE SCHEMA "Tenants.2026"')
        conn.execute("""CREATE TABLE "Tenants.2026"."who's where" ("Id" int, "in" text, owes money)""")
        name = """"Tenants.2026"."who's where\""""
        conn.execute(directory_grants_sql(name, "Id", "in").encode())
    with shard.connect(APPLICATION) as conn:
        assert conn.execute(f'SELECT "in" FROM {name} WHERE "Id" = 1'.encode()).fetchall() == []
        for query in (f"SELECT * FROM {name}", f'UPDATE {name} SET "in" = 1'):
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute(query.encode())
