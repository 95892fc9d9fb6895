"""What buckets need of the server around them: objects in other schemas, extensions, roles, tablespaces.

Read on the source, looked for on the target. What a function's body names, PostgreSQL does not know.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from foreshard.postgres.connect import Connection, sql_file

ObjectId: TypeAlias = tuple[str, str]
"""Catalog (``pg_type``) and identity as PostgreSQL prints it, schema and arguments included."""


@dataclass(frozen=True)
class Need:
    """An object outside the buckets. ``by``: one that needs it, in words; ``extension``: the one it belongs to."""

    bucket: str
    by: str
    catalog: str
    kind: str
    identity: str
    schema: str | None
    extension: str | None

    @property
    def id(self) -> ObjectId:
        return self.catalog, self.identity


@dataclass(frozen=True)
class Extension:
    """An extension as it is installed."""

    version: str
    schema: str


@dataclass(frozen=True)
class RoleNeed:
    """A role. ``owns``: something of the buckets, so that we must be able to act for it; ``example`` names it."""

    name: str
    owns: bool
    example: str


def read(conn: Connection, buckets: Sequence[str]) -> list[Need]:
    """Objects that the buckets on this shard need from outside."""
    query = sql_file("needs.sql").format(inside=sql_file("bucket_objects.sql"))
    return [Need(*row) for row in conn.execute(query, {"buckets": list(buckets)})]


def definitions(conn: Connection, needs: Collection[Need]) -> dict[ObjectId, str]:
    """Those of the needed objects that this shard has, each with a definition that tells two apart."""
    wanted = {
        "classes": sorted({need.catalog for need in needs}),
        "identities": [need.identity for need in needs],
        "schemas": sorted({need.schema for need in needs if need.schema is not None}),
    }
    rows = conn.execute(sql_file("needs_there.sql"), wanted)
    return {(catalog, identity): definition or "" for catalog, identity, definition in rows}


def extensions(conn: Connection) -> dict[str, Extension]:
    """The extensions of this database, by name."""
    rows = conn.execute(
        "SELECT e.extname, e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
    )
    return {name: Extension(version, schema) for name, version, schema in rows}


def roles(conn: Connection, buckets: Sequence[str]) -> list[RoleNeed]:
    """Owners, grantees, and the roles of policies and default privileges."""
    query = sql_file("needs_roles.sql").format(inside=sql_file("bucket_objects.sql"))
    return [RoleNeed(*row) for row in conn.execute(query, {"buckets": list(buckets)})]


def roles_there(conn: Connection, names: Collection[str]) -> dict[str, bool]:
    """Those of the roles that this server has, with whether we may act for them."""
    rows = conn.execute(
        "SELECT rolname, pg_has_role(oid, 'USAGE') AND pg_has_role(oid, 'SET') FROM pg_roles WHERE rolname = ANY (%s)",
        (list(names),),
    )
    return dict(rows.fetchall())


def tablespaces(conn: Connection, buckets: Sequence[str]) -> list[tuple[str, str]]:
    """(tablespace, a relation in it) that the buckets name; the database's own is none."""
    return conn.execute(sql_file("needs_tablespaces.sql"), {"buckets": list(buckets)}).fetchall()


def tablespaces_there(conn: Connection, names: Collection[str]) -> Mapping[str, bool]:
    """Those that this server has, with whether we may create in them."""
    rows = conn.execute(
        "SELECT spcname, has_tablespace_privilege(oid, 'CREATE') FROM pg_tablespace WHERE spcname = ANY (%s)",
        (list(names),),
    )
    return dict(rows.fetchall())
