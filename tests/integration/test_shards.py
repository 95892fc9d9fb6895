"""Shards are added, drained and removed; their capacities are set, or proposed from what they have borne."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from foreshard.cli import app
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import ForeshardError, PlanClosed
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.load.sample import Sample
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from tests.integration.adopted_fleet import SHOP, SHOP_TABLES, run_as_owner
from tests.plans import new_plan

NOWHERE = "host=127.0.0.1 port=1 dbname=x user=x"


@pytest.fixture
def topology(control_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TopologyStore]:
    """A fleet of two shards that are only known by name; one holds both buckets."""
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", control_dsn)
    control = ControlDatabase(control_dsn)
    control.migrate()
    store = TopologyStore(control)
    store.describe_fleet(KeyType.INT8, SHOP_TABLES)
    for name in ("one", "two"):
        store.put_shard(ShardRecord(name, NOWHERE, NOWHERE, {"queries_per_s": 100.0}))
    store.put_buckets(("b0", "b1"), Placement({"b0": "one", "b1": "one"}))
    yield store
    control.close()


@pytest.fixture
def control(topology: TopologyStore, control_dsn: str) -> Iterator[ControlDatabase]:
    """The control database of that fleet."""
    del topology
    database = ControlDatabase(control_dsn)
    yield database
    database.close()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["shard", *arguments])


def document(*arguments: str) -> Any:
    return json.loads(call(*arguments, "--json").stdout)


def add(shard: ShardDatabase, *options: str) -> Result:
    dsns = "--dsn", shard.operator_dsn, "--application-dsn", shard.application_dsn
    return call("add", "three", *dsns, "--capacity", "queries_per_s=50", *options)


def test_a_shard_is_added_once_it_was_looked_at(topology: TopologyStore, shard: ShardDatabase) -> None:
    dry = add(shard, "--dry-run")
    assert (dry.exit_code, "three could be added" in dry.stdout) == (0, True), dry.output
    assert len(topology.shards()) == 2
    added = add(shard)
    assert added.exit_code == 0, added.output
    assert topology.shard("three").capacity == {"queries_per_s": 50.0}
    again = add(shard)
    assert (again.exit_code, "three is a shard already" in again.stderr) == (2, True)


def test_a_shard_that_could_take_no_bucket_is_not_added(
    topology: TopologyStore, shard: ShardDatabase
) -> None:
    run_as_owner(shard, SHOP, ["b1"])
    with shard.connect() as conn:
        conn.execute("DROP SCHEMA foreshard CASCADE")
    refused = add(shard)
    assert refused.exit_code == 1
    words = " ".join(refused.stdout.split())
    assert "schema foreshard" in words
    assert "holds buckets of this fleet already (b1)" in words
    assert "three was not added" in words
    dead = call("add", "four", "--dsn", NOWHERE, "--application-dsn", NOWHERE)
    assert (dead.exit_code, "does not answer" in dead.stdout) == (1, True)
    assert len(topology.shards()) == 2


def test_the_same_database_is_not_added_twice(topology: TopologyStore, shard: ShardDatabase) -> None:
    assert add(shard).exit_code == 0
    dsns = "--dsn", shard.operator_dsn, "--application-dsn", shard.application_dsn
    twice = call("add", "four", *dsns)
    assert twice.exit_code == 1
    assert "four is the same database as three" in " ".join(twice.stdout.split())
    assert len(topology.shards()) == 3


def test_a_shard_is_drained_and_removed(topology: TopologyStore, control: ControlDatabase) -> None:
    onto, away = new_plan(control, "two", "one", []), new_plan(control, "one", "two", ["b0", "b1"])
    drained = document("drain", "one")
    assert (drained["buckets"], drained["rejected_plans"]) == (2, [onto])
    assert topology.shard("one").draining
    assert "draining" in call("list").stdout
    with pytest.raises(PlanClosed, match="rejected by a change of the shards: one is being drained"):
        MigrationStore(control).open(onto)
    with pytest.raises(
        ForeshardError, match="one, which is draining"
    ):  # decided while the shard was being drained
        MigrationStore(control).open(new_plan(control, "two", "one", []))

    assert not document("undrain", "one")["draining"]
    assert not topology.shard("one").draining
    assert call("drain", "one").exit_code == 0

    migration = MigrationStore(control).open(away)
    for options in ((), ("--dry-run",)):
        refused = call("remove", "one", *options)
        assert refused.exit_code == 1
        assert "it holds b0 and 1 more" in refused.output
        assert f"migration {migration} has not ended" in refused.output
    topology.put_buckets(("b0", "b1"), Placement({"b0": "two", "b1": "two"}))
    assert document("remove", "one", "--dry-run")["reasons"] == [f"migration {migration} has not ended"]
    with control.transaction() as session:
        session.connection().exec_driver_sql("UPDATE migrations SET stage = 'aborted', finished_at = now()")
    assert document("remove", "one", "--dry-run") == {
        "shard": "one", "reasons": [], "removed": False, "left_there": 0,
    }  # fmt: skip
    assert [shard.name for shard in topology.shards()] == ["one", "two"]
    assert call("remove", "one").exit_code == 0
    assert [shard.name for shard in topology.shards()] == ["two"]
    assert call("drain", "one").exit_code == 1
    assert MigrationStore(control).get(migration).source == "one"
    topology.put_shard(ShardRecord("one", NOWHERE, NOWHERE, {}))
    assert [(shard.name, shard.draining) for shard in topology.shards()] == [("one", False), ("two", False)]


def test_capacity_is_set_by_hand_or_proposed(topology: TopologyStore, control: ControlDatabase) -> None:
    set_to = document("capacity", "one", "queries_per_s=120", "disk_bytes=1e12")
    assert set_to["capacity"] == {"queries_per_s": 120.0, "disk_bytes": 1e12}
    assert topology.shard("one").capacity == set_to["capacity"]
    assert "queries_per_s 120" in call("capacity", "one").stdout
    assert "Nothing is known of the load" in call("capacity", "one", "--propose").stdout
    # 1,000 means of 5 minutes: 985 calm ones, and 15 of 80 that hold one second of 400 each.
    start = datetime(2026, 1, 1, tzinfo=UTC)
    samples = []
    for number in range(1000):
        calm = number < 985
        ts = start + number * timedelta(minutes=5)
        for second, value in (
            (0, 400.0 if not calm else 10.0),
            (60, 0.0),
            (120, 0.0),
            (180, 0.0),
            (240, 0.0),
        ):
            rate = 10.0 if calm else value
            samples.append(Sample(ts + timedelta(seconds=second + 60), "one", None, "queries_per_s", rate))
        samples.append(Sample(ts, "one", "b0", "queries_per_s", 999.0))
    LoadStore(control).add(samples, "live")
    (proposed,) = document("capacity", "one", "--propose")["proposed"]
    assert (proposed["metric"], proposed["value"], proposed["means"]) == ("queries_per_s", 80.0, 1000)
    shown = " ".join(call("capacity", "one", "--propose").stdout.split())
    assert "a proven lower bound, not its limit" in shown
    assert "foreshard shard capacity one queries_per_s=80" in shown
    assert topology.shard("one").capacity["queries_per_s"] == 120.0
