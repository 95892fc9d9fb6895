"""Takes live samples of every shard. Runs every minute."""

from __future__ import annotations

from prefect import flow

from foreshard.control.session import session
from foreshard.control.topology_store import TopologyStore
from tasks.collecting import collect_shard


@flow(name="collect", persist_result=False)
def collect() -> int:
    """Reads counters and processes of every shard and stores rates per bucket and per shard.

    Returns the number of new samples. Rates need two readings: the first run after a restart stores sizes only.
    """
    with session() as (settings, control):
        topology = TopologyStore(control)
        served = topology.routing_map().served_by
        now = settings.clock.fleet_clock().now()
        return sum(collect_shard(control, shard, served(shard.name), now) for shard in topology.shards())
