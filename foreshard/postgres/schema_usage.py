"""USAGE on the schemas of buckets: who has it besides their owner. Without it no table of a bucket can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from foreshard.postgres.connect import Connection, sql_file


@dataclass(frozen=True, order=True)
class Usage:
    """``role`` may use ``schema``, and pass that right on if ``grantable``; '' is PUBLIC."""

    schema: str
    role: str
    grantable: bool = False


def of(conn: Connection, schemas: Sequence[str]) -> list[Usage]:
    """Who may use them, but for their owners and the connected role."""
    rows = conn.execute(sql_file("schema_usage.sql"), {"schemas": list(schemas)})
    return [Usage(schema, role or "", grantable) for schema, role, grantable in rows]


def existing(conn: Connection, roles: Iterable[str]) -> set[str]:
    """Those of ``roles`` that are there; PUBLIC always is."""
    wanted = list(roles)
    rows = conn.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", (wanted,))
    return {name for (name,) in rows} | ({""} & set(wanted))


def granting(usages: Iterable[Usage]) -> sql.Composed:
    """The statements that give it. None of them waits for a reader or a writer."""
    return sql.SQL("").join(
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}{};\n").format(
            sql.Identifier(one.schema), _role(one), sql.SQL(" WITH GRANT OPTION" if one.grantable else "")
        )
        for one in usages
    )


def revoking(usages: Iterable[Usage]) -> sql.Composed:
    """The statements that take it, and from those to whom it was passed on."""
    return sql.SQL("").join(
        sql.SQL("REVOKE USAGE ON SCHEMA {} FROM {} CASCADE;\n").format(sql.Identifier(one.schema), _role(one))
        for one in usages
    )


def _role(one: Usage) -> sql.Composable:
    return sql.Identifier(one.role) if one.role else sql.SQL("PUBLIC")
