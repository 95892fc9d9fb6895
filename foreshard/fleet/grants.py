"""What an administrator runs once as superuser, so that Foreshard itself never needs to be one."""

from __future__ import annotations

from importlib.resources import files
from typing import LiteralString

import psycopg
from psycopg import sql

OPERATOR = "foreshard"
OWNER = "airline"
APPLICATION = "airline_app"
SCHEDULER = "prefect"


def grants_sql(
    operator: str = OPERATOR, owner: str = OWNER, application: str = APPLICATION, database: str = OWNER
) -> str:
    """The script for a shard: roles, memberships and the schema ``foreshard``.

    ``operator`` is the role that migrates buckets, ``owner`` the role that owns their tables, ``application``
    the role that reads and writes them. To be run connected to ``database``, by psql or any client; it may be
    run again. It holds no password: see ``set_password``.
    """
    return _script(
        "shard_grants.sql", operator=operator, owner=owner, application=application, database=database
    )


def control_grants_sql(
    operator: str = OPERATOR,
    scheduler: str = SCHEDULER,
    control_database: str = OPERATOR,
    scheduler_database: str = SCHEDULER,
) -> str:
    """The script for the control server: Foreshard's own role and database rights, and Prefect's.

    To be run connected to any database of that server, once both databases are there; it may be run again.
    """
    return _script(
        "control_grants.sql",
        operator=operator,
        scheduler=scheduler,
        control_database=control_database,
        scheduler_database=scheduler_database,
    )


def set_password(conn: psycopg.Connection[tuple[object, ...]], role: str, password: str) -> None:
    """Give ``role`` a password. The verifier is made here: the clear text never reaches the server's log."""
    verifier = conn.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))


def _script(name: str, **names: str) -> str:
    # Trusted like a literal: the file is part of this package.
    text: LiteralString = (files("foreshard.fleet") / "sql" / name).read_text(encoding="utf-8")
    parts: dict[str, sql.Composable] = {key: sql.Identifier(value) for key, value in names.items()}
    parts |= {f"{key}_name": sql.Literal(value) for key, value in names.items()}
    return sql.SQL(text).format(**parts).as_string(None)
