"""A router for a fleet that a control database describes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypedDict

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
from foreshard.topology.bucketing import BucketOf


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
    return Router(
        **_parts(control, application),
        deadline_s=deadline_s,
        connections_per_shard=connections_per_shard,
        addressing=addressing,
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
    return AsyncRouter(
        **await asyncio.to_thread(_parts, control, application),
        deadline_s=deadline_s,
        connections_per_shard=connections_per_shard,
        addressing=addressing,
    )


class _Parts(TypedDict):
    """What either router is made of."""

    map_source: ControlMapSource
    shards: Callable[[str], str]
    application: str
    shadow: ShadowReader | None
    bucket_of: BucketOf | None


def _parts(control: ControlDatabase, application: str) -> _Parts:
    topology = TopologyStore(control)
    addresses = ShardAddresses(topology)
    bucket_of = bucket_finder(topology.bucketing(), application)
    shadow = _shadow_reader(control, topology.shadow_role(), addresses, application)
    registration = RouterStore(control).registration(application)
    return _Parts(
        # Made last: it has a thread, which nobody would stop if something else failed.
        map_source=ControlMapSource(control.conninfo, topology.routing_map, registration),
        shards=addresses.__getitem__,
        application=application,
        shadow=shadow,
        bucket_of=bucket_of,
    )


def _shadow_reader(
    control: ControlDatabase, role: str | None, addresses: ShardAddresses, application: str
) -> ShadowReader | None:
    """None: the fleet has no role that could read a copy that does not serve."""
    if role is None:
        return None

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
