"""Buckets with partitioned tables: moved by their roots, there and back, while rows wander between partitions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from data_checks.collect import Ends, ShadowStats, collect_before_copy, collect_evidence
from data_checks.run_gate import run_gate
from data_checks.scope import Checkpoint, Scope
from foreshard.errors import DataMismatch
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.migration.comparison import compare_all, differing
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner
from foreshard.postgres import hazards
from foreshard.postgres.catalog import fingerprint
from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.guard import Side
from foreshard.postgres.hazards import Effect
from foreshard.postgres.marker import drain_both
from foreshard.topology.keys import slot
from tests.integration.moving_fleet import BUCKETS, QUICK, MovingFleet, assert_whole, ignore, writers
from tests.integration.partitioned_airline import EARLY, PartitionedAirline

pytestmark = pytest.mark.slow

WANDER = (
    "UPDATE b0000.passenger_events SET event_id = event_id + 1000000 WHERE tailnum = %s AND event_id < %s"
)


@pytest.fixture
def fleet(shard_pair: ShardPair, control_dsn: str, tmp_path: Path) -> Iterator[MovingFleet]:
    settings = QUICK.model_copy(update={"canary_sample_s": 4.0, "canary_percent": (30.0,)})
    moving = PartitionedAirline(shard_pair, control_dsn, tmp_path, settings)
    yield moving
    moving.close()


def keys(shard: ShardDatabase) -> list[str]:
    """Aircraft that have events in the first partition."""
    with shard.connect() as conn:
        rows = conn.execute("SELECT DISTINCT tailnum FROM b0000.early ORDER BY 1").fetchall()
    return [str(key) for (key,) in rows]


def wander(fleet: MovingFleet) -> int:
    """Move the events of one aircraft from one partition to another, on its owner; returns how many."""
    bound = fleet.store.get(fleet.migration).bound
    candidates = keys(fleet.pair.source)
    key = min(candidates, key=lambda one: slot(one, fleet.key_type)) if bound else candidates[0]
    owner = fleet.pair.target if slot(key, fleet.key_type) < bound else fleet.pair.source
    with connect(owner.application_dsn) as conn:
        return conn.execute(WANDER, (key, EARLY)).rowcount


def assert_equal_copies(runner: Runner) -> None:
    """Every table of every bucket has rows, and the same on both sides."""
    work = runner.work
    compared = compare_all(work)
    assert {(one.bucket, one.table) for one in compared} == {
        (b, t) for b in work.buckets for t in work.tables
    }
    assert all(one.rows > 0 and one.bytes > 0 for one in compared)
    assert differing(compared) == []


def test_a_whole_migration_under_writers(fleet: MovingFleet) -> None:
    with writers(fleet) as writing:
        fleet.run_until(Stage.VERIFY)
        assert wander(fleet) > 0
        fleet.run_until(Stage.CUTOVER)
        bound = fleet.store.get(fleet.migration).bound
        assert bound > 0
        assert wander(fleet) > 0
        writing.wait_for_more(50)
        with fleet.runner() as runner:
            assert_equal_copies(runner)
        fleet.run_until(Stage.FINALISE)
        assert wander(fleet) > 0
        with fleet.runner() as runner:
            assert_equal_copies(runner)
        fleet.run_until(None)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.target), redirected=True)
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.source) == []
    (canary,) = fleet.store.get(fleet.migration).facts["canary"].values()
    assert canary["not_by_writes"] is None, "writes into partitions were counted"
    assert canary["measured_writes"] > 20


def test_reversed_after_the_cutover(fleet: MovingFleet) -> None:
    with writers(fleet) as writing:
        fleet.run_until(Stage.SOAK)
        assert wander(fleet) > 0
        writing.wait_for_more(50)
        with fleet.runner() as runner:
            runner.reverse(ignore)
        writing.wait_for_more(50)
        writing.stop()
        assert_whole(fleet.checked(writing.ledger, fleet.pair.source), redirected=True)
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []


def test_guards_stand_on_every_partition_and_the_checks_pass(fleet: MovingFleet, tmp_path: Path) -> None:
    with fleet.runner() as runner:
        checks_pass(runner, tmp_path, Checkpoint.BEFORE_COPY)
    fleet.run_until(Stage.CUTOVER)
    for shard in (fleet.pair.source, fleet.pair.target):
        with shard.connect() as conn:
            for table in ("passenger_events", "early", "early_1", "later", "aircraft", "aircraft_0"):
                with pytest.raises(psycopg.Error, match=r"TRUNCATE of b0000\.\w+ is refused") as refused:
                    conn.execute(f"TRUNCATE b0000.{table} CASCADE".encode())
                assert refused.value.sqlstate == "FS003"
    bound = fleet.store.get(fleet.migration).bound
    by_slot = sorted(keys(fleet.pair.source), key=lambda one: slot(one, fleet.key_type))
    ours, theirs = by_slot[0], by_slot[-1]
    assert slot(ours, fleet.key_type) < bound <= slot(theirs, fleet.key_type)
    with connect(fleet.pair.source.application_dsn) as conn:
        (leaf,) = conn.execute(
            "SELECT tableoid::regclass::text FROM b0000.early WHERE tailnum = %s", (ours,)
        ).fetchone()
        for statement, parameters in (
            (WANDER, (ours, EARLY)),
            ("DELETE FROM b0000.early WHERE tailnum = %s", (ours,)),
            (f"UPDATE {leaf} SET detail = 'x' WHERE tailnum = %s", (ours,)),
        ):
            with pytest.raises(psycopg.Error, match="is not owned here"):
                conn.execute(statement.encode(), parameters)
        with pytest.raises(psycopg.Error, match="spans two owners"):
            conn.execute("UPDATE b0000.aircraft SET tailnum = %s WHERE tailnum = %s", (ours, theirs))
    with fleet.runner() as runner:
        checks_pass(runner, tmp_path, Checkpoint.BEFORE_CUTOVER)
        runner.abort(ignore)
    assert fleet.leftovers() == []
    with connect(fleet.pair.source.application_dsn) as conn:
        assert conn.execute("DELETE FROM b0000.early WHERE tailnum = %s", (ours,)).rowcount > 0


def checks_pass(runner: Runner, directory: Path, checkpoint: Checkpoint) -> None:
    work = runner.work
    scope = Scope(work.lease.migration, 1, "attempt", checkpoint, work.buckets, tuple(work.tables), chunks=4)
    evidence = directory / f"{checkpoint}.sqlite"
    if checkpoint is Checkpoint.BEFORE_COPY:
        collect_before_copy(evidence, scope, work.source.dsn, work.target.dsn)
    else:
        with work.marker_line(Side.SOURCE) as there, work.marker_line(Side.TARGET) as back:
            collect_evidence(
                evidence,
                scope,
                Ends(work.source.dsn, work.target.dsn, work.names.forward, work.names.reverse),
                distribution_columns=work.tables,
                key_type=work.key_type,
                bound=lambda: work.bounds().target or 0,
                drain=drain_both(there, back, 10),
                shadow=ShadowStats(5, 5, 0, 0, 0),
            )
    verdict = run_gate(evidence, scope, directory / f"{checkpoint}-docs", time_to_live=timedelta(hours=1))
    assert verdict.failed == ()
    assert [one for one in verdict.warnings if one.table.startswith("schema_")] == []
    assert verdict.passed


CHANGES = {
    "a new partition": "CREATE TABLE b0000.early_2 PARTITION OF b0000.extra FOR VALUES FROM (10) TO (20)",
    "one attached": "ALTER TABLE b0000.extra ATTACH PARTITION b0000.spare FOR VALUES FROM (30) TO (40)",
    "one detached": "ALTER TABLE b0000.passenger_events DETACH PARTITION b0000.later",
    "one dropped": "DROP TABLE b0000.later",
    "one detached below": "ALTER TABLE b0000.early DETACH PARTITION b0000.early_0",
}


def test_the_fingerprint_sees_partitions_come_and_go(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute("CREATE TABLE b0000.extra (id int PRIMARY KEY) PARTITION BY RANGE (id)")
        conn.execute("CREATE TABLE b0000.spare (id int PRIMARY KEY)")
        before = fingerprint(conn, BUCKETS)
        unseen = [name for name, change in CHANGES.items() if not changed_by(conn, change, before)]
        assert unseen == []


def changed_by(conn: Connection, change: str, before: str) -> bool:
    with conn.transaction(force_rollback=True):
        conn.execute(change.encode())
        return fingerprint(conn, BUCKETS) != before


def test_a_partition_that_comes_stops_the_migration(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.VERIFY)
    with fleet.pair.source.connect() as conn:
        conn.execute("ALTER TABLE b0000.passenger_events DETACH PARTITION b0000.later")
    with pytest.raises(DataMismatch, match="was changed while it moves"):
        fleet.run_until(None)
    with fleet.runner() as runner:
        runner.abort(ignore)
    assert fleet.leftovers() == []


HAZARDS = {
    "a partition elsewhere": (
        "CREATE SCHEMA elsewhere; ALTER TABLE b0000.early_0 SET SCHEMA elsewhere",
        "elsewhere.early_0",
        "is a partition of b0000.passenger_events, in another schema",
    ),
    "a partition of a table elsewhere": (
        "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.root (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        " CREATE TABLE b0001.part PARTITION OF elsewhere.root DEFAULT",
        "b0001.part",
        "in another schema",
    ),
    "a foreign table": (
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;"
        " CREATE TABLE b0000.extra (id int) PARTITION BY RANGE (id);"
        " CREATE FOREIGN TABLE b0000.far PARTITION OF b0000.extra DEFAULT SERVER nowhere",
        "b0000.far",
        "foreign table",
    ),
    "an unlogged partition": ("ALTER TABLE b0001.later SET UNLOGGED", "b0001.later", "is unlogged"),
    "another owner": ("ALTER TABLE b0001.later OWNER TO postgres", "b0001.later", "belongs to another role"),
    "another identity": (
        "ALTER TABLE b0001.early_1 REPLICA IDENTITY FULL",
        "b0001.early_1",
        "has REPLICA IDENTITY FULL",
    ),
}


def test_partitions_that_cannot_move_are_named(fleet: MovingFleet) -> None:
    with fleet.pair.source.connect() as conn:
        assert [str(one) for one in hazards.find(conn, BUCKETS, fleet.tables)] == []
        for hazard, (statement, subject, why) in HAZARDS.items():
            with conn.transaction(force_rollback=True):
                conn.execute(statement.encode())
                found = hazards.find(conn, BUCKETS, fleet.tables)
                assert any(
                    one.subject == subject and why in one.why and one.effect is Effect.BLOCKS for one in found
                ), (hazard, found)
                assert {one.bucket for one in found} <= set(BUCKETS)
        conn.execute("CREATE UNIQUE INDEX of_its_own ON b0000.later (event_id)")
        (found,) = hazards.find(conn, BUCKETS, fleet.tables)
        assert (found.table, found.effect) == ("later", Effect.WHOLE)
        conn.execute("DROP INDEX b0000.of_its_own")
        found = hazards.find(conn, BUCKETS, {**fleet.tables, "later": "tailnum"})
        assert {(one.bucket, one.table) for one in found} == {(bucket, "later") for bucket in BUCKETS}
        assert "is described as a table, and is a partition of" in found[0].why
