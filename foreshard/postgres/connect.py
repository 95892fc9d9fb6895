"""Connections to shards: one place that opens them, and that reads SQL files."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
from psycopg import conninfo as libpq
from psycopg import sql

from foreshard.errors import ConfigurationError, ShardUnavailable

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]


def connect(conninfo: str, *, application: str = "foreshard", statement_timeout_s: float = 0) -> Connection:
    """An autocommit connection with pinned session settings. ``statement_timeout_s`` 0 means none.

    Raises:
        ShardUnavailable: the server does not answer or refuses the login.
    """
    # synchronous_commit: a close, or a promise never to open, must survive a crash whatever the server's default.
    options = (
        "-c search_path=pg_catalog -c timezone=UTC -c synchronous_commit=on"
        f" -c statement_timeout={int(statement_timeout_s * 1000)}"
    )
    try:
        return psycopg.connect(
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
            remedy="Check that the server runs and that the DSN and its passfile are right.",
        ) from error


def server_name(conninfo: str) -> str:
    """``host:port/dbname`` of a connection string, for messages."""
    parts = libpq.conninfo_to_dict(conninfo)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def with_password(conninfo: str) -> str:
    """The connection string with its password looked up in its passfile, and without the passfile.

    Only for ``CREATE SUBSCRIPTION``: the subscribing server cannot read our passfile, and for a role that is no
    superuser PostgreSQL insists on a password in the string itself. Never log the result.

    Raises:
        ConfigurationError: the passfile has no entry for this server and role.
    """
    parts = {key: str(value) for key, value in libpq.conninfo_to_dict(conninfo).items()}
    passfile = parts.pop("passfile", None)
    if "password" not in parts:
        if passfile is None:
            raise ConfigurationError("dsn", "names no passfile.", remedy="Add passfile=… to the shard's DSN.")
        wanted = [
            parts.get("host", ""),
            parts.get("port", "5432"),
            parts.get("dbname", ""),
            parts.get("user", ""),
        ]
        parts["password"] = _password(Path(passfile), wanted)
    return libpq.make_conninfo("", **parts)


def _password(passfile: Path, wanted: list[str]) -> str:
    for line in passfile.read_text(encoding="utf-8").splitlines():
        fields = _passfile_fields(line)
        if len(fields) == 5 and all(have in ("*", want) for have, want in zip(fields, wanted, strict=False)):
            return fields[4]
    raise ConfigurationError(
        "passfile", f"has no line for role {wanted[3]!r} at {wanted[0]}:{wanted[1]}.", remedy="Add one."
    )


def _passfile_fields(line: str) -> list[str]:
    """Split at colons; a backslash escapes the next character (libpq's rule)."""
    fields = [""]
    characters = iter("" if line.startswith("#") else line)
    for character in characters:
        if character == "\\":
            fields[-1] += next(characters, "")
        elif character == ":" and len(fields) < 5:
            fields.append("")
        else:
            fields[-1] += character
    return fields


def sql_file(name: str) -> sql.SQL:
    """A statement from ``postgres/sql``, with ``{placeholders}`` for `psycopg.sql.SQL.format`."""
    return sql.SQL((files(__package__) / "sql" / name).read_text(encoding="utf-8"))
