"""The fleet's own history as a trace to replay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.control.simulate_input import simulate_input
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import NotFound
from foreshard.load.sample import Sample
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURS = 72
RATE, CPU = "queries_per_s", "cpu_cores"
PLACEMENT = Placement({"a": "one", "b": "one", "c": "two", "unseen": "two"})


@pytest.fixture
def fleet(control: ControlDatabase) -> ControlDatabase:
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for name in ("one", "two", "three"):
        capacity = {RATE: 100.0, CPU: 4.0, "memory_bytes": 1e10}
        topology.put_shard(ShardRecord(name, f"dbname={name}", f"dbname={name}", capacity))
    topology.put_buckets(PLACEMENT.of, PLACEMENT)
    return control


def test_buckets_and_their_shards_add_up_to_what_was_measured(fleet: ControlDatabase) -> None:
    rates = {name: 20 + 20 * np.random.default_rng(row).random(HOURS) for row, name in enumerate("abc")}
    samples = []
    for hour in range(HOURS):
        ts = START + (hour + 1) * HOUR
        cpu = {"one": 0.2, "two": 0.1}
        for bucket, of in rates.items():
            shard = PLACEMENT.shard_of(bucket)
            samples.append(Sample(ts, shard, bucket, RATE, float(of[hour])))
            cpu[shard] += 0.01 * float(of[hour])
        samples += [Sample(ts, shard, None, CPU, value) for shard, value in cpu.items()]
    LoadStore(fleet).add(samples, "history")
    trace, found = simulate_input(fleet, START + HOURS * HOUR, timedelta(days=42), HOUR)
    assert trace.names == ("a", "b", "c", "unseen")
    assert trace.metrics == (RATE, CPU)
    assert (trace.starts_at, trace.steps, trace.step) == (START, HOURS, HOUR)
    assert found.shards == ("one", "three", "two")
    assert found.placement.tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(trace.load[0, 0], rates["a"], rtol=1e-5)
    assert (trace.load[3] == 0).all()
    load = found.load(trace, found.placement, 0, HOURS)
    np.testing.assert_allclose(load[2, 1], 0.1 + 0.01 * rates["c"], rtol=0.05)
    assert (load[1] == 0).all()


def test_without_load_there_is_nothing_to_replay(fleet: ControlDatabase) -> None:
    with pytest.raises(NotFound, match="no load of buckets"):
        simulate_input(fleet, START, timedelta(days=42), HOUR)
