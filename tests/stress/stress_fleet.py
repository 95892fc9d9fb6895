"""Two shards, a control database and a migration of the stress application, ready for flips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from foreshard.migration.approval_settings import ApprovalSettings
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner
from foreshard.postgres.guard import Side
from foreshard.postgres.marker import drain_both
from foreshard.settings import MigrationSettings
from tests.integration.moving_fleet import MovingFleet, drop_pair
from tests.stress import bucket

SETTINGS = MigrationSettings(
    canary_percent=(50.0,),
    canary_soak_s=0.3,
    canary_min_writes=10_000,
    shadow_min_reads=0,
    soak_s=0.3,
    lease_s=30.0,
    marker_timeout_s=10.0,
)


class StressFleet(MovingFleet):
    """A moving fleet that holds the stress application in place of the airline."""

    key_type = bucket.KEY_TYPE
    tables = bucket.TABLES
    all_buckets = bucket.BUCKETS
    buckets = bucket.BUCKETS

    def __init__(
        self, pair: ShardPair, control_dsn: str, state_dir: Path, settings: MigrationSettings = SETTINGS
    ) -> None:
        super().__init__(pair, control_dsn, state_dir, settings, ApprovalSettings(before="never"))

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        """Create the stress application's buckets on the source."""
        bucket.create_buckets(conn, self.buckets)


@contextmanager
def stress_fleet(servers: ThrowawayServers, state_dir: Path) -> Iterator[StressFleet]:
    """A fleet on fresh databases whose copies are complete (its next stage is verify); dropped at the end."""
    pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    fleet = StressFleet(pair, servers.new_control_database(), state_dir)
    try:
        fleet.run_until(Stage.VERIFY)
        yield fleet
    finally:
        fleet.close()
        drop_pair(servers, pair)


def allow_cutover(runner: Runner) -> None:
    """Store passed checks for the next flip, as `foreshard.migration.flip.authorise` wants them for bound 1024."""
    runner.work.flips.record_gate(
        runner.work.lease, "before_cutover", runner.work.flips.next_number(runner.work.lease.migration),
        passed=True, evaluated=1, expected=1, failed=0, evidence_sha256="0" * 64, verdict={}, ttl_s=600,
    )  # fmt: skip


def drain(runner: Runner, timeout_s: float = 60) -> None:
    """Return when all that either side had committed is applied on the other."""
    with runner.work.marker_line(Side.SOURCE) as there, runner.work.marker_line(Side.TARGET) as back:
        drain_both(there, back, timeout_s)()
