"""`verify`: is a migration's copy equal, or a bucket at rest in order, now? The verdict is stored, and finalise asks.

A difference is a failure. What could not be looked at (a shard is away, rows were written too often to be judged) is no
verdict at all: it passes nothing, and it stands against nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationRecord, MigrationStore
from foreshard.control.topology_store import TopologyStore
from foreshard.control.verification_store import VerificationRecord, VerificationStore
from foreshard.errors import ForeshardError, NotFound, ShardUnavailable, VerificationFailed
from foreshard.migration.bystander import Bystander, has_two_copies, require_stage
from foreshard.migration.difference import Difference, find, refuse_unknown
from foreshard.migration.lifecycle import Stage
from foreshard.migration.work import Work
from foreshard.postgres import preflight_queries
from foreshard.postgres.bucket_health import ailments
from foreshard.postgres.connect import connect
from foreshard.postgres.digests import TableProgress
from foreshard.quantities import many
from foreshard.settings import Settings
from foreshard.topology.keys import SLOTS

NAMED = 200
"""Rows that a stored verdict names; `foreshard check diff` shows them all."""

STATEMENT_TIMEOUT_S = 600

VERIFYING = 1179866694
"""First half of the advisory lock, in the control database, of whoever verifies by schedule."""

Looked = Callable[[TableProgress], None]


def standing(control: ControlDatabase) -> list[MigrationRecord]:
    """Migrations between the cutover and the drop of the source's copy: what `verify` looks at by itself."""
    return [
        record
        for record in MigrationStore(control).live()
        if record.stage in (Stage.CUTOVER, Stage.SOAK, Stage.FINALISE)
        and record.bound == SLOTS
        and not record.facts.get("finalising")
    ]


@contextmanager
def alone(control: ControlDatabase, migration_id: int) -> Iterator[bool]:
    """Whether nobody else is in such a block of the migration: a schedule must not add a scan to one under way."""
    with control.connect() as session:
        session.autocommit = True
        row = session.execute("SELECT pg_try_advisory_lock(%s, %s)", (VERIFYING, migration_id)).fetchone()
        yield row is not None and bool(row[0])  # the lock goes with the session, however that ends


def verify_migration(
    control: ControlDatabase,
    settings: Settings,
    migration_id: int,
    made_by: str,
    *,
    bucket: str | None = None,
    progress: Looked | None = None,
) -> VerificationRecord:
    """Compare both copies of a migration, or of one bucket of it, and store the verdict.

    Raises:
        NotFound: no such migration.
        InvalidInput: ``bucket`` is not one of its.
        IllegalTransition: its stage has one copy only.
    """
    work = Bystander(control, settings, migration_id)
    refuse_unknown("bucket", [bucket] if bucket else [], work.buckets)
    store = VerificationStore(control)

    def look() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        found = find(work, buckets=[bucket] if bucket else [], progress=progress)
        if found.undecided and not found.rows:
            raise ForeshardError(
                f"{found.undecided} row(s) of {', '.join(found.undecided_tables)} were written too often to be judged.",
                remedy="Try again when they rest.",
            )
        named = [_finding(row, work) for row in found.rows[:NAMED]]
        if len(found.rows) > NAMED:
            named.append({"what": f"{len(found.rows) - NAMED} more rows differ"})
        seen = {
            "stage": work.record.stage.value,
            "tables": found.tables,
            "rows": found.compared_rows,
            "differing": len(found.rows),
            "undecided": found.undecided,
        }
        return named, seen

    require_stage(work.record)
    return _verdict(store, store.begin(migration_id, bucket, made_by), look)


def verify_bucket(
    control: ControlDatabase,
    settings: Settings,
    bucket: str,
    made_by: str,
    *,
    progress: Looked | None = None,
) -> VerificationRecord:
    """Of a bucket that moves, compare the copies; of any other, look that it stands where the map says, and in order.

    While its second copy is being made, or dropped, the one that serves is looked at: no verdict on the migration.

    Raises:
        NotFound: the fleet has no such bucket.
    """
    topology = TopologyStore(control)
    shard_of = topology.placement().of
    if bucket not in shard_of:
        raise NotFound(f"There is no bucket {bucket}.", remedy="`foreshard status` shows the fleet.")
    moving = next((one for one in MigrationStore(control).live() if bucket in one.buckets), None)
    if moving is not None and has_two_copies(moving):
        return verify_migration(control, settings, moving.id, made_by, bucket=bucket, progress=progress)
    store = VerificationStore(control)

    def look() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return _at_rest(topology, bucket, shard_of[bucket], moving)

    return _verdict(store, store.begin(None, bucket, made_by), look)


def refuse_failed(work: Work) -> None:
    """Asked before anything of the source's copy is given up, whoever wants it.

    Raises:
        VerificationFailed: a verification failed, and none that finished since passed.
    """
    failed = VerificationStore(work.control).failed(work.lease.migration)
    if failed is None or work.facts().get("verification_overruled") == failed.id:
        return
    number = work.lease.migration
    where = "" if failed.bucket is None else f" of {failed.bucket}"
    back = (
        f" Or give it up: `foreshard reverse {number} --as NAME`, or the flow `reverse`."
        if work.record.stage is Stage.SOAK
        else ""
    )
    raise VerificationFailed(
        f"Migration {number} is not finalised: verification {failed.id}{where}, made {failed.begun_at:%Y-%m-%d %H:%M} "
        f"UTC, failed with {many(len(failed.findings), 'finding')}, and none since has passed.",
        remedy=f"`foreshard check diff {number}` shows the rows, `foreshard check repair {number} --as NAME` mends the "
        f"copy, `foreshard verify {number}` looks again; then resume `migrate`.{back}",
        migration=number,
        verification=failed.id,
    )


def _verdict(
    store: VerificationStore,
    number: int,
    look: Callable[[], tuple[list[dict[str, Any]], dict[str, Any]]],
) -> VerificationRecord:
    try:
        findings, seen = look()
    except (ForeshardError, psycopg.Error) as problem:
        return store.give_up(number, _first_line(problem))
    except BaseException as cut_off:
        store.give_up(number, f"it was cut off ({type(cut_off).__name__})")
        raise
    return store.finish(number, findings, seen)


def _finding(row: Difference, work: Work) -> dict[str, Any]:
    """A row without any of its values but its key."""
    owner = "its copies disagree about" if row.owner is None else f"{work.shard(row.owner).name} owns"
    return {
        "what": f"{row.bucket}.{row.table} {row.key}: {row.kind}",
        "bucket": row.bucket,
        "table": row.table,
        "chunk": row.chunk,
        "key": row.key,
        "kind": row.kind.value,
        "owner": None if row.owner is None else work.shard(row.owner).name,
        "columns": list(row.columns),
        "about": f"{owner} its key",
    }


def _at_rest(
    topology: TopologyStore, bucket: str, expected: str, moving: MigrationRecord | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """``moving``: the migration that makes its other copy, or drops it: guards and that copy are no findings then."""
    other = None
    if moving is not None:
        finalising = bool(moving.facts.get("finalising"))
        expected, other = moving.source, moving.target
        if finalising:
            expected, other = other, expected
    findings: list[dict[str, Any]] = []
    away: list[str] = []
    stands: list[str] = []
    for shard in topology.shards():
        try:
            with connect(
                shard.dsn, application="foreshard verify", statement_timeout_s=STATEMENT_TIMEOUT_S
            ) as conn:
                there = bool(preflight_queries.schemas_present(conn, [bucket]))
                stands += [shard.name] if there else []
                if shard.name == expected:
                    what = (
                        [
                            f"{one.kind} {one.name} {one.what}"
                            for one in ailments(conn, bucket)
                            if not (one.ours and moving)
                        ]
                        if there
                        else ["it is not there, where the routing map says"]
                    )
                else:
                    stray = there and shard.name != other
                    what = [f"a stray copy: the routing map says {expected}"] if stray else []
                findings += [_about(shard.name, bucket, one) for one in what]
        except ShardUnavailable as silent:
            away.append(silent.message)
    if away and not findings:
        raise ShardUnavailable(
            f"Not every shard could be looked at: {'; '.join(away)}", remedy="Try again when it answers."
        )
    return findings, {"stands_on": stands, "expected_on": expected, "away": away}


def _about(shard: str, bucket: str, what: str) -> dict[str, Any]:
    return {"what": f"{bucket} on {shard}: {what}", "bucket": bucket, "shard": shard}


def _first_line(problem: Exception) -> str:
    text = str(problem).strip()
    return text.splitlines()[0] if text else type(problem).__name__


def summary(record: VerificationRecord) -> Mapping[str, Any]:
    """A verdict for events and lists. Plain JSON."""
    return {
        "verification": record.id,
        "migration": record.migration,
        "bucket": record.bucket,
        "passed": record.passed,
        "problem": record.problem,
        "findings": len(record.findings),
        "first": [one["what"] for one in record.findings[:5]],
    }
