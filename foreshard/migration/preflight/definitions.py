"""Whether the target would take the source's definitions: a matter of tools and of versions."""

from __future__ import annotations

import tempfile
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.fleet.client_tools import tools_for
from foreshard.migration.preflight.findings import Finding
from foreshard.migration.work import Work
from foreshard.postgres import schema_copy
from foreshard.postgres.connect import Connection, sql_file


def tools(source: Connection, target: Connection) -> list[Finding]:
    """Some pg_dump here must be able to read the source."""
    try:
        tools_for(_major(source), _major(target))
    except ForeshardError as missing:
        return [Finding("pg_dump", missing.message, missing.remedy or "")]
    return []


def newer(work: Work, source: Connection, target: Connection) -> list[Finding]:
    """What the buckets have and servers of the target's version do not know."""
    there = _major(target)
    return [
        Finding(subject, f"{why}, which PostgreSQL {there} on {work.target.name} does not know", remedy)
        for subject, since, why, remedy in source.execute(
            sql_file("newer.sql"), {"buckets": list(work.buckets)}
        )
        if since > there
    ]


def rehearsed(work: Work, source: Connection, target: Connection) -> list[Finding]:
    """All definitions created on an older target in a transaction that is rolled back; its own words if it refuses.

    To be done when nothing else is in the way: what is missing there would be found once more.
    """
    if _major(target) >= _major(source):
        return []
    with tempfile.TemporaryDirectory(prefix="foreshard-rehearsal-") as directory:
        archive = Path(directory) / "schema.dump"
        try:
            copy = schema_copy.between(source, target, work.buckets, archive, work.session_name)
            copy.dump(work.source.dsn)
            copy.rehearse(target, work.target.dsn)
        except ForeshardError as refused:
            remedy = (
                f"Change it on {work.source.name}, or move the buckets to a server that is as new as that."
            )
            return [Finding("definitions", refused.message, remedy)]
    return []


def _major(conn: Connection) -> int:
    return conn.info.server_version // 10000
