"""Connections to shards: one place that opens them, and that reads SQL files."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, TypeAlias

import psycopg
from psycopg import conninfo as libpq
from psycopg import sql

from foreshard.errors import ConfigurationError, ShardUnavailable
from foreshard.postgres import passwords

OUR_FILES = frozenset({"passfile", "service", "servicefile"})
"""Parameters that only this machine can make sense of."""

OF_A_SESSION = frozenset(
    {"application_name", "fallback_application_name", "options", "client_encoding", "connect_timeout"}
    | {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
)
"""Parameters that say nothing of who logs in where."""

NOTICE_OUR_END = b"SET client_connection_check_interval = '500ms'"
"""For a session that may wait for a lock, or work, for long: else it would go on when its client is dead. No server on
Windows has it."""

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]


def connect(conninfo: str, *, application: str = "foreshard", statement_timeout_s: float = 0) -> Connection:
    """An autocommit connection with pinned session settings. ``statement_timeout_s`` 0 means none.

    Raises:
        ShardUnavailable: the server does not answer or refuses the login.
        ConfigurationError: the settings name a password that is not there.
    """
    # synchronous_commit: a close, or a promise never to open, must survive a crash whatever the server's default.
    options = (
        "-c search_path=pg_catalog -c timezone=UTC -c bytea_output=hex -c synchronous_commit=on"
        f" -c statement_timeout={int(statement_timeout_s * 1000)}"
    )
    try:
        return passwords.log_in(
            conninfo,
            autocommit=True,
            application_name=application,
            options=options,
            connect_timeout=5,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=10_000,  # keepalives are silent while something is unacknowledged
        )
    except psycopg.OperationalError as error:
        raise ShardUnavailable(
            f"{server_name(conninfo)} does not answer: {str(error).strip()}",
            remedy="Check that the server runs and that the DSN and its password are right.",
        ) from error


def server_name(conninfo: str) -> str:
    """``host:port/dbname`` of a connection string, or its service, for messages."""
    parts = libpq.conninfo_to_dict(conninfo)
    if "service" in parts and "host" not in parts:
        return f"service {parts['service']}"
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def with_password(conninfo: str) -> str:
    """What another server needs to log in as we do: password in it, without our passfile and service file.

    Only for ``CREATE SUBSCRIPTION``: the subscribing server cannot read our files, and for a role that is no superuser
    PostgreSQL insists on a password in the string itself. It asks libpq by logging in: what is in the environment or
    a service file, which line of a passfile fits, which of several hosts answers, is libpq's to know. What the DSN
    says of TLS stays as it is, names of files too: the subscribing server reads its own. Never log the result.

    Raises:
        ShardUnavailable: as `connect`.
        ConfigurationError: the server lets us in without a password.
    """
    named = libpq.conninfo_to_dict(conninfo)
    with connect(conninfo) as conn:
        asked = conn.pgconn.used_password
        parts: dict[str, Any] = {
            name: value
            for name, value in conn.info.get_parameters().items()
            if name not in OUR_FILES and (name in named or name not in OF_A_SESSION)
        }
        parts |= {"port": conn.info.port, "password": conn.info.password}
    if not asked:
        raise ConfigurationError(
            "dsn",
            f"{server_name(conninfo)} asks us for no password, and a subscription of a role that is no superuser "
            "must use one",
            remedy="Let its pg_hba.conf ask for scram-sha-256.",
        )
    return libpq.make_conninfo("", **parts)


def sql_file(name: str) -> sql.SQL:
    """A statement from ``postgres/sql``, with ``{placeholders}`` for `psycopg.sql.SQL.format`."""
    return sql.SQL((files(__package__) / "sql" / name).read_text(encoding="utf-8"))
