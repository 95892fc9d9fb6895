"""One shard's counters and processes, as live samples."""

from __future__ import annotations

from datetime import datetime

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import TypeAdapter

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_store import LoadStore
from foreshard.control.topology_store import ShardRecord
from foreshard.errors import NotFound, ShardUnavailable
from foreshard.load.process import ProcessReading, process_samples, read_process, server_pid
from foreshard.load.rates import rates
from foreshard.load.sample import CounterReading
from foreshard.load.statistics import read_counters
from foreshard.postgres.connect import connect

_PROCESS: TypeAdapter[ProcessReading] = TypeAdapter(ProcessReading)


@task(name="collect shard", task_run_name="collect {shard.name}", cache_policy=NO_CACHE, timeout_seconds=30)
def collect_shard(
    control: ControlDatabase, shard: ShardRecord, buckets: tuple[str, ...], now: datetime
) -> int:
    """Reads one shard and stores what changed since the last reading; returns the number of new samples.

    A shard that does not answer is a warning and a gap in its series: the others are collected all the same.
    """
    store = LoadStore(control)
    before_it = store.reading(shard.name)
    last = before_it or {}
    try:
        with connect(shard.dsn, application="foreshard collect", statement_timeout_s=20) as conn:
            counters = read_counters(conn, shard.name, buckets, now)
    except ShardUnavailable as away:
        get_run_logger().warning("%s is not collected: %s", shard.name, away)
        return 0
    before = CounterReading.from_json(last["counters"]) if "counters" in last else None
    samples = rates(before, counters)
    process = _process(shard, now)
    if process is not None:
        samples += process_samples(
            _PROCESS.validate_python(last["process"]) if "process" in last else None, process
        )
    reading = {"counters": counters.as_json()}
    if process is not None:
        reading["process"] = _PROCESS.dump_python(process, mode="json")
    # None: another run of the flow was faster, and has stored these rates.
    return store.add_reading(shard.name, before_it, reading, samples) or 0


def _process(shard: ShardRecord, now: datetime) -> ProcessReading | None:
    """CPU, memory and I/O of a server on this machine; one elsewhere has to tell them in another way."""
    pid = server_pid(shard.dsn)
    if pid is None:
        return None
    try:
        return read_process(pid, shard.name, now)
    except (NotFound, ShardUnavailable) as gone:
        get_run_logger().warning("processes of %s are not read: %s", shard.name, gone)
        return None
