"""A router for a fleet that a control database describes."""

from __future__ import annotations

import threading

from foreshard.control.engine import ControlDatabase
from foreshard.control.router_store import RouterStore
from foreshard.control.shadow_store import ShadowStore, ShadowTotals
from foreshard.control.topology_store import TopologyStore
from foreshard.router.bucket_finder import bucket_finder
from foreshard.router.map_source import ControlMapSource
from foreshard.router.router import Router
from foreshard.router.shadow import ShadowCounts


def fleet_router(control: ControlDatabase, application: str, *, deadline_s: float = 5.0) -> Router:
    """A router with map, shards and shadow counts from and to ``control``; ``application`` names it there.

    Once it stands, it works on while the control database is away. The caller closes both.

    Raises:
        ShardUnavailable: the control database gives no routing map.
        ConfigurationError: the application's function that finds buckets is not there.
    """
    topology = TopologyStore(control)
    shadows = ShadowStore(control)

    def record(counts: ShadowCounts) -> None:
        shadows.record(
            counts.migration,
            application,
            ShadowTotals(counts.reads, counts.matches, counts.lags, counts.mismatches, counts.dropped),
            {
                "owner": counts.owner.summary(),
                "other": counts.other.summary(),
                "failures": counts.failures,
            },
        )

    return Router(
        ControlMapSource(
            control.conninfo, topology.routing_map, RouterStore(control).registration(application)
        ),
        ShardAddresses(topology).__getitem__,
        application=application,
        deadline_s=deadline_s,
        shadow_sink=record,
        bucket_of=bucket_finder(topology.bucketing(), application),
    )


class ShardAddresses:
    """The application's connection strings by shard, read when a shard is first asked for, all at once."""

    def __init__(self, topology: TopologyStore) -> None:
        self._topology = topology
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def __getitem__(self, shard: str) -> str:
        """Raises ``KeyError`` for an unknown shard."""
        with self._lock:
            if shard not in self._known:
                self._known = {record.name: record.application_dsn for record in self._topology.shards()}
            return self._known[shard]
