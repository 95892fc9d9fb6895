"""Takes live samples of every shard. Runs every minute."""

from __future__ import annotations

from prefect import flow

from foreshard.control.session import session
from foreshard.load.instant import CollectorClock
from foreshard.load.machine_source import MachineSource
from foreshard.load.postgres_source import PostgresSource
from foreshard.load.prometheus_live import PrometheusSource
from tasks.collecting import collect_shards, keep_load


@flow(name="collect", persist_result=False)
def collect() -> int:
    """Reads counters and processes of every shard and stores rates per bucket and per shard; rolls up what is over.

    Returns the number of new samples. Rates need two readings: the first run after a restart stores sizes only.
    """
    with session() as (settings, control):
        load, clock = settings.load, settings.clock.fleet_clock()
        collector = CollectorClock(clock)
        with PrometheusSource(load.prometheus, clock) as prometheus:
            sources = (prometheus, MachineSource(load.whole_machine), PostgresSource())
            added = collect_shards(control, sources, collector).added
        keep_load(control, load, collector)
        return added
