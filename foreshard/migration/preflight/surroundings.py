"""What the buckets need around them, and the target lacks or has otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from foreshard.migration.preflight.findings import Finding
from foreshard.postgres import needs
from foreshard.postgres.connect import Connection
from foreshard.postgres.needs import Extension, Need


def lacking(source: Connection, target: Connection, buckets: Sequence[str], shard: str) -> list[Finding]:
    """Objects, extensions, roles and tablespaces. ``shard``: the target's name."""
    needed = needs.read(source, buckets)
    return [
        *_objects(source, target, [need for need in needed if need.extension is None], shard),
        *_extensions(source, target, [need for need in needed if need.extension is not None], shard),
        *_roles(source, target, buckets, shard),
        *_tablespaces(source, target, buckets, shard),
    ]


def _objects(source: Connection, target: Connection, needed: Sequence[Need], shard: str) -> Iterator[Finding]:
    here, there = (needs.definitions(conn, needed) for conn in (source, target))
    for need in needed:
        subject = f"{need.kind} {need.identity}"
        if need.id not in there:
            yield Finding(
                subject,
                f"is not on {shard}; {need.by} needs it",
                "Create it there, or move it into the bucket.",
            )
        elif here.get(need.id) != there[need.id]:
            # Rows of a type that is another one there cannot be applied; another function answers otherwise.
            yield Finding(
                subject,
                f"is defined otherwise on {shard}; {need.by} needs it",
                "Make both alike.",
                blocking=need.catalog == "pg_type",
            )


def _extensions(
    source: Connection, target: Connection, needed: Sequence[Need], shard: str
) -> Iterator[Finding]:
    users = {need.extension: need.by for need in reversed(needed) if need.extension is not None}
    if not users:
        return
    here, there = needs.extensions(source), needs.extensions(target)
    for name, by in sorted(users.items()):
        found = _extension(name, here[name], there.get(name), shard, by)
        if found is not None:
            yield found


def _extension(name: str, here: Extension, there: Extension | None, shard: str, by: str) -> Finding | None:
    subject = f"extension {name}"
    if there is None:
        return Finding(
            subject,
            f"is not on {shard}; {by} needs it",
            f"CREATE EXTENSION {name} SCHEMA {here.schema} there.",
        )
    if there.schema != here.schema:
        return Finding(
            subject,
            f"is in schema {there.schema} on {shard} and in {here.schema} on the source; {by} needs it",
            "ALTER EXTENSION … SET SCHEMA on one of them.",
        )
    if there.version != here.version:
        return Finding(
            subject,
            f"has version {there.version} on {shard} and {here.version} on the source",
            "ALTER EXTENSION … UPDATE, unless you know that both take the same rows.",
            blocking=False,
        )
    return None


def _roles(source: Connection, target: Connection, buckets: Sequence[str], shard: str) -> Iterator[Finding]:
    needed = needs.roles(source, buckets)
    there = needs.roles_there(target, [role.name for role in needed])
    for role in needed:
        if role.name not in there:
            how = "owns" if role.owns else "has rights on, or a policy for,"
            yield Finding(
                f"role {role.name}", f"is not on {shard}; it {how} {role.example}", "Create it there."
            )
        elif role.owns and not there[role.name]:
            yield Finding(
                f"role {role.name}",
                f"owns {role.example}, and on {shard} we may not act for it",
                "Grant it to the operator there, WITH INHERIT TRUE, SET TRUE.",
            )


def _tablespaces(
    source: Connection, target: Connection, buckets: Sequence[str], shard: str
) -> Iterator[Finding]:
    needed = needs.tablespaces(source, buckets)
    there = needs.tablespaces_there(target, [name for name, _ in needed])
    for name, relation in needed:
        if not there.get(name):
            lacks = "may not be used by us" if name in there else "is not"
            yield Finding(
                f"tablespace {name}",
                f"{lacks} on {shard}; {relation} is in it",
                "Create it there and grant CREATE on it to the operator, or ALTER … SET TABLESPACE pg_default.",
            )
