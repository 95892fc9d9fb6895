"""Latencies of query logs in a real control database, and the curve that is fitted to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foreshard.control.engine import ControlDatabase
from foreshard.control.latency_input import latency_curve
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.load.sample import Sample
from foreshard.planning.latency import LatencyCurve
from foreshard.topology.keys import KeyType

NOW = datetime(2026, 3, 2, 10, 33, tzinfo=UTC)


def test_the_curve_of_the_last_week(control: ControlDatabase) -> None:
    topology, store = TopologyStore(control), LoadStore(control)
    topology.describe_fleet(KeyType.TEXT, {"things": "owner"})
    for name, cores in (("one", 4.0), ("two", 8.0), ("silent", 1.0)):
        capacity = {"cpu_cores": cores, "queries_per_s": 1000.0, "memory_bytes": 100.0}
        topology.put_shard(ShardRecord(name, f"dbname={name}", f"dbname={name}", capacity))
    assert latency_curve(control, NOW) == LatencyCurve()
    random = np.random.default_rng(9)
    samples = []
    for minute in range(0, 24 * 60, 5):
        at = NOW - timedelta(minutes=minute + 10)
        for shard, cores, service_s in (("one", 4.0, 0.002), ("two", 8.0, 0.002), ("silent", 1.0, None)):
            rho = random.uniform(0.1, 0.9)
            samples.append(Sample(at, shard, None, "cpu_cores", cores * rho))
            samples.append(Sample(at, shard, None, "memory_bytes", 99.0))
            if service_s is not None:
                statements = random.uniform(50, 90)
                seconds = statements * service_s / (1 - 0.8 * rho)
                samples.append(Sample(at, shard, None, "queries_per_s", statements))
                samples.append(Sample(at, shard, None, "statements_per_s", statements))
                samples.append(Sample(at, shard, None, "statement_seconds_per_s", seconds))
    store.add(samples, "history")
    found = latency_curve(control, NOW)
    assert found.service_s == pytest.approx(0.002, rel=0.02)
    assert found.factor == pytest.approx(0.8, abs=0.02)
    assert found.points == 2 * 24 * 12
    assert latency_curve(control, NOW + timedelta(days=9)) == LatencyCurve()
