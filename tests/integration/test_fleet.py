"""The embedded fleet on real servers: its whole life, and the accidents."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest

from foreshard.errors import ForeshardError, ShardUnavailable
from foreshard.fleet import os_user
from foreshard.fleet.binaries import find_binaries
from foreshard.fleet.embedded import SERVERS, SHARDS, EmbeddedFleet
from foreshard.fleet.grants import APPLICATION, OPERATOR, OWNER, grants_sql
from foreshard.fleet.pgpass import HOST
from foreshard.fleet.server import port_is_free
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers


@pytest.fixture(scope="module")
def fleet() -> Iterator[EmbeddedFleet]:
    """One fleet for the tests of this file; each of them leaves it running."""
    directory = Path(tempfile.mkdtemp(prefix="foreshard-fleet-"))
    directory.chmod(0o755)
    made = EmbeddedFleet(directory / "state")
    try:
        made.up()
        yield made
    finally:
        made.down(wipe=True)
        shutil.rmtree(directory)


def pids(fleet: EmbeddedFleet) -> dict[str, int | None]:
    return {status.name: status.pid for status in fleet.status()}


def test_every_role_reaches_its_database_and_no_connection_string_holds_a_password(
    fleet: EmbeddedFleet,
) -> None:
    for shard in SHARDS:
        for dsn, role in ((fleet.operator_dsn(shard), OPERATOR), (fleet.application_dsn(shard), APPLICATION)):
            assert "password" not in dsn
            with psycopg.connect(dsn) as conn:
                facts = conn.execute("SELECT current_user, current_database()").fetchone()
            assert facts == (role, "airline")
    with psycopg.connect(fleet.control_dsn()) as conn:
        assert conn.execute("SELECT current_user, current_database()").fetchone() == (
            "foreshard",
            "foreshard",
        )


def test_the_schedulers_address_works_with_asyncpg(fleet: EmbeddedFleet) -> None:
    url = fleet.scheduler_url()
    assert urlsplit(url).password is None

    async def who() -> tuple[str, str]:
        conn = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            row = await conn.fetchrow("SELECT current_user, current_database()")
            return row[0], row[1]
        finally:
            await conn.close()

    assert asyncio.run(who()) == ("prefect", "prefect")


def test_servers_are_separate_durable_and_ready_for_logical_replication(fleet: EmbeddedFleet) -> None:
    identifiers = set()
    for server in fleet.servers():
        with server.connect() as conn:
            (identifier,) = conn.execute("SELECT system_identifier FROM pg_control_system()").fetchone() or (
                0,
            )
            identifiers.add(identifier)
            for name, value in {
                "wal_level": "logical",
                "fsync": "on",
                "listen_addresses": "127.0.0.1",
                "max_sync_workers_per_subscription": "4",
                "password_encryption": "scram-sha-256",
            }.items():
                assert conn.execute(f"SHOW {name}".encode()).fetchone() == (value,)
    assert len(identifiers) == len(SERVERS)


def test_a_wrong_password_is_refused(fleet: EmbeddedFleet) -> None:
    server = fleet.server("shard-1")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"host=127.0.0.1 port={server.port} user=postgres dbname=postgres password=wrong")


def test_only_the_owner_can_read_the_password_file(fleet: EmbeddedFleet) -> None:
    assert stat.S_IMODE(fleet.passwords.path.stat().st_mode) == 0o600


def test_no_password_reaches_a_log(fleet: EmbeddedFleet) -> None:
    words = [line.rsplit(":", 1)[1] for line in fleet.passwords.path.read_text().splitlines()]
    logs = "".join(status.log_file.read_text() for status in fleet.status())
    assert len(words) == 4 * len(SHARDS) + 3, (
        "superuser and three roles on each shard; two on the control server"
    )
    assert not any(word in logs for word in words)


def test_up_again_changes_nothing(fleet: EmbeddedFleet) -> None:
    before = pids(fleet)
    EmbeddedFleet(fleet.state_dir).up()
    assert pids(fleet) == before


def test_a_killed_server_comes_back_with_its_data_and_port(fleet: EmbeddedFleet) -> None:
    server = fleet.server("shard-2")
    with server.connect("airline") as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    server.kill9()
    assert not server.is_running
    assert (server.data_dir / "postmaster.pid").exists()
    fleet.up()
    assert fleet.server("shard-2").port == server.port
    with server.connect("airline") as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_foreign_process_in_a_stale_pid_file_is_neither_trusted_nor_harmed(fleet: EmbeddedFleet) -> None:
    server = fleet.server("shard-3")
    server.kill9()
    pid_file = server.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    account = None if server.os_user.is_caller else server.os_user.uid
    with subprocess.Popen(["sleep", "60"], user=account) as bystander:
        try:
            pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
            assert pids(fleet)["shard-3"] is None
            fleet.up()
            assert pids(fleet)["shard-3"] not in (None, bystander.pid)
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_a_port_that_was_taken_meanwhile_is_replaced(fleet: EmbeddedFleet) -> None:
    server = fleet.server("shard-4")
    server.stop()
    with socket.create_server((HOST, server.port)):
        assert not port_is_free(server.port)
        fleet.up()
    moved = fleet.server("shard-4")
    assert moved.port != server.port
    with psycopg.connect(fleet.operator_dsn("shard-4")) as conn:
        assert conn.execute("SHOW port").fetchone() == (str(moved.port),)


def test_an_interrupted_initialisation_is_done_again(fleet: EmbeddedFleet) -> None:
    server = fleet.server("shard-4")
    server.stop()
    shutil.rmtree(server.data_dir)
    (server.directory / "data.new").mkdir()
    (server.directory / "data.new" / "PG_VERSION").write_text("17\n")
    (server.directory / "superuser").write_text("left over")
    fleet.up()
    with psycopg.connect(fleet.operator_dsn("shard-4")) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_ctrl_c_does_not_reach_the_servers(fleet: EmbeddedFleet) -> None:
    """The servers that a command starts belong to no process group of that command."""
    fleet.server("shard-1").stop()
    code = (
        "import os, signal, sys; from pathlib import Path; from foreshard.fleet.embedded import EmbeddedFleet;"
        # Ignored where the tests run in the background of a shell without a terminal, as in CI.
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "EmbeddedFleet(Path(sys.argv[1])).up(); os.killpg(0, signal.SIGINT); signal.pause()"
    )
    command = [sys.executable, "-c", code, str(fleet.state_dir)]
    ended = subprocess.run(
        command,
        start_new_session=True,
        capture_output=True,
        env=python_environment(),
        timeout=120,
        check=False,
    )
    assert ended.returncode == -signal.SIGINT, ended.stderr.decode()
    assert all(pids(fleet).values())


def test_lost_passwords_are_an_error_with_a_remedy(fleet: EmbeddedFleet) -> None:
    kept = fleet.passwords.path.read_bytes()
    fleet.passwords.path.unlink()
    try:
        with pytest.raises(ForeshardError, match=r"no longer in .*down --wipe"):
            fleet.up()
    finally:
        fleet.passwords.path.write_bytes(kept)
        fleet.passwords.path.chmod(0o600)


def test_a_broken_pointer_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text(json.dumps({"store": 1}))
    with pytest.raises(ForeshardError, match=r"fleet\.json cannot be read"):
        EmbeddedFleet(tmp_path).up()


def test_no_fleet_is_no_error(tmp_path: Path) -> None:
    fleet = EmbeddedFleet(tmp_path / "nothing")
    fleet.down(wipe=True)
    assert fleet.status() == ()
    with pytest.raises(ForeshardError, match="no embedded server 'shard-1'"):
        fleet.server("shard-1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands servers to another account")
def test_as_root_a_private_project_is_served_from_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """State and programs in a directory that only root can enter, as below /root."""
    tmp_path.chmod(0o700)
    private = tmp_path / "wheel"
    shutil.copytree(find_binaries().bin_dir.parent, private, symlinks=True)
    monkeypatch.setenv("FORESHARD_PG_BIN", str(private / "bin"))
    fleet = EmbeddedFleet(tmp_path / "state")
    try:
        fleet.up()
        store = json.loads((tmp_path / "state" / "fleet.json").read_text())["store"]
        assert not store.startswith(str(tmp_path))
        with psycopg.connect(fleet.operator_dsn("shard-1")) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
        # The project's state deleted by hand, the servers still there: they are found, stopped and replaced.
        orphan = fleet.server("shard-1")
        shutil.rmtree(tmp_path / "state")
        fleet.up()
        assert all(pids(fleet).values())
        assert orphan.port == fleet.server("shard-1").port or port_is_free(orphan.port)
    finally:
        fleet.down(wipe=True)
    assert not Path(store).exists()


def test_grants_may_be_run_twice_and_make_no_superuser(shard: ShardDatabase) -> None:
    with shard.connect() as conn:
        conn.execute(grants_sql(database=shard.database).encode())
        roles = conn.execute(
            "SELECT rolname, rolsuper, rolreplication, rolcanlogin FROM pg_roles WHERE rolname = ANY(%s) ORDER BY 1",
            [[OPERATOR, OWNER, APPLICATION]],
        ).fetchall()
    assert roles == [
        (OWNER, False, False, False),
        (APPLICATION, False, False, True),
        (OPERATOR, False, True, True),
    ]


def test_grants_refuse_the_wrong_database(shard: ShardDatabase) -> None:
    with (
        shard.connect() as conn,
        pytest.raises(psycopg.errors.RaiseException, match="connect to the database"),
    ):
        conn.execute(grants_sql(database="elsewhere").encode())


def test_the_operator_replicates_without_being_superuser(shard_pair: ShardPair) -> None:
    source, target = shard_pair.source, shard_pair.target
    for shard in (source, target):
        with shard.connect(OPERATOR) as conn:
            conn.execute("SET ROLE airline")
            conn.execute("CREATE SCHEMA b0000 CREATE TABLE t (id int PRIMARY KEY)")
    with source.connect(OPERATOR) as conn:
        conn.execute("CREATE PUBLICATION p FOR TABLE b0000.t")
        conn.execute("INSERT INTO b0000.t VALUES (1)")
    password = source.server.passwords.password(source.server.port, OPERATOR)
    with target.connect(OPERATOR) as conn:
        conninfo = psycopg.conninfo.make_conninfo(
            f"host=127.0.0.1 port={source.server.port} dbname={source.database} user={OPERATOR}",
            password=password,
        )
        conn.execute(psycopg.sql.SQL("CREATE SUBSCRIPTION s CONNECTION {} PUBLICATION p").format(conninfo))
        with conn.transaction():
            conn.execute("SET LOCAL statement_timeout = '30s'")
            conn.execute(
                "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM b0000.t) LOOP"
                " PERFORM pg_sleep(0.01); END LOOP; END $$"
            )
    # The fixture now has a subscription, its slot and a publication to clear away.


def test_a_killed_shard_is_unavailable_and_can_be_started_again(servers: ThrowawayServers) -> None:
    server = servers.server("source")
    server.kill9()
    with pytest.raises(ShardUnavailable, match="source does not answer"):
        server.connect()
    assert servers.server("source").connect().execute("SELECT 1").fetchone() == (1,)


def python_environment() -> dict[str, str]:
    """This process' import path, so that a child finds the package under test."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_an_account_is_found_for_root_only() -> None:
    assert os_user.server_user().uid != 0
