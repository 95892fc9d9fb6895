"""Whether the target would take the source's definitions, found out before anything is created."""

from __future__ import annotations

import tempfile
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.migration.work import Work
from foreshard.postgres import preflight_queries, schema_copy
from foreshard.postgres.connect import Connection, sql_file


def obstacles(work: Work, source: Connection, target: Connection) -> list[tuple[str, str, str]]:
    """(subject, why, remedy) of what keeps the buckets' definitions from being copied; empty if nothing does.

    An older server than the source may not know what the source's have. What we know of is named; the rest shows in a
    rehearsal, the whole copy of the definitions in a transaction that is rolled back.
    """
    try:
        tools = schema_copy.tools_between(source, target)
    except ForeshardError as missing:
        return [("pg_dump", missing.message, missing.remedy or "")]
    here, there = (conn.info.server_version // 10000 for conn in (source, target))
    if there >= here:
        return []
    known = [
        (subject, f"{why}: {work.target.name} is PostgreSQL {there}, which has none before {since}", remedy)
        for subject, since, why, remedy in source.execute(
            sql_file("newer.sql"), {"buckets": list(work.buckets)}
        )
        if since > there
    ]
    if known or preflight_queries.schemas_present(target, work.buckets):  # in the way of a rehearsal, too
        return known
    try:
        with tempfile.TemporaryDirectory() as directory:
            archive = Path(directory) / "schema.dump"
            schema_copy.dump(tools, work.source.dsn, work.buckets, archive, work.session_name)
            schema_copy.rehearse(tools, target, work.target.dsn, archive, work.buckets, work.session_name)
    except ForeshardError as refused:
        remedy = f"Change it on {work.source.name}, or move the buckets to a server of PostgreSQL {here}."
        return [("definitions", refused.message, remedy)]
    return []
