"""Preflight: everything that would make the migration fail or harm, before anything is created."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from foreshard.errors import PreflightFailed
from foreshard.migration.preflight import buckets, definitions, disk, pair, server, surroundings
from foreshard.migration.preflight.findings import Finding, of_hazards
from foreshard.migration.progress import Report
from foreshard.migration.work import Work
from foreshard.postgres import downstream, hazards, preflight_queries, server_facts
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side
from foreshard.postgres.hazards import Effect
from foreshard.postgres.server_facts import ServerFacts


def run(work: Work, report: Report) -> dict[str, Any]:
    """Inspect both shards; returns the findings and whether canary steps are possible.

    Raises:
        PreflightFailed: at least one finding is blocking; all are in ``details['findings']``.
    """
    del report
    with work.connections() as (source, target):
        ends = {work.source.name: source, work.target.name: target}
        facts = {shard: server_facts.read(conn, server.OLD_S) for shard, conn in ends.items()}
        # Elsewhere than on its primary a shard gives other answers, or none: then nothing else is asked.
        for shard, conn in ends.items():
            _refuse(server.unreachable(shard, facts[shard], conn.info.backend_pid))
        found = hazards.find(source, work.buckets, work.tables, work.key_type)
        size = preflight_queries.total_bytes(source, work.buckets)
        findings = [
            *pair.identity(ends, facts),
            *_of_server(work, Side.SOURCE, source, facts[work.source.name]),
            *_of_server(work, Side.TARGET, target, facts[work.target.name]),
            *buckets.described(source, work.source.name, work.buckets, work.tables),
            *buckets.in_the_way(target, work.target.name, work.names, work.buckets),
            *of_hazards(found),
            *surroundings.lacking(source, target, work.buckets, work.target.name),
            *pair.agreement(facts, work.key_type),
            *pair.clocks({shard: server_facts.clock_offset(conn) for shard, conn in ends.items()}),
            *disk.room(work, Side.SOURCE, source, 0),
            *disk.room(work, Side.TARGET, target, size),
            *definitions.tools(source, target),
            *definitions.newer(work, source, target),
        ]
        if not any(finding.blocking for finding in findings):
            findings += definitions.rehearsed(work, source, target)
    findings.sort(key=lambda finding: not finding.blocking)
    _refuse(findings)
    obstacles = [str(hazard) for hazard in found if hazard.effect is Effect.WHOLE]
    facts_kept = {"bytes": size, "canary_obstacles": obstacles}
    work.store.put_facts(work.lease, **facts_kept)
    return {"findings": [asdict(finding) for finding in findings], "warnings": len(findings), **facts_kept}


def _of_server(work: Work, side: Side, conn: Connection, facts: ServerFacts) -> Iterator[Finding]:
    shard = work.shard(side)
    yield from server.limits(shard.name, side, facts, work.settings)
    yield from server.replicas(shard.name, conn, named=shard.name in work.settings.standbys)
    yield from server.downstream(shard.name, side, downstream.neighbours(conn, work.buckets))
    yield from buckets.remembered(conn, shard.name, work.names, work.buckets)
    yield from buckets.shadowed(conn, shard, work.buckets, work.tables)
    yield from buckets.shadow_role(conn, shard, work.shadow_role)


def _refuse(findings: Sequence[Finding]) -> None:
    blocking = [finding for finding in findings if finding.blocking]
    if blocking:
        raise PreflightFailed(
            f"{len(blocking)} thing(s) must be mended first: {blocking[0].subject}: {blocking[0].why}",
            remedy=blocking[0].remedy,
            findings=[asdict(finding) for finding in findings],
        )
