"""Prepare: definitions on the target, guards on both sides, publications. The source owns everything throughout."""

from __future__ import annotations

import time
from typing import Any

from foreshard.errors import PreflightFailed
from foreshard.migration import arming, serving
from foreshard.migration.copying import after_data, method
from foreshard.migration.copying.method import Method
from foreshard.migration.progress import Report
from foreshard.migration.work import Work
from foreshard.postgres import backends, catalog, guard, preflight_queries, publications, room
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side

METHOD = "backfill_method"
"""The fact that says how rows are copied. A migration that was prepared without one has a subscription."""

WAL_SAMPLE_S = 0.2

_BEGUN = "fingerprint"
"""The fact that is put before anything is made."""


def begun(work: Work) -> bool:
    """Whether something may stand on the target that this migration made there: it need not be empty any more."""
    return _BEGUN in work.facts()


def run(work: Work, report: Report) -> dict[str, Any]:
    """Everything that the copy needs, in the order in which nothing can go wrong: the target's guard first.

    Raises:
        GateRefused: the checks before the copy were not run, or did not pass; not asked again once it has begun.
    """
    if not begun(work):
        migration = work.lease.migration
        work.flips.require_gate(migration, "before_copy", work.flips.next_number(migration))
    with work.connections(statement_timeout_s=60) as (source, target):
        wal = _WalRate(source)
        for conn in (source, target):
            backends.end_replaced(conn, work.application, work.lease.token)
        work.store.put_facts(work.lease, **{_BEGUN: catalog.fingerprint(source, work.buckets)})
        serving.remember(work, source)
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
        chosen = _copy_definitions(work, source, target, wal)
        arming.arm_for_copy(work, target, report)
        # Time has passed: nothing is put up on the source for a migration that ended meanwhile.
        work.store.renew(work.lease, work.lease_seconds)
        guard.create_side(source, work.names, Side.SOURCE, work.target.name, work.buckets)
        arming.arm(work, source, report, serving=True)
        publications.create(source, work.names)
        publications.create(target, work.names)
    return {"tables": len(work.buckets) * len(work.tables), "backfill": chosen.value}


def _refuse_foreign(work: Work, target: Connection) -> None:
    """A schema that came since preflight is not our copy: it would be written to, and dropped by an abort."""
    foreign = preflight_queries.schemas_present(target, work.buckets)
    if foreign:
        raise PreflightFailed(
            f"{', '.join(foreign)} exists on {work.target.name} already.",
            remedy="Drop or rename that schema, then resume.",
        )


def _copy_definitions(work: Work, source: Connection, target: Connection, wal: _WalRate) -> Method:
    """What comes before the data; how the data will come decides what that is."""
    chosen = _method(work, source, wal)
    for bucket in work.buckets:
        work.store.record_resource(work.lease, work.target.name, "copy", bucket)
    if not preflight_queries.schemas_present(
        target, work.buckets
    ):  # restored in one transaction: all or none
        copy = after_data.archive(work, source, target, chosen)
        copy.dump(work.source.dsn)
        copy.restore_before_data(target, work.target.dsn, ending=serving.closing_script(work, target))
    return chosen


def _method(work: Work, source: Connection, wal: _WalRate) -> Method:
    """How rows are copied: decided once, since the target's tables are made for it."""
    known = work.facts().get(METHOD)
    if known is not None:
        return Method(known)
    chosen, why = method.choose(
        work.settings.backfill,
        preflight_queries.total_bytes(source, work.buckets),
        work.policy.copy_bytes_per_s,
        wal.bytes_per_s(),
        work.settings.wal_budget_bytes,
    )
    work.store.put_facts(work.lease, **{METHOD: chosen.value, "backfill_method_why": why})
    return chosen


class _WalRate:
    """What all writers of the source's cluster have written per second since this was made."""

    def __init__(self, source: Connection) -> None:
        self._source = source
        self._begun, self._at = room.wal_position(source), time.monotonic()

    def bytes_per_s(self) -> float:
        """Waits if that is too short a time ago to say."""
        time.sleep(max(0.0, WAL_SAMPLE_S - (time.monotonic() - self._at)))
        return (room.wal_position(self._source) - self._begun) / (time.monotonic() - self._at)
