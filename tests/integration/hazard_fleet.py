"""A fleet in which everything is wrong at once, each thing in a bucket of its own, and what preflight says of it."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from foreshard.errors import PreflightFailed
from foreshard.fleet.throwaway import SETTINGS, ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.stages import preflight
from foreshard.migration.work import Work
from foreshard.postgres import hazards
from foreshard.postgres.connect import connect
from foreshard.postgres.hazards import Hazard
from tests.integration.hazard_cases import (
    BUCKET_SQL,
    HAZARDS,
    OBSTACLES,
    ODD_SETTINGS,
    TABLES,
    Case,
    bucket_of,
)
from tests.integration.moving_fleet import MovingFleet, ignore

FINE = "fine"
"""A bucket with nothing wrong."""

Finding = dict[str, Any]


class PlainFleet(MovingFleet):
    """Buckets of two empty tables."""

    tables = TABLES
    all_buckets = (FINE, "h99")
    buckets = all_buckets

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        for bucket in self.buckets:
            conn.execute(BUCKET_SQL.replace("{b}", bucket).encode())


class HazardFleet(PlainFleet):
    """One bucket a case, and one that is fine."""

    all_buckets = (FINE, *map(bucket_of, (*HAZARDS, *OBSTACLES)))
    buckets = all_buckets


@dataclass(frozen=True)
class Found:
    """What one preflight of the `HazardFleet` found, and what of it forbids canary steps."""

    findings: list[Finding]
    obstacles: list[Hazard]


def everything_wrong(servers: ThrowawayServers, directory: Path) -> Found:
    """All cases are made, preflight is run once, and all is removed again: what holds up a slot, above all."""
    with ExitStack() as stack:
        odd = stack.enter_context(ThrowawayServers({**SETTINGS, **ODD_SETTINGS}))
        pair = ShardPair(servers.new_shard("source"), odd.new_shard("target"))
        stack.callback(_clean, servers, pair.source)
        fleet = HazardFleet(pair, servers.new_control_database(), directory)
        stack.callback(fleet.close)
        cases = {**HAZARDS, **OBSTACLES}
        _make(pair.source, {name: case.source for name, case in cases.items()})
        _make(pair.target, {name: case.target for name, case in cases.items()})
        with fleet.runner() as runner:
            findings = findings_of(runner.work)
        with connect(pair.source.operator_dsn) as conn:
            found = hazards.find(conn, fleet.buckets, fleet.tables, fleet.key_type)
        assert [left for left in fleet.leftovers() if "foreshard" in left] == []
        return Found(findings, [hazard for hazard in found if hazard.effect is hazards.Effect.WHOLE])


def findings_of(work: Work) -> list[Finding]:
    """What preflight finds, whether it refuses or not."""
    try:
        found = preflight.run(work, ignore)["findings"]
    except PreflightFailed as refused:
        found = refused.details["findings"]
        assert any(finding["blocking"] for finding in found)
    else:
        assert not any(finding["blocking"] for finding in found)
    return list(found)


def the_one(findings: list[Finding], says: str) -> Finding:
    """The finding whose "subject: why" says so."""
    found = [finding for finding in findings for text in _texts(finding) if says in text]
    assert len(found) == 1, (
        f"{says!r} is said by {len(found)} of {[(f['subject'], f['why']) for f in findings]}"
    )
    return found[0]


def _texts(finding: Finding) -> list[str]:
    """What a finding says of its bucket, and of those that share it."""
    text = f"{finding['subject']}: {finding['why']}"
    shared = re.search(r"\(also in (.*)\)$", text)
    first = re.match(r"h[0-9][0-9]", text)
    others = shared.group(1).split(", ") if shared and first else []
    return [text, *(text.replace(first.group(), other) for other in others if first)]


def says(name: str, case: Case) -> str:
    """What the case's finding must say."""
    return case.says.replace("{b}", bucket_of(name))


def _make(shard: ShardDatabase, statements: dict[str, tuple[str, ...]]) -> None:
    with shard.connect() as conn:
        for name, each in statements.items():
            for statement in each:
                try:
                    conn.execute(statement.replace("{b}", bucket_of(name)).encode())
                except psycopg.Error as error:
                    pytest.fail(f"{name}: {statement}: {error}")


def _clean(servers: ThrowawayServers, source: ShardDatabase) -> None:
    """The source's server goes on to be used by other tests."""
    servers.drop(source.name, source.database)
    with source.server.connect() as conn:
        conn.execute("DROP TABLESPACE fast")
        conn.execute("ALTER ROLE airline_app RESET search_path")
        for role in ("clerk", "auditor", "partner"):
            conn.execute(f"DROP ROLE {role}".encode())
