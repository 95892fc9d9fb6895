"""Preflight: everything that would make the migration fail or harm, before anything is created."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from foreshard.control.topology_store import DISK_BYTES
from foreshard.errors import PreflightFailed
from foreshard.migration import definitions, headroom
from foreshard.migration.progress import Report
from foreshard.migration.work import Work
from foreshard.postgres import guard, hazards, preflight_queries, standbys
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side
from foreshard.postgres.hazards import Effect, Hazard


@dataclass(frozen=True)
class Finding:
    """Something wrong or worth knowing. ``blocking``: the migration must not start."""

    subject: str
    why: str
    remedy: str
    blocking: bool = True


def run(work: Work, report: Report) -> dict[str, Any]:
    """Inspect both shards; returns the findings and whether canary steps are possible.

    Raises:
        PreflightFailed: at least one finding is blocking; all are in ``details['findings']``.
    """
    del report
    with work.connections() as (source, target):
        size = preflight_queries.total_bytes(source, work.buckets)
        found = hazards.find(source, work.buckets, work.tables)
        findings = [
            *_server(source, work.source.name),
            *_server(target, work.target.name),
            *_buckets(source, target, work),
            *_hazards(found),
            *_between(source, target, work),
            *_disk(work, Side.SOURCE, source, 0),
            *_disk(work, Side.TARGET, target, size),
            *_standbys(work, work.source.name, source),
            *_standbys(work, work.target.name, target),
        ]
    obstacles = [str(hazard) for hazard in found if hazard.effect is Effect.WHOLE]
    shown = [asdict(finding) for finding in findings]
    blocking = [finding for finding in findings if finding.blocking]
    if blocking:
        raise PreflightFailed(
            f"{len(blocking)} thing(s) must be mended first: {blocking[0].subject}: {blocking[0].why}",
            remedy=blocking[0].remedy,
            findings=shown,
        )
    facts = {"bytes": size, "canary_obstacles": obstacles}
    work.store.put_facts(work.lease, **facts)
    return {"findings": shown, **facts}


def _hazards(found: Sequence[Hazard]) -> list[Finding]:
    """What allows no canary steps is no finding: it is a fact, which chooses one flip of everything."""
    return [
        Finding(hazard.subject, hazard.why, hazard.remedy, blocking=hazard.effect is Effect.BLOCKS)
        for hazard in found
        if hazard.effect is not Effect.WHOLE
    ]


def _standbys(work: Work, shard: str, conn: Connection) -> list[Finding]:
    """A flip waits for standbys. One without a slot is not seen once it is away, and could still be promoted."""
    if shard in work.settings.standbys:
        return []
    return [
        Finding(
            f"{shard}: standby {name}",
            "streams without a replication slot: were it away, nobody could tell that it lacks a flip",
            f"Give it a slot, or name the standbys of {shard} that may be promoted in migration.standbys.",
        )
        for name in standbys.unwatched(conn)
    ]


def _server(conn: Connection, shard: str) -> list[Finding]:
    found = []
    settings = preflight_queries.server_settings(conn)
    if settings.wal_level != "logical":
        found.append(
            Finding(
                f"{shard}: wal_level", f"is {settings.wal_level}", "Set wal_level = logical, then restart."
            )
        )
    if settings.version < 160000:
        found.append(Finding(f"{shard}: version", "is older than PostgreSQL 16", "Upgrade the server."))
    # One slot for the stream, and one per table copy that runs at the same time.
    for name, free, wanted in (
        ("max_replication_slots", settings.free_slots, 6),
        ("max_wal_senders", settings.free_senders, 6),
    ):
        if free < wanted:
            found.append(Finding(f"{shard}: {name}", f"leaves {free} free of {wanted} needed", "Raise it."))
    for allowed, lacking in (
        (settings.may_subscribe, "pg_create_subscription"),
        (settings.may_keep_quiet, "the right to keep CREATE SUBSCRIPTION out of the log"),
    ):
        if not allowed:
            found.append(Finding(f"{shard}: role", f"lacks {lacking}", "Run `foreshard grants --sql` there."))
    if not guard.owns_schema(conn):
        found.append(
            Finding(
                f"{shard}: schema foreshard",
                "is not there or not ours",
                "Run `foreshard grants --sql` there.",
            )
        )
    found.extend(
        Finding(
            f"{shard}: prepared transaction {gid}",
            "would hold the fence for ever",
            "Commit it or roll it back.",
        )
        for gid in settings.prepared
    )
    return found


def _disk(work: Work, side: Side, conn: Connection, copy_bytes: int) -> list[Finding]:
    shard, minimum = work.shard(side).name, work.settings.free_disk_bytes
    disk = headroom.disk_of(work, side, conn)
    if disk.free_bytes is None:
        return [
            Finding(
                f"{shard}: disk",
                "cannot be seen from here, so nothing guards it",
                f"Declare the shard's capacity {DISK_BYTES}.",
                blocking=False,
            )
        ]
    if headroom.fits(copy_bytes, disk, minimum):
        return []
    return [
        Finding(
            f"{shard}: disk",
            f"has {disk.free_bytes / 1e6:.0f} MB free ({disk.how}); the copy needs about "
            f"{headroom.COPY_FACTOR * copy_bytes / 1e6:.0f} MB and {minimum / 1e6:.0f} MB are to stay free",
            "Free some, or lower migration.free_disk_bytes.",
        )
    ]


def _buckets(source: Connection, target: Connection, work: Work) -> list[Finding]:
    found = []
    present = preflight_queries.tables_present(source, work.buckets)
    for bucket in work.buckets:
        for table in set(work.tables) - present.get(bucket, set()):
            found.append(
                Finding(f"{bucket}.{table}", f"is not on {work.source.name}", "Mend the fleet's description.")
            )
        for table in present.get(bucket, set()) - set(work.tables):
            found.append(
                Finding(
                    f"{bucket}.{table}",
                    "is not in the fleet's description",
                    "Add it with its distribution column.",
                )
            )
    if guard.state(target, work.names) is None:  # else the copy is this very migration's
        found.extend(
            Finding(f"{bucket} on {work.target.name}", "exists there already", "Drop or rename that schema.")
            for bucket in preflight_queries.schemas_present(target, work.buckets)
        )
    return found


def _between(source: Connection, target: Connection, work: Work) -> list[Finding]:
    ends = {work.source.name: source, work.target.name: target}
    wrong = preflight_queries.pair_hazards(ends, work.names, work.buckets, work.key_type)
    wrong += definitions.obstacles(work, source, target)
    return [Finding(*each) for each in wrong]
