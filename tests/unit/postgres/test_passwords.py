"""Where a password is found, and that no message and no frame of an error holds one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from foreshard.errors import ConfigurationError, ShardUnavailable
from foreshard.postgres import passwords
from foreshard.postgres.connect import connect, server_name
from foreshard.postgres.passwords import PasswordSource

SECRET = "hunter2: a\\b"
NOWHERE = "host=127.0.0.1 port=1 dbname=shop user=foreshard"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THE_PASSWORD", SECRET)
    yield
    passwords.use(())
    passwords.read_blocks_by(None)


def found(conninfo: str, *sources: PasswordSource) -> str | None:
    passwords.use(sources)
    password = conninfo_to_dict(passwords.completed(conninfo)).get("password")
    return None if password is None else str(password)


def source(**fields: str | int) -> PasswordSource:
    return PasswordSource.model_validate({"role": "foreshard", "env": "THE_PASSWORD", **fields})


@pytest.mark.parametrize(
    ("conninfo", "fields", "fits"),
    [
        (NOWHERE, {}, True),
        (NOWHERE, {"role": "other"}, False),
        (NOWHERE, {"host": "127.0.0.1"}, True),
        (NOWHERE, {"host": "localhost"}, False),
        (NOWHERE, {"port": 1}, True),
        (NOWHERE, {"port": "1"}, True),
        (NOWHERE, {"port": 5432}, False),
        ("postgresql://foreshard@db1/shop", {"host": "db1", "port": 5432}, True),
        ("postgresql://foreshard@[::1]:5433/shop", {"host": "::1", "port": 5433}, True),
        ("postgresql://foreshard@a:1,b:2/shop", {"host": "a,b", "port": "1,2"}, True),
        ("postgresql://foreshard@a:1,b:2/shop", {"host": "a"}, False),
        ("host=/var/run/postgresql user=foreshard", {"host": "/var/run/postgresql"}, True),
        ("user=foreshard", {"host": "localhost", "port": 5432}, True),
        ("hostaddr=10.0.0.1 user=foreshard", {"host": "10.0.0.1"}, True),
        (f"{NOWHERE} passfile=/its/own", {}, False),
        ("service=shard-1", {}, False),
        ("service=shard-1 user=foreshard", {}, True),
        ("service=shard-1 user=foreshard", {"host": "localhost"}, False),
    ],
)
def test_an_entry_fits_by_role_host_and_port(conninfo: str, fields: dict[str, str | int], fits: bool) -> None:
    assert found(conninfo, source(**fields)) == (SECRET if fits else None)


def test_the_role_may_come_from_libpqs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGUSER", "foreshard")
    assert found("host=db1", source()) == SECRET


def test_the_first_entry_that_fits_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOTHER", "other")
    assert found(NOWHERE, source(host="db1"), source(env="ANOTHER"), source()) == "other"


def test_a_variable_is_read_at_every_login(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(NOWHERE, source()) == SECRET
    monkeypatch.setenv("THE_PASSWORD", "changed")
    assert found(NOWHERE, source()) == "changed"


@pytest.mark.parametrize("value", [None, "", "with a line break\n"])
def test_a_variable_without_a_password_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("THE_PASSWORD")
    if value is not None:
        monkeypatch.setenv("THE_PASSWORD", value)
    with pytest.raises(ConfigurationError, match=r"passwords\.1\.env") as refused:
        found(NOWHERE, source(role="other"), source())
    assert "line break\n" not in str(refused.value)


def test_a_block_is_read_once_and_again_after_a_refused_login() -> None:
    values = iter(["first", "second"])
    passwords.read_blocks_by(lambda name: f"{name}: {next(values)}")
    block = PasswordSource(role="foreshard", secret_block="shard-1")
    assert [found(NOWHERE, block), found(NOWHERE, block)] == ["shard-1: first"] * 2
    passwords._forget_block(
        NOWHERE
    )  # what `log_in` does; tests/integration/test_secrets.py has a real refusal
    assert found(NOWHERE, block) == "shard-1: second"


def test_a_block_that_cannot_be_read_is_named_and_nothing_is_quoted() -> None:
    def unreadable(name: str) -> str:
        raise ValueError(f"cannot parse {name}: {SECRET}")

    block = PasswordSource(role="foreshard", secret_block="shard-1")
    for reader, part in (
        (None, "cannot read blocks"),
        (unreadable, "'shard-1', which cannot be read (ValueError)"),
    ):
        passwords.read_blocks_by(reader)
        with pytest.raises(ConfigurationError) as refused:
            found(NOWHERE, block)
        assert part in str(refused.value)
        assert SECRET not in str(refused.value)
        assert refused.value.__context__ is None


@pytest.mark.parametrize("fields", [{}, {"env": "A", "secret_block": "b"}, {"env": ""}])
def test_an_entry_names_exactly_one_place(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="env"):
        PasswordSource.model_validate({"role": "foreshard", **fields})


@pytest.mark.parametrize(
    "dsn",
    [
        "host=a password=hunter2",
        "postgresql://u:hunter2@a/b",
        "host=a sslpassword=hunter2",
        "host=a oauth_client_secret=hunter2",
        # what libpq says of these quotes them
        "host=a password=my hunter2",
        "postgresql://u:hunter2@a/b?no_such_option=1",
        "postgresql://u:hunter2@[a/b",
        "host=a password='hunter2",
    ],
)
def test_a_dsn_with_a_secret_is_refused_without_quoting_it(dsn: str) -> None:
    with pytest.raises(ValueError, match=r"must not hold|not a PostgreSQL connection string") as refused:
        passwords.without_secret(dsn)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def locals_of(error: BaseException | None) -> Iterator[str]:
    """Every local variable of every frame of an error and of those it came from, as a debugger prints them."""
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_globals["__name__"] != __name__:
                yield from (repr(value) for value in trace.tb_frame.f_locals.values())
            trace = trace.tb_next
        error = error.__cause__ or error.__context__


def test_no_frame_of_a_failed_login_holds_the_password() -> None:
    passwords.use([source()])
    with pytest.raises(ShardUnavailable) as away:
        connect(NOWHERE)
    with pytest.raises(psycopg.OperationalError) as bare:
        passwords.log_in(NOWHERE)
    for error in (away.value, bare.value):
        assert "127.0.0.1" in str(error)
        assert not [text for text in [str(error), repr(error), *locals_of(error)] if "hunter2" in text]


def test_a_child_gets_its_password_in_a_file_without_a_name() -> None:
    passwords.use([source()])
    with passwords.for_child(NOWHERE) as login:
        assert login.conninfo is not None
        parts = conninfo_to_dict(login.conninfo)
        mode = os.fstat(login.files[0]).st_mode
        read = "import sys; print(open(sys.argv[1]).read())"
        child = subprocess.run(
            [sys.executable, "-c", read, str(parts["passfile"])],
            pass_fds=login.files, env=login.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "password" not in parts
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_ISREG(mode)
    assert child.stdout == "*:*:*:*:hunter2\\: a\\\\b\n\n"
    assert "THE_PASSWORD" not in login.environment
    assert not Path(str(parts["passfile"])).exists()


def test_a_child_without_an_entry_is_left_to_libpq() -> None:
    with passwords.for_child("service=shard-1") as login:
        assert (login.conninfo, login.files) == ("service=shard-1", ())
    with passwords.for_child(None) as login:
        assert login.conninfo is None


def test_a_child_process_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_TOKEN", "canary")
    passwords.use((), tokens=["PROMETHEUS_TOKEN"])
    with passwords.for_child(None) as login:
        assert "canary" not in login.environment.values()


def test_the_passfile_of_the_settings_is_libpqs_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSFILE", "another")
    passwords.use((), tmp_path / "pgpass")
    assert os.environ["PGPASSFILE"] == str(tmp_path / "pgpass")


def test_a_server_is_named_without_secrets() -> None:
    assert server_name(NOWHERE) == "127.0.0.1:1/shop"
    assert server_name("service=shard-1") == "service shard-1"
    assert server_name("user=foreshard dbname=shop") == "localhost:5432/shop"
