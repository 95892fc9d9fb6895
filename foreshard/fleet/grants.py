"""What an administrator runs once as superuser, so that Foreshard itself never needs to be one.

The scripts hold no password (see `set_password`) and may be run again. They are the same for PostgreSQL 16, 17 and 18.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import LiteralString

import psycopg
from psycopg import sql

from foreshard.postgres.subscriptions import QUIET

OPERATOR = "foreshard"
OWNER = "airline"
APPLICATION = "airline_app"
SHADOW = "airline_shadow"
SCHEDULER = "prefect"


def grants_sql(
    operator: str = OPERATOR,
    owners: Sequence[str] = (OWNER,),
    applications: Sequence[str] = (APPLICATION,),
    database: str = OWNER,
    shadow: str | None = SHADOW,
) -> str:
    """The script for a shard, source or target alike: roles, memberships and the schema ``foreshard``.

    ``operator`` is the role that migrates buckets, ``owners`` the roles that own their schemas and tables,
    ``applications`` those that read and write them, ``shadow`` the one that repeats reads on copies, if any does. To be
    run connected to ``database``, by psql or any client.
    """
    shadows = [] if shadow is None else [shadow]
    return _script(
        "shard_grants.sql",
        {"operator": operator, "database": database},
        {"owners": owners, "applications": applications, "shadows": shadows},
        shadow_grants=_shadow_grants(shadow, applications, database),
        quiet=sql.SQL(", ").join(sql.Identifier(*name.split(".")) for name in QUIET),
    )


def control_grants_sql(
    operator: str = OPERATOR,
    scheduler: str | None = SCHEDULER,
    control_database: str = OPERATOR,
    scheduler_database: str = SCHEDULER,
) -> str:
    """The script for the control server: Foreshard's own role and database, and Prefect's if that is there, too.

    To be run connected to any database of that server, once the databases are there.
    """
    owned = {control_database: operator}
    if scheduler is not None:
        owned[scheduler_database] = scheduler
    return _script(
        "control_grants.sql",
        {},
        {"roles": list(owned.values()), "databases": list(owned)},
        ownership=sql.SQL("\n").join(
            sql.SQL("ALTER DATABASE {} OWNER TO {};").format(sql.Identifier(database), sql.Identifier(role))
            for database, role in owned.items()
        ),
    )


def application_grants_sql(
    applications: Sequence[str] = (APPLICATION,), control_database: str = OPERATOR
) -> str:
    """The script for routers that read the routing map as the application; run in the control database."""
    return _script("application_grants.sql", {"database": control_database}, {"applications": applications})


def directory_grants_sql(
    table: str, key_column: str, bucket_column: str, applications: Sequence[str] = (APPLICATION,)
) -> str:
    """The script for a directory of keys; ``table`` as one writes it in SQL. Run in the directory's database."""
    names = {"table": table, "key_column": key_column, "bucket_column": bucket_column}
    return _script("directory_grants.sql", names, {"applications": applications})


def set_password(conn: psycopg.Connection[tuple[object, ...]], role: str, password: str) -> None:
    """Give ``role`` a password. The verifier is made here: the clear text never reaches the server's log."""
    verifier = conn.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))


def _shadow_grants(shadow: str | None, applications: Sequence[str], database: str) -> sql.Composable:
    if shadow is None:
        return sql.SQL("")
    return sql.SQL(
        "-- Shadow reads see what the application sees; copies that are closed to it Foreshard opens to this role.\n"
        "GRANT CONNECT ON DATABASE {database} TO {shadow};\n"
        "GRANT {applications} TO {shadow} WITH INHERIT TRUE, SET FALSE;\n\n"
    ).format(
        database=sql.Identifier(database),
        shadow=sql.Identifier(shadow),
        applications=sql.SQL(", ").join(map(sql.Identifier, applications)),
    )


def _script(
    file: str, names: dict[str, str], lists: dict[str, Sequence[str]], **parts: sql.Composable
) -> str:
    """The file with ``{name}`` as an identifier and ``{name_name}`` as a literal; lists with commas."""
    # Trusted like a literal: the file is part of this package.
    text: LiteralString = (files("foreshard.fleet") / "sql" / file).read_text(encoding="utf-8")
    for name, values in {**{name: [value] for name, value in names.items()}, **lists}.items():
        parts[name] = sql.SQL(", ").join(sql.Identifier(value) for value in values)
        parts[f"{name}_name"] = parts[f"{name}_names"] = sql.SQL(", ").join(
            sql.Literal(value) for value in values
        )
    return sql.SQL(text).format(**parts).as_string(None)
