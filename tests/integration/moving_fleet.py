"""A small fleet for tests of the migration: two shards, a control database, a plan of two buckets, writers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
from psycopg import sql

from foreshard.control.approval_answers import Answer
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.airline import TABLES, create_buckets
from foreshard.fleet.checker import CheckResult, OwnerReader, check
from foreshard.fleet.flights import BUCKETS as ALL_BUCKETS
from foreshard.fleet.flights import KEY_TYPE, Airline, load_airline
from foreshard.fleet.grants import SHADOW
from foreshard.fleet.ledger import Ledger, Start
from foreshard.fleet.operations import Operations
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.approval_policy import Asking
from foreshard.migration.approval_settings import ApprovalSettings
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Progress
from foreshard.migration.runner import Runner, Step
from foreshard.postgres import guard
from foreshard.postgres.connect import connect
from foreshard.router.fleet_router import fleet_router
from foreshard.settings import ControlSettings, MigrationSettings, Settings
from foreshard.topology.placement import Placement
from tests.plans import new_plan

BUCKETS = ("b0000", "b0001")
"""The buckets of the plan; the routing map knows all 48, only these two are there."""

AIRCRAFT = 60
EVENTS_PER_FLIGHT = 2

QUICK = MigrationSettings(
    canary_percent=(10.0, 50.0),
    canary_sample_s=0.0,
    canary_soak_s=0.3,
    canary_min_writes=10_000,
    shadow_min_reads=0,
    soak_s=0.3,
    lease_s=6.0,
    marker_timeout_s=5.0,
)


ASKED = Asking(True, "cutover_only", "a test asks")


def allow(runner: Runner, step: Step) -> None:
    """Store a passed gate and an approval for the step, as the flow does after its checks."""
    flips, approvals, lease = runner.work.flips, runner.work.approvals, runner.work.lease
    gate = None
    if step.checkpoint is not None:
        gate = flips.record_gate(
            lease, step.checkpoint, step.flip_no, passed=True, evaluated=1, expected=1, failed=0,
            evidence_sha256="0" * 64, verdict={}, ttl_s=60,
        )  # fmt: skip
    if step.approval:
        attempt = approvals.ask(lease, step.flip_no, gate, ASKED, 60)
        approvals.decide(attempt.id, Answer(True, "test"))


def ignore(progress: Progress) -> None:
    """A report that nobody reads."""
    del progress


@cache
def airline() -> Airline:
    """The real airline's first aircraft."""
    return load_airline().first(AIRCRAFT)


class MovingFleet:
    """The fleet with its one migration. A subclass may bring another application than the airline."""

    key_type = KEY_TYPE
    tables: Mapping[str, str] = TABLES
    all_buckets: Sequence[str] = ALL_BUCKETS
    """In order of bucket number."""
    buckets: Sequence[str] = BUCKETS
    """Those of the plan, which are filled."""

    def __init__(
        self,
        pair: ShardPair,
        control_dsn: str,
        state_dir: Path,
        settings: MigrationSettings = QUICK,
        approval: ApprovalSettings = ApprovalSettings(),  # noqa: B008 - immutable
    ) -> None:
        self.pair = pair
        self.control = ControlDatabase(control_dsn)
        self.settings = Settings(
            control=ControlSettings(dsn=control_dsn),
            migration=settings,
            approval=approval,
            state_dir=state_dir,
        )
        self.control.migrate()
        topology = TopologyStore(self.control)
        topology.describe_fleet(self.key_type, self.tables, shadow_role=SHADOW)
        for shard in (pair.source, pair.target):
            topology.put_shard(
                ShardRecord(shard.name, shard.operator_dsn, shard.application_dsn, {"queries_per_s": 100.0})
            )
            with connect(shard.operator_dsn) as conn:
                guard.install(conn)
        topology.put_buckets(self.all_buckets, Placement(dict.fromkeys(self.all_buckets, pair.source.name)))
        with pair.source.connect() as conn:
            self.fill(conn)
        self.state_dir = state_dir
        self.store = MigrationStore(self.control)
        self.flips = FlipStore(self.control)
        self.migration = self.store.open(self.plan(pair.source.name, pair.target.name, self.buckets))

    def configure(self, **migration: Any) -> None:
        """Change settings of migrations, for runners that are made from now on."""
        changed = self.settings.migration.model_copy(update=migration)
        self.settings = self.settings.model_copy(update={"migration": changed})

    def configure_approval(self, **approval: Any) -> None:
        """The same for who must approve what."""
        changed = self.settings.approval.model_copy(update=approval)
        self.settings = self.settings.model_copy(update={"approval": changed})

    def plan(self, source: str, target: str, buckets: Sequence[str]) -> int:
        """A new plan, as a decision makes it."""
        return new_plan(self.control, source, target, buckets)

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        """Create the plan's buckets on the source, as a superuser."""
        create_buckets(conn, self.buckets, airline(), events_per_flight=EVENTS_PER_FLIGHT)

    def close(self) -> None:
        """Close the control database's pool."""
        self.control.close()

    def runner(self, holder: str = "test") -> Runner:
        """A runner of the migration; several may be made, one at a time gets the lease."""
        return Runner(self.control, self.settings, self.migration, holder)

    def run_until(self, stage: Stage | None, runner: Runner | None = None) -> None:
        """Perform steps until the migration is in ``stage`` (None: to its end)."""
        if runner is None:
            with self.runner() as own:
                self.run_until(stage, own)
            return
        while (step := runner.next_step()) is not None and step.stage is not stage:
            allow(runner, step)
            runner.perform(step, ignore)

    def forget_lease(self) -> None:
        """As if the time of a runner that died were over."""
        with self.control.transaction() as session:
            session.connection().exec_driver_sql("UPDATE migrations SET lease_expires_at = now()")

    def leftovers(self) -> list[str]:
        """What names Foreshard on either shard, apart from the permanent schema."""
        found = []
        for shard in (self.pair.source, self.pair.target):
            with shard.connect() as conn:
                rows = conn.execute(
                    "SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()"
                    " UNION ALL SELECT 'publication ' || pubname FROM pg_publication"
                    " UNION ALL SELECT 'subscription ' || subname FROM pg_subscription s"
                    "  JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()"
                    " UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'foreshard\\_%'"
                    " UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgname LIKE 'zz\\_foreshard%'"
                    " UNION ALL SELECT 'side ' || migration FROM foreshard.sides"
                    " UNION ALL SELECT 'moving ' || bucket FROM foreshard.moving"
                ).fetchall()
                found += [f"{shard.name}: {name}" for (name,) in rows]
        return found

    def schemas(self, shard: ShardDatabase) -> list[str]:
        """The fleet's buckets that stand on that shard."""
        with shard.connect() as conn:
            rows = conn.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s) ORDER BY 1", (list(self.buckets),)
            )
            return [str(name) for (name,) in rows]

    def starts(self) -> list[Start]:
        """Every aircraft of the plan's buckets, with a flight of its own, as the source holds them now."""
        with self.pair.source.connect() as conn:
            return [
                Start(str(tailnum), bucket, int(str(cycles)), int(str(flight)))
                for bucket in self.buckets
                for tailnum, cycles, flight in conn.execute(
                    sql.SQL(
                        "SELECT tailnum, a.cycles, max(f.flight_id) FROM {} a JOIN {} f USING (tailnum)"
                        " GROUP BY tailnum, a.cycles ORDER BY tailnum"
                    ).format(sql.Identifier(bucket, "aircraft"), sql.Identifier(bucket, "flights"))
                ).fetchall()
            ]

    def checked(self, ledger: Ledger, owner: ShardDatabase) -> CheckResult:
        """The history held against what ``owner`` has."""
        shards = dict.fromkeys(self.buckets, owner.name)
        reader = OwnerReader(shards, {owner.name: owner.superuser_dsn})
        return check(ledger.operations(), ledger.starts(), reader)


@dataclass(frozen=True)
class Writing:
    """Writers at work, and the history they write."""

    ledger: Ledger
    operations: Operations
    stop: Callable[[], None]

    @property
    def acknowledged(self) -> int:
        """Writes acknowledged so far."""
        return int(self.operations.status()["operations"]["acknowledged"])  # type: ignore[index]

    def wait_for_more(self, count: int) -> None:
        """Wait until that many more writes were acknowledged."""
        wanted = self.acknowledged + count
        wait_until(lambda: self.acknowledged >= wanted, f"{count} writes: {self.operations.status()}")


@contextmanager
def writers(fleet: MovingFleet, threads: int = 3, pause_s: float = 0.0) -> Iterator[Writing]:
    """Threads that write through the router, as the demo's workload does, until the block ends.

    Each as fast as it can, which takes all processors; with ``pause_s`` after each write, for tests that wait for much
    else.
    """
    starts = fleet.starts()[:40]  # few aircraft: the same keys are written again and again
    stop = threading.Event()
    with (
        closing(Ledger(fleet.state_dir / "ledger.sqlite")) as ledger,
        closing(fleet_router(fleet.control, "test", deadline_s=20)) as router,
    ):
        ledger.note_starts(starts)
        operations = Operations(router, ledger, starts)

        def work(number: int) -> None:
            draw = random.Random(number)
            while not stop.is_set():
                operations.write(draw.choice(starts), draw)
                stop.wait(pause_s)

        running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()

        def end() -> None:
            stop.set()
            for thread in running:
                thread.join()

        try:
            yield Writing(ledger, operations, end)
        finally:
            end()


def assert_whole(result: CheckResult, *, redirected: bool) -> None:
    """Nothing lost, nothing doubled, nobody turned away; and the target did serve before the cutover."""
    assert result.passed, result
    assert (result.refused, result.unknown) == (0, 0), result.summary()
    assert (result.redirected > 0) == redirected, result.summary()


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
    """Poll until it holds."""
    deadline = monotonic() + timeout_s
    while not condition():
        assert monotonic() < deadline, f"waited {timeout_s} s for: {what}"
        threading.Event().wait(0.02)


def drop_pair(servers: ThrowawayServers, pair: ShardPair) -> None:
    """Drop both databases; the subscriptions of both first, or their workers would come back to the slots."""
    for shard in (pair.target, pair.source):
        servers.unsubscribe(shard.server.name, shard.database)
    for shard in (pair.target, pair.source):
        servers.drop(shard.server.name, shard.database)
