"""A plan whose bucket is still on its way to its source waits; it is refused if the bucket does not come."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.lease import Lease
from foreshard.control.migration_models import Migration
from foreshard.control.migration_store import MigrationStore
from foreshard.control.models import Plan
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import BucketBusy, ForeshardError
from foreshard.migration import chain
from foreshard.migration.chain import open_when_there
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from tests.integration.moving_fleet import wait_until
from tests.plans import new_plan

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)


@pytest.fixture
def control(control_dsn: str) -> Iterator[ControlDatabase]:
    database = ControlDatabase(control_dsn)
    database.migrate()
    topology = TopologyStore(database)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for name in "ABC":
        topology.put_shard(ShardRecord(name, f"dbname={name}", f"dbname={name}", {"queries_per_s": 10.0}))
    topology.put_buckets(("b0", "b1", "b2"), Placement({"b0": "A", "b1": "A", "b2": "B"}))
    yield database
    database.close()


@pytest.fixture
def store(control: ControlDatabase) -> MigrationStore:
    return MigrationStore(control)


@pytest.fixture
def first(control: ControlDatabase, store: MigrationStore) -> Lease:
    """A -> B of two buckets, at work."""
    return store.acquire(store.open(new_plan(control, "A", "B", ["b0", "b1"])), "runner", None, 600)


def finish(store: MigrationStore, lease: Lease) -> None:
    for stage in PATH[PATH.index(store.get(lease.migration).stage) + 1 :]:
        store.go_to(lease, stage)


def test_the_second_of_a_chain_must_wait_until_the_first_is_done(
    control: ControlDatabase, store: MigrationStore, first: Lease
) -> None:
    second = new_plan(control, "B", "C", ["b1", "b2"])
    for stage in (Stage.PREFLIGHT, Stage.PREPARE):
        if stage is not Stage.PREFLIGHT:
            store.go_to(first, stage)
        with pytest.raises(BucketBusy, match=f"migration {first.migration} is in {stage}") as busy:
            store.open(second)
        assert (busy.value.details["migration"], busy.value.details["bucket"]) == (first.migration, "b1")
    assert [record.id for record in store.live()] == [first.migration]  # nothing was made
    finish(store, first)
    assert store.get(store.open(second)).buckets == ("b1", "b2")


@pytest.mark.parametrize(
    ("by_way_of", "ends"), [(Stage.ABORTING, Stage.ABORTED), (Stage.REVERSING, Stage.REVERSED)]
)
def test_the_second_is_refused_when_the_first_is_given_up(
    control: ControlDatabase, store: MigrationStore, first: Lease, by_way_of: Stage, ends: Stage
) -> None:
    second = new_plan(control, "B", "C", ["b1", "b2"])
    for stage in PATH[1 : PATH.index(Stage.CUTOVER) + 1]:
        store.go_to(first, stage)
    for stage in (by_way_of, ends):
        store.go_to(first, stage)
        with pytest.raises(ForeshardError, match=f"migration {first.migration}, .* is {stage}") as refused:
            store.open(second)
        assert not isinstance(refused.value, BucketBusy)


def test_a_bucket_that_goes_elsewhere_is_not_waited_for(
    control: ControlDatabase, store: MigrationStore, first: Lease
) -> None:
    with pytest.raises(ForeshardError, match="b1 left C") as refused:
        store.open(new_plan(control, "C", "B", ["b1"]))
    assert not isinstance(refused.value, BucketBusy)
    with pytest.raises(ForeshardError, match="another migration") as refused:
        store.open(new_plan(control, "A", "C", ["b0"]))
    assert not isinstance(refused.value, BucketBusy)
    finish(store, first)
    with pytest.raises(ForeshardError, match="left A"):
        store.open(new_plan(control, "A", "C", ["b0"]))


def test_it_left_again_since(control: ControlDatabase, store: MigrationStore, first: Lease) -> None:
    finish(store, first)
    onwards = store.acquire(store.open(new_plan(control, "B", "C", ["b0"])), "runner", None, 600)
    finish(store, onwards)
    with pytest.raises(ForeshardError, match="b0 left B"):
        store.open(new_plan(control, "B", "A", ["b0"]))


def test_waiting_tells_what_for_and_ends_with_the_first(
    control: ControlDatabase, store: MigrationStore, first: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "POLL_S", 0.01)
    told: list[str] = []
    second = new_plan(control, "B", "C", ["b0"])
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(open_when_there, control, second, 60, told.append)
        for stage in PATH[1:-1]:
            store.go_to(first, stage)
            wait_until(lambda at=stage: any(f"is in {at}." in text for text in told), "it is told")  # type: ignore[misc]
        assert not waiting.done()
        store.go_to(first, Stage.DONE)
        opened = waiting.result(timeout=10)
    assert store.get(opened).plan_id == second
    assert len(told) < 20  # once a stage, not once a poll
    assert open_when_there(control, second, 0, told.append) == opened


def test_waiting_ends_when_the_first_is_given_up_or_takes_too_long(
    control: ControlDatabase, store: MigrationStore, first: Lease
) -> None:
    second = new_plan(control, "B", "C", ["b0"])
    with pytest.raises(BucketBusy, match=r"Waited 0\.1 s, and b0 is on its way") as late:
        open_when_there(control, second, 0.1, lambda _: None)
    assert f"plan {second} again" in str(late.value)

    def give_up(_: str) -> None:
        store.go_to(first, Stage.ABORTING)

    with pytest.raises(ForeshardError, match="is aborting"):
        open_when_there(control, second, 60, give_up)


def test_a_wait_that_is_interrupted_leaves_nothing(control: ControlDatabase, first: Lease) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    second = new_plan(control, "B", "C", ["b0"])
    with pytest.raises(KeyboardInterrupt):
        open_when_there(control, second, 60, interrupt)
    with control.transaction() as session:
        assert session.query(Migration).count() == 1
        row = session.get(Plan, second)
        assert row is not None
        assert row.state == "proposed"
    assert first.migration
