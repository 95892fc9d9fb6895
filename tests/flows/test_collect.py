"""`collect` as Prefect runs it: one task for the whole fleet, one warning for each shard that is away."""

from __future__ import annotations

import logging

import pytest

from flows.collect import collect
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.fleet.throwaway import ThrowawayServers


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))


def test_a_shard_that_is_down_is_one_warning_and_the_other_is_collected(
    control: ControlDatabase,
    servers: ThrowawayServers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = servers.new_shard("shard-1")
    topology = TopologyStore(control)
    topology.put_shard(ShardRecord("shard-1", shard.operator_dsn, shard.application_dsn, {}))
    monkeypatch.setattr("foreshard.load.collection.SOONEST_S", 0.0)
    heard = Heard()
    logger = logging.getLogger("prefect.task_runs")
    logger.addHandler(heard)
    try:
        assert collect() > 0  # memory
        assert collect() > 3
    finally:
        logger.removeHandler(heard)
    warnings = [line for level, line in heard.lines if level == "WARNING"]
    assert len(warnings) == 2
    assert "shard-2 is not collected" in warnings[0]
    summaries = [line for _, line in heard.lines if "new samples of 1 shards" in line]
    assert len(summaries) == 2
    assert "missing: shard-2" in summaries[0]
    store = LoadStore(control)
    assert store.reading("shard-1") is not None
    assert store.reading("shard-2") is None
    servers.drop(shard.name, shard.database)
