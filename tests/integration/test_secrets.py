"""Passwords reach whoever logs in, from wherever they stand, and nobody else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from foreshard.control.engine import ControlDatabase
from foreshard.errors import ForeshardError, ShardUnavailable
from foreshard.fleet.binaries import find_binaries
from foreshard.fleet.grants import APPLICATION, OPERATOR, set_password
from foreshard.fleet.server import SUPERUSER
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.postgres import guard, passwords, publications, schema_copy, subscriptions
from foreshard.postgres.connect import connect, with_password
from foreshard.postgres.guard import Side
from foreshard.postgres.names import MigrationNames
from foreshard.postgres.passwords import PasswordSource
from tests.integration.moving_fleet import MovingFleet, assert_whole, writers

NAMES = MigrationNames("c0de", 1)


def password_of(shard: ShardDatabase, role: str = OPERATOR) -> str:
    password = shard.server.passwords.password(shard.server.port, role)
    assert password is not None
    return password


def without_passfile(dsn: str) -> str:
    return make_conninfo("", **{k: v for k, v in conninfo_to_dict(dsn).items() if k != "passfile"})


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    yield
    passwords.use(())
    passwords.read_blocks_by(None)


@pytest.fixture
def pair(shard_pair: ShardPair) -> ShardPair:
    for shard, side in ((shard_pair.source, Side.SOURCE), (shard_pair.target, Side.TARGET)):
        with connect(shard.operator_dsn) as conn:
            guard.install(conn)
            guard.create_side(conn, NAMES, side, "peer", ["b0000"])
            publications.create(conn, NAMES)
    return shard_pair


def test_a_subscription_shows_its_password_to_nobody(pair: ShardPair) -> None:
    password = password_of(pair.source)
    loud = {
        "log_statement": "all",
        "log_min_duration_statement": "0",
        "log_min_duration_sample": "0",
        "log_transaction_sample_rate": "1",
        "log_min_error_statement": "debug5",
        "log_replication_commands": "on",
        "log_connections": "on",
    }
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        with pair.target.connect() as admin:
            while not done.is_set():
                seen.extend(str(row) for row in admin.execute("SELECT * FROM pg_stat_activity").fetchall())

    watching = threading.Thread(target=watch)
    login = pair.source.operator_dsn
    with (
        changed_settings(pair.target, loud),
        connect(pair.target.superuser_dsn) as admin,
        connect(pair.source.operator_dsn, statement_timeout_s=20) as source,
        connect(pair.target.operator_dsn, statement_timeout_s=20) as conn,
    ):
        admin.execute(f"REVOKE pg_create_subscription FROM {OPERATOR}".encode())
        with pytest.raises(psycopg.Error, match="permission denied") as refused:
            subscriptions.subscribe(conn, source, login, NAMES, NAMES.forward, copy_data=True)
        admin.execute(f"GRANT pg_create_subscription TO {OPERATOR}".encode())
        subscriptions.drop_orphaned_slot(conn, source, NAMES.forward)
        admin.execute(
            "BEGIN; LOCK TABLE pg_subscription IN EXCLUSIVE MODE"
        )  # the statement waits for its end
        watching.start()
        threading.Timer(1, lambda: admin.execute("COMMIT")).start()
        subscriptions.subscribe(conn, source, login, NAMES, NAMES.forward, copy_data=True)
        done.set()
        watching.join()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("SELECT subconninfo FROM pg_subscription")
    assert password not in "".join(held_by(refused.value))
    assert len(seen) > 100
    assert not [row for row in seen if password in row]
    logs = [shard.server.log_file.read_text(errors="replace") for shard in (pair.source, pair.target)]
    assert "duration:" in logs[1], "the log shows statements, only not this one"
    assert all(password not in log for log in logs)


@contextmanager
def changed_settings(shard: ShardDatabase, values: dict[str, str]) -> Iterator[None]:
    with shard.connect() as admin:
        for name, value in values.items():
            admin.execute(
                sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
            )
        admin.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            for name in values:
                admin.execute(sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name)))
            admin.execute("SELECT pg_reload_conf()")


def held_by(error: BaseException | None) -> Iterator[str]:
    """An error and those behind it: their words, and every local variable of every frame but the tests' own."""
    while error is not None:
        yield from (str(error), repr(error), str(vars(error)))
        trace = error.__traceback__
        while trace is not None:
            if not trace.tb_frame.f_globals["__name__"].startswith("tests."):
                yield from (repr(value) for value in trace.tb_frame.f_locals.values())
            trace = trace.tb_next
        error = error.__cause__ or error.__context__


def test_a_fault_in_the_statement_itself_is_told_without_quoting_it(pair: ShardPair) -> None:
    """The server repeats the line at fault, and the password is in it."""
    with connect(pair.target.operator_dsn) as conn:
        error = subscriptions._create_subscription(
            conn, pair.source.operator_dsn, "no_matter", NAMES.forward, sql.SQL("no_such_option = 1")
        )
    assert error is not None
    assert "no_such_option" in str(error)
    assert password_of(pair.source) not in "".join(held_by(error))


Find = Callable[[ShardDatabase, Path, pytest.MonkeyPatch], str]


def by_passfile(shard: ShardDatabase, path: Path, _: pytest.MonkeyPatch) -> str:
    lines = f"# comment\n*:1:*:*:wrong\n127.0.0.1:*:*:{OPERATOR}:{password_of(shard)}\n*:*:*:*:wrong\n"
    return make_conninfo(without_passfile(shard.operator_dsn), passfile=private(path / "pgpass", lines))


def by_passfile_of_the_settings(shard: ShardDatabase, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    passwords.use(
        (), Path(private(path / "pgpass", f"*:{shard.server.port}:*:{OPERATOR}:{password_of(shard)}\n"))
    )
    return without_passfile(shard.operator_dsn)


def by_service(shard: ShardDatabase, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    parts = {**conninfo_to_dict(without_passfile(shard.operator_dsn)), "password": password_of(shard)}
    lines = "".join(f"{name}={value}\n" for name, value in parts.items())
    monkeypatch.setenv("PGSERVICEFILE", private(path / "services", f"[shard-1]\n{lines}"))
    return "service=shard-1"


def by_pgpassword(shard: ShardDatabase, _: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PGPASSWORD", password_of(shard))
    return without_passfile(shard.operator_dsn)


def by_variable(shard: ShardDatabase, _: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SHARD1_PASSWORD", password_of(shard))
    passwords.use([PasswordSource(role=OPERATOR, port=shard.server.port, env="SHARD1_PASSWORD")])
    return without_passfile(shard.operator_dsn)


def by_block(shard: ShardDatabase, _: Path, __: pytest.MonkeyPatch) -> str:
    passwords.use([PasswordSource(role=OPERATOR, host="127.0.0.1", secret_block="shard-1")])
    passwords.read_blocks_by({"shard-1": password_of(shard)}.__getitem__)
    return without_passfile(shard.operator_dsn)


def one_of_several_hosts(shard: ShardDatabase, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    dsn = by_passfile(shard, path, monkeypatch)
    port = shard.server.port
    return make_conninfo(dsn, host="127.0.0.1,127.0.0.1", port=f"1,{port}", target_session_attrs="primary")


def as_uri(shard: ShardDatabase, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    parts = conninfo_to_dict(by_variable(shard, path, monkeypatch))
    return f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}?sslmode=prefer"


def private(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return str(path)


EVERY_WAY: Sequence[Find] = (
    by_passfile, by_passfile_of_the_settings, by_service, by_pgpassword, by_variable, by_block,
    one_of_several_hosts, as_uri,
)  # fmt: skip


@pytest.mark.parametrize("find", EVERY_WAY)
def test_every_way_serves_connections_tools_and_subscriptions(
    pair: ShardPair, find: Find, tmp_path: Path
) -> None:
    with (
        connect(pair.target.operator_dsn, statement_timeout_s=20) as target,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        dsn = find(pair.source, tmp_path, monkeypatch)
        with connect(dsn) as conn:
            conn.execute("CREATE SCHEMA few")
        with connect(dsn, statement_timeout_s=20) as source:
            schema_copy.between(source, target, ["few"], tmp_path / "few.dump", "test").dump(dsn)
            subscriptions.subscribe(target, source, dsn, NAMES, NAMES.forward, copy_data=False)
        assert (tmp_path / "few.dump").stat().st_size > 0
        parts = conninfo_to_dict(with_password(dsn))
        assert parts["password"] == password_of(pair.source)
        assert not {"passfile", "service", "options", "application_name"} & set(parts)


def test_a_block_is_read_again_when_a_login_is_refused(pair: ShardPair) -> None:
    values = iter(["the old one", password_of(pair.source)])
    passwords.use([PasswordSource(role=OPERATOR, secret_block="shard-1")])
    passwords.read_blocks_by(lambda _: next(values))
    dsn = without_passfile(pair.source.operator_dsn)
    with pytest.raises(ShardUnavailable, match="password authentication failed"):
        connect(dsn)
    connect(dsn).close()


class BareShard(ShardDatabase):
    """A shard whose DSNs say nothing of passwords; only the administrator's does."""

    def dsn(self, role: str) -> str:
        dsn = super().dsn(role)
        return dsn if role == SUPERUSER else without_passfile(dsn)


@pytest.fixture
def bare(
    shard_pair: ShardPair, control_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[MovingFleet, set[str]]]:
    """A fleet whose passwords stand in variables and blocks, and these passwords."""
    blocks = {}
    sources = []
    secrets = set()
    for shard in (shard_pair.source, shard_pair.target):
        for role in (OPERATOR, APPLICATION):
            name, password = f"{shard.name}_{role}".upper(), password_of(shard, role)
            secrets.add(password)
            if shard is shard_pair.source:
                monkeypatch.setenv(name, password)
                sources.append(PasswordSource(role=role, port=shard.server.port, env=name))
            else:
                blocks[name] = password
                sources.append(PasswordSource(role=role, port=shard.server.port, secret_block=name))
    control = conninfo_to_dict(control_dsn)
    word = shard_pair.source.server.passwords.password(int(str(control["port"])), OPERATOR)
    assert word is not None
    secrets.add(word)
    monkeypatch.setenv("CONTROL_PASSWORD", word)
    sources.append(PasswordSource(role=OPERATOR, port=str(control["port"]), env="CONTROL_PASSWORD"))
    passwords.use(sources)
    passwords.read_blocks_by(blocks.__getitem__)
    shards = [BareShard(s.name, s.server, s.database) for s in (shard_pair.source, shard_pair.target)]
    moving = MovingFleet(ShardPair(*shards), without_passfile(control_dsn), tmp_path / "state")
    yield moving, secrets
    moving.close()


@pytest.mark.slow
def test_a_migration_leaves_no_password_anywhere(
    bare: tuple[MovingFleet, set[str]], servers: ThrowawayServers, caplog: pytest.LogCaptureFixture
) -> None:
    fleet, secrets = bare
    # Other files' tests share these servers, and some have statements with a password fail.
    logs = {name: servers.server(name).log_file for name in ("source", "target", "control")}
    before = {name: len(log.read_bytes()) for name, log in logs.items()}
    caplog.set_level("DEBUG")
    errors: list[BaseException] = []
    fleet.run_until(Stage.PREPARE)
    with seen_processes("pg_dump") as processes, fleet.pair.source.connect() as admin:
        admin.execute("BEGIN; LOCK TABLE b0000.flights")  # pg_dump has to wait
        threading.Timer(1, lambda: admin.execute("COMMIT")).start()
        fleet.run_until(Stage.BACKFILL)
    fleet.run_until(Stage.CATCH_UP)
    errors += list(failing_logins(fleet))
    with writers(fleet) as writing:
        writing.wait_for_more(20)
        fleet.run_until(Stage.FINALISE)
        state = {str(file): file.read_text(errors="replace") for file in files_below(fleet.state_dir)}
        fleet.run_until(None)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.target), redirected=True)
    assert fleet.store.get(fleet.migration).stage is Stage.DONE

    found = {
        "processes": "".join(processes),
        "our log": caplog.text,
        "errors": "".join(text for error in errors for text in held_by(error)),
        "control database": rows_of(fleet.control),
        **state,
        **{
            f"log of {name}": log.read_bytes()[before[name] :].decode(errors="replace")
            for name, log in logs.items()
        },
    }
    assert "pg_dump" in found["processes"]
    assert len(errors) > 3
    assert fleet.pair.source.database in found["control database"]
    assert any("schema.dump" in name for name in found)
    assert [name for name, text in found.items() if any(secret in text for secret in secrets)] == []


@contextmanager
def seen_processes(wanted: str) -> Iterator[list[str]]:
    """Arguments and environments of all processes but ours, read again and again while the block runs."""
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for process in psutil.process_iter():
                if process.pid != os.getpid():
                    for file in ("cmdline", "environ"):
                        try:
                            seen.add(Path(f"/proc/{process.pid}/{file}").read_text(errors="replace"))
                        except OSError:
                            continue
            done.wait(0.05)

    looking = threading.Thread(target=look)
    found: list[str] = []
    looking.start()
    try:
        yield found
    finally:
        done.set()
        looking.join()
        found.extend(seen)
    assert any(wanted in text for text in found)


def files_below(directory: Path) -> list[Path]:
    return [file for file in directory.rglob("*") if file.is_file()]


def rows_of(control: ControlDatabase) -> str:
    """Every row of every table."""
    with control.connect() as conn:
        tables = conn.execute("SELECT relid::regclass::text FROM pg_stat_user_tables").fetchall()
        return "".join(
            str(row)
            for (table,) in tables
            for row in conn.execute(f"SELECT to_jsonb(t)::text FROM {table} t".encode()).fetchall()
        )


def failing_logins(fleet: MovingFleet) -> Iterator[BaseException]:
    """A wrong password, a server that is away, a dump and a subscription that fail, a statement with parameters."""
    source, target = fleet.pair.source, fleet.pair.target
    copy = schema_copy.SchemaCopy(find_binaries(), ["b0000"], fleet.state_dir / "x", "test")
    with source.connect() as admin:
        set_password(admin, OPERATOR, "another one")
        try:
            for attempt in (
                lambda: connect(source.operator_dsn),
                lambda: with_password(source.operator_dsn),
                lambda: copy.dump(source.operator_dsn),
            ):
                with pytest.raises(ForeshardError, match="password authentication failed") as refused:
                    attempt()
                yield refused.value
        finally:
            set_password(admin, OPERATOR, password_of(source))
    away = make_conninfo(source.operator_dsn, port=1)
    for attempt in (lambda: connect(away), lambda: with_password(away)):
        with pytest.raises(ForeshardError, match="Connection refused") as gone:
            attempt()
        yield gone.value
    with connect(target.operator_dsn) as conn:
        failure = subscriptions._create_subscription(
            conn, source.operator_dsn, "none", "test", sql.SQL("no_such_option = 1")
        )
        assert failure is not None
        yield failure
    broken = ControlDatabase(make_conninfo(fleet.control.conninfo, dbname="nowhere"))
    with pytest.raises(Exception, match="does not exist") as nowhere:
        broken.revision()
    yield nowhere.value
