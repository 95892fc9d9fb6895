"""Takes live samples of every shard. Runs every minute."""

from __future__ import annotations

from prefect import flow

from foreshard.control.session import session
from foreshard.load.instant import CollectorClock
from foreshard.load.machine_source import MachineSource
from foreshard.load.postgres_source import PostgresSource
from tasks.collecting import collect_shards


@flow(name="collect", persist_result=False)
def collect() -> int:
    """Reads counters and processes of every shard and stores rates per bucket and per shard.

    Returns the number of new samples. Rates need two readings: the first run after a restart stores sizes only.
    """
    with session() as (settings, control):
        sources = (MachineSource(), PostgresSource())
        return collect_shards(control, sources, CollectorClock(settings.clock.fleet_clock())).added
