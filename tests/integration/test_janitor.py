"""The janitor on real servers: what ended migrations left is removed, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import func, update
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.migration_models import Migration
from foreshard.control.models import Bucket
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.migration import removal
from foreshard.migration.flip import flip
from foreshard.migration.janitor import Action, Finding, clean
from foreshard.migration.lifecycle import ENDS, Stage
from foreshard.postgres import guard, replication_slots
from foreshard.postgres.connect import connect
from foreshard.postgres.guard import Side
from foreshard.postgres.names import MigrationNames
from tests.integration.moving_fleet import BUCKETS, MovingFleet

pytestmark = pytest.mark.slow


def called(fleet: MovingFleet, stage: Stage) -> None:
    """What the control database says of the migration from now on."""
    with fleet.control.transaction() as session:
        ended = func.clock_timestamp() if stage in ENDS else None
        session.execute(update(Migration).values(stage=stage.value, finished_at=ended))


@contextmanager
def calling(fleet: MovingFleet, stage: Stage) -> Iterator[None]:
    before = fleet.store.get(fleet.migration).stage
    called(fleet, stage)
    try:
        yield
    finally:
        called(fleet, before)


def names_of(fleet: MovingFleet, number: int | None = None) -> MigrationNames:
    plane = TopologyStore(fleet.control).control_plane_id()
    return MigrationNames(plane, fleet.migration if number is None else number)


def kinds(findings: list[Finding], shard: str) -> set[str]:
    return {finding.kind for finding in findings if finding.shard == shard}


def test_a_live_migration_is_not_looked_at(copied_fleet: MovingFleet) -> None:
    before = copied_fleet.leftovers()
    assert clean(copied_fleet.control) == []
    assert copied_fleet.leftovers() == before != []


def test_a_dry_run_lists_everything_and_changes_nothing(
    copied_fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copied_fleet.leftovers()
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", copied_fleet.control.conninfo)
    with calling(copied_fleet, Stage.ABORTED):
        found = clean(copied_fleet.control, dry_run=True)
        said = CliRunner().invoke(app, ["janitor", "--dry-run", "--json"])
    assert {finding.action for finding in found} == {Action.WOULD_REMOVE}
    everything = {"slot", "publication", "subscription", "schema", "trigger", "side", "moving"}
    assert kinds(found, "source") == everything
    assert kinds(found, "target") == everything | {"copy"}
    assert copied_fleet.leftovers() == before
    assert [one["name"] for one in json.loads(said.stdout)] == [one.name for one in found]


def test_a_bound_that_contradicts_the_end_keeps_everything(copied_fleet: MovingFleet) -> None:
    """A number given out twice by a restored control database, or a shard that was restored itself."""
    with copied_fleet.runner() as runner:
        flip(runner.work, 400)
    before = copied_fleet.leftovers()
    try:
        with calling(copied_fleet, Stage.ABORTED):
            found = clean(copied_fleet.control)
        assert {finding.action for finding in found} == {Action.LEFT}
        assert all("bound here is 400, not 0" in finding.why for finding in found)
        with calling(copied_fleet, Stage.DONE):
            assert {finding.action for finding in clean(copied_fleet.control)} == {Action.LEFT}
        assert copied_fleet.leftovers() == before
        assert copied_fleet.schemas(copied_fleet.pair.target) == list(BUCKETS)
    finally:
        with copied_fleet.runner() as runner:
            flip(runner.work, 0)


def test_a_copy_that_the_placement_calls_the_owner_is_kept(copied_fleet: MovingFleet) -> None:
    with copied_fleet.control.transaction() as session:
        session.execute(update(Bucket).where(Bucket.name == BUCKETS[0]).values(shard="target"))
    try:
        with calling(copied_fleet, Stage.REVERSED):
            found = clean(copied_fleet.control, dry_run=True)
        on_target = [finding for finding in found if finding.shard == "target"]
        assert all(f"owns {BUCKETS[0]}" in finding.why for finding in on_target)
        assert {finding.action for finding in on_target} == {Action.LEFT}
    finally:
        with copied_fleet.control.transaction() as session:
            session.execute(update(Bucket).where(Bucket.name == BUCKETS[0]).values(shard="source"))


def test_a_number_given_out_twice_drops_no_bucket_of_the_other_migration(copied_fleet: MovingFleet) -> None:
    """The copy would be dropped by what moves here, not by what the restored control database thinks moves."""
    names = names_of(copied_fleet)
    with connect(copied_fleet.pair.target.operator_dsn) as conn:
        conn.execute("INSERT INTO foreshard.moving VALUES ('b0040', %s)", (names.schema,))
        try:
            with calling(copied_fleet, Stage.ABORTED):
                found = [one for one in clean(copied_fleet.control, dry_run=True) if one.shard == "target"]
            assert {finding.action for finding in found} == {Action.LEFT}
            assert all("b0040" in finding.why for finding in found)
        finally:
            conn.execute("DELETE FROM foreshard.moving WHERE bucket = 'b0040'")


def test_unknown_migrations_are_reported_and_other_planes_are_invisible(copied_fleet: MovingFleet) -> None:
    unknown = names_of(copied_fleet, 9999)
    foreign = MigrationNames("zzzz", copied_fleet.migration)
    with connect(copied_fleet.pair.source.operator_dsn) as conn:
        guard.create_side(conn, unknown, Side.SOURCE, "target", ["elsewhere"])
        guard.create_side(conn, foreign, Side.SOURCE, "target", ["abroad"])
        try:
            found = clean(copied_fleet.control)
            assert {(one.kind, one.name) for one in found} == {
                ("schema", unknown.schema),
                ("side", unknown.schema),
                ("moving", "elsewhere"),
            }
            assert {(one.migration, one.action) for one in found} == {(9999, Action.LEFT)}
            assert "knows no such migration" in found[0].why
            assert guard.state(conn, unknown) is not None
            assert guard.state(conn, foreign) is not None
        finally:
            guard.retire(conn, unknown)
            guard.retire(conn, foreign)


def test_everything_of_an_aborted_migration_is_removed_though_a_shard_is_away(fleet: MovingFleet) -> None:
    fleet.configure(backfill="subscription")
    fleet.run_until(Stage.VERIFY)
    topology = TopologyStore(fleet.control)
    nowhere = "host=127.0.0.1 port=1 dbname=nowhere user=nobody"
    topology.put_shard(ShardRecord("away", nowhere, nowhere, {"queries_per_s": 1.0}))
    (pattern,) = {
        resource.name
        for resource in fleet.store.resources(fleet.migration)
        if resource.kind == removal.SYNC_SLOTS
    }
    with connect(fleet.pair.source.operator_dsn) as conn:  # as a target that died while it copied leaves them
        for slot in (pattern.replace("*", "4711"), "pg_1_sync_4711_1"):
            conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
        called(fleet, Stage.ABORTED)
        found = clean(fleet.control)
        assert replication_slots.like(conn, "pg_1_sync_4711_1") == [
            "pg_1_sync_4711_1"
        ]  # nobody knows whose it is
        replication_slots.drop(conn, "pg_1_sync_4711_1")
    (away,) = [finding for finding in found if finding.shard == "away"]
    assert (away.kind, away.action, away.migration) == ("shard", Action.LEFT, None)
    assert {finding.action for finding in found if finding is not away} == {Action.REMOVED}, found
    assert ("slot", pattern.replace("*", "4711")) in {(one.kind, one.name) for one in found}
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []
    assert fleet.schemas(fleet.pair.source) == list(BUCKETS)
    assert all(resource.removed_at is not None for resource in fleet.store.resources(fleet.migration))
    assert [finding.shard for finding in clean(fleet.control)] == ["away"]


def test_two_janitors_at_once_remove_the_sources_copy_after_a_migration_that_is_done(
    fleet: MovingFleet,
) -> None:
    fleet.run_until(Stage.FINALISE)
    with fleet.runner() as runner:
        for bucket in BUCKETS:
            runner.work.store.record_resource(runner.work.lease, "source", "copy", bucket)
    called(fleet, Stage.DONE)
    with fleet.control.transaction() as session:
        session.execute(update(Bucket).where(Bucket.name.in_(BUCKETS)).values(shard="target"))
    with ThreadPoolExecutor(2) as pool:
        found = [one for findings in pool.map(lambda _: clean(fleet.control), range(2)) for one in findings]
    assert {("source", "copy", name) for name in BUCKETS} <= {(f.shard, f.kind, f.name) for f in found}
    clean(fleet.control)
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.source) == []
    assert fleet.schemas(fleet.pair.target) == list(BUCKETS)
