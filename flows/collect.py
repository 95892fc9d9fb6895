"""Takes live samples of every shard. Runs every minute."""

from __future__ import annotations

from prefect import flow

from foreshard.control.session import session
from foreshard.load.instant import CollectorClock
from foreshard.load.machine_source import MachineSource
from foreshard.load.postgres_source import PostgresSource
from foreshard.load.prometheus_live import PrometheusSource
from tasks import fleet_artifact, run_labels
from tasks.collecting import collect_shards, keep_load


@flow(name="collect", persist_result=False)
def collect() -> int:
    """Measures the load of every shard and bucket, and shows the fleet as it stands in the artifact `fleet`.

    Runs by itself every minute and takes no parameters. It reads counters and processes of every shard, stores rates
    per bucket and per shard, and rolls up what is over. Rates need two readings: the first run after a restart stores
    sizes only. Returns the number of new samples.
    """
    with session() as (settings, control):
        load, clock = settings.load, settings.clock.fleet_clock()
        run_labels.rename(run_labels.collect_name(clock.now(), settings.clock.timezone))
        collector = CollectorClock(clock)
        with PrometheusSource(load.prometheus, clock) as prometheus:
            sources = (prometheus, MachineSource(load.whole_machine), PostgresSource())
            added = collect_shards(control, sources, collector).added
        keep_load(control, load, collector)
        fleet_artifact.show(control, settings)
        return added
