"""A router for a fleet that a control database describes."""

from __future__ import annotations

import asyncio
import threading

from psycopg import conninfo

from foreshard.control.engine import ControlDatabase
from foreshard.control.router_store import RouterStore
from foreshard.control.shadow_store import ShadowStore, ShadowTotals
from foreshard.control.topology_store import TopologyStore
from foreshard.router.async_router import AsyncRouter
from foreshard.router.bucket_finder import bucket_finder
from foreshard.router.map_source import ControlMapSource
from foreshard.router.opening import Addressing
from foreshard.router.router import Router
from foreshard.router.shadow import ShadowReader
from foreshard.router.shadow_counts import ShadowCounts, ShadowSink


def fleet_router(
    control: ControlDatabase,
    application: str,
    *,
    deadline_s: float = 5.0,
    connections_per_shard: int = 8,
    addressing: Addressing = Addressing.QUALIFIED,
) -> Router:
    """A router with map, shards and shadow counts from and to ``control``; ``application`` names it there.

    Once it stands, it works on while the control database is away. The caller closes both.

    Raises:
        ShardUnavailable: the control database gives no routing map.
        ConfigurationError: the application's function that finds buckets is not there.
    """
    topology = TopologyStore(control)
    bucket_of = bucket_finder(topology.bucketing(), application)  # first: the map source has a thread to stop
    return Router(
        _map_source(control, application),
        ShardAddresses(topology).__getitem__,
        application=application,
        deadline_s=deadline_s,
        connections_per_shard=connections_per_shard,
        addressing=addressing,
        shadow=_shadow_reader(control, topology, application),
        bucket_of=bucket_of,
    )


async def async_fleet_router(
    control: ControlDatabase,
    application: str,
    *,
    deadline_s: float = 5.0,
    connections_per_shard: int = 8,
    addressing: Addressing = Addressing.QUALIFIED,
) -> AsyncRouter:
    """As `fleet_router`, for the event loop that awaits it."""

    def make() -> AsyncRouter:
        topology = TopologyStore(control)
        bucket_of = bucket_finder(topology.bucketing(), application)
        return AsyncRouter(
            _map_source(control, application),
            ShardAddresses(topology).__getitem__,
            application=application,
            deadline_s=deadline_s,
            connections_per_shard=connections_per_shard,
            addressing=addressing,
            shadow=_shadow_reader(control, topology, application),
            bucket_of=bucket_of,
        )

    return await asyncio.to_thread(make)


def _map_source(control: ControlDatabase, application: str) -> ControlMapSource:
    registration = RouterStore(control).registration(application)
    return ControlMapSource(control.conninfo, TopologyStore(control).routing_map, registration)


def _shadow_reader(
    control: ControlDatabase, topology: TopologyStore, application: str
) -> ShadowReader | None:
    """None: the fleet has no role that could read a copy that does not serve."""
    role = topology.shadow_role()
    if role is None:
        return None
    addresses = ShardAddresses(topology)

    def as_shadow(shard: str) -> str:
        return conninfo.make_conninfo(addresses[shard], user=role)

    return ShadowReader(_shadow_sink(control, application), as_shadow, f"{application}-shadow")


def _shadow_sink(control: ControlDatabase, application: str) -> ShadowSink:
    shadows = ShadowStore(control)

    def record(counts: ShadowCounts) -> None:
        shadows.record(
            counts.migration,
            application,
            ShadowTotals(
                reads=counts.reads,
                matches=counts.matches,
                lags=counts.lags,
                mismatches=counts.mismatches,
                unsettled=counts.unsettled,
                failures=counts.failures,
                dropped=counts.dropped,
            ),
            {"owner": counts.owner.summary(), "other": counts.other.summary()},
            counts.differences,
        )

    return record


class ShardAddresses:
    """The application's connection strings by shard. All are read at once, so that they are known in an outage."""

    def __init__(self, topology: TopologyStore) -> None:
        self._topology = topology
        self._lock = threading.Lock()
        self._known = self._read()

    def __getitem__(self, shard: str) -> str:
        """Raises ``KeyError`` for an unknown shard."""
        with self._lock:
            if shard not in self._known:  # it was added since
                self._known = self._read()
            return self._known[shard]

    def _read(self) -> dict[str, str]:
        return {record.name: record.application_dsn for record in self._topology.shards()}
