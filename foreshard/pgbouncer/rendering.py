"""The aliases of a fleet, read from its control database."""

from __future__ import annotations

from foreshard.control.topology_store import TopologyStore
from foreshard.pgbouncer.alias import Alias, aliases


def rendered(topology: TopologyStore) -> tuple[int, tuple[Alias, ...]]:
    """The routing epoch, and all aliases at it.

    Raises:
        ForeshardError: `alias.aliases` says why not.
    """
    routing_map = topology.routing_map()
    dsns = {shard.name: shard.application_dsn for shard in topology.shards()}
    return routing_map.epoch, aliases(routing_map, dsns.__getitem__)
