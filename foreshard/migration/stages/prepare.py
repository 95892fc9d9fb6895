"""Prepare: definitions on the target, guards on both sides, publications. The source owns everything throughout."""

from __future__ import annotations

import random
import time
from typing import Any

from psycopg import errors

from foreshard.errors import ForeshardError, PreflightFailed
from foreshard.migration.progress import Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres import catalog, guard, preflight_queries, replication, schema_copy
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side

ARM_ATTEMPTS = 100


def run(work: Work, report: Report) -> dict[str, Any]:
    """Everything that the copy needs, in the order in which nothing can go wrong: the target's guard first."""
    with work.connections(statement_timeout_s=60) as (source, target):
        for conn in (source, target):
            replication.end_backends(conn, work.application, work.lease.token)
        work.store.put_facts(work.lease, fingerprint=catalog.fingerprint(source, work.buckets))
        for shard, conn in ((work.source.name, source), (work.target.name, target)):
            guard.install(conn)
            work.store.record_resource(work.lease, shard, "schema", work.names.schema)
            work.store.record_resource(work.lease, shard, "publication", work.names.publication)
        if guard.state(target, work.names) is None:
            _refuse_foreign(work, target)
        # Before the copy of the definitions: from here on the target's schemas are known to be ours.
        guard.create_side(target, work.names, Side.TARGET, work.source.name, work.buckets)
        work.store.renew(
            work.lease, work.lease_seconds
        )  # nothing is copied for a migration that ended meanwhile
        _copy_definitions(work, source, target)
        _arm(work, target, report)
        # Time has passed: nothing is put up on the source for a migration that ended meanwhile.
        work.store.renew(work.lease, work.lease_seconds)
        guard.create_side(source, work.names, Side.SOURCE, work.target.name, work.buckets)
        _arm(work, source, report)
        replication.create_publication(source, work.names)
        replication.create_publication(target, work.names)
        replication.publish(
            target, work.names, [(bucket, table) for bucket in work.buckets for table in work.tables]
        )
    return {"tables": len(work.buckets) * len(work.tables)}


def _refuse_foreign(work: Work, target: Connection) -> None:
    """A schema that came since preflight is not our copy: it would be written to, and dropped by an abort."""
    foreign = preflight_queries.schemas_present(target, work.buckets)
    if foreign:
        raise PreflightFailed(
            f"{', '.join(foreign)} exists on {work.target.name} already.",
            remedy="Drop or rename that schema, then resume.",
        )


def _copy_definitions(work: Work, source: Connection, target: Connection) -> None:
    for bucket in work.buckets:
        work.store.record_resource(work.lease, work.target.name, "copy", bucket)
    if not preflight_queries.schemas_present(
        target, work.buckets
    ):  # restored in one transaction: all or none
        copy = schema_copy.between(source, target, work.buckets, work.archive, work.session_name)
        copy.dump(work.source.dsn)
        copy.restore_before_data(target, work.target.dsn)


def _arm(work: Work, conn: Connection, report: Report) -> None:
    """Guards on all tables. CREATE TRIGGER waits for writers and new ones queue behind it: short waits, retries."""
    conn.execute(f"SET lock_timeout = {work.settings.lock_timeout_ms}".encode())
    guard.create_guards(conn, work.names, work.tables.values(), work.key_type)
    tables = guard.tables_of(work.buckets, work.tables)
    for number, (table, column) in enumerate(tables, 1):
        for _ in range(ARM_ATTEMPTS):
            try:
                guard.arm(conn, work.names, table, column, work.key_type)
                break
            except errors.LockNotAvailable:
                time.sleep(random.uniform(0.02, 0.2))
        else:
            raise ForeshardError(
                f"No lock on {table.as_string()} in {ARM_ATTEMPTS} attempts.",
                remedy="A long transaction holds it; end it or try again later.",
            )
        report(Progress("guards", number, len(tables), "tables"))
    conn.execute("SET lock_timeout = 0")
