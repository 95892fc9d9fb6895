"""Prometheus as a source of live load: what no connection to a shard can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from threading import Lock
from types import TracebackType
from typing import Self

from foreshard.clock import FleetClock
from foreshard.load.prometheus import PrometheusClient
from foreshard.load.prometheus_queries import NODE_METRICS, Target
from foreshard.load.prometheus_settings import PrometheusSettings, PrometheusShard
from foreshard.load.prometheus_source import live_samples
from foreshard.load.source import Collected, Reading, Shard, Visit

FARTHEST = timedelta(hours=6)
"""After a longer absence what is farther back is fetched by `foreshard load import prometheus`."""


class PrometheusSource:
    """What node_exporter and the user's own queries say of a shard; a context manager.

    Rows, scans and transactions come from the shard's own counters, which are counted by bucket: what
    postgres_exporter says of them is for histories only. Minutes in which collect did not run are fetched later.
    """

    name = "prometheus"

    def __init__(
        self,
        servers: Sequence[PrometheusSettings],
        clock: FleetClock,
        connect: Callable[[PrometheusSettings], PrometheusClient] = PrometheusClient,
    ) -> None:
        self._clock, self._connect = clock, connect
        self._known: dict[str, tuple[PrometheusSettings, PrometheusShard]] = {}
        for server in servers:
            for shard, settings in server.shards.items():
                live = settings.model_copy(update={"postgres": None})
                if live.node is not None or live.queries:
                    self._known[shard] = server, live
        self._clients: dict[str, PrometheusClient] = {}
        self._closing = ExitStack()
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def owns(self, shard: Shard, reading: Reading | None) -> frozenset[str]:
        """As `LoadSource`: all that its queries are about, whether they have an answer or not."""
        del reading
        if shard.name not in self._known:
            return frozenset()
        _, settings = self._known[shard.name]
        return frozenset(settings.queries) | (NODE_METRICS if settings.node is not None else frozenset())

    def collect(self, visit: Visit, before: Reading | None) -> Collected:
        """As `LoadSource`.

        Raises:
            SourceUnavailable: the server does not answer.
            ConfigurationError: its token is missing or not accepted, or it answers what is no shard's load.
        """
        if visit.shard.name not in self._known:
            return Collected({}, [])
        server, settings = self._known[visit.shard.name]
        since = visit.ts - FARTHEST
        since = max(since, datetime.fromisoformat(before["until"])) if before else visit.ts
        target = Target.of(visit.shard.name, settings, visit.shard.dsn)
        samples = live_samples(self._client(server), target, since, visit.ts, self._clock)
        return Collected({"until": visit.ts.isoformat()}, samples)

    def _client(self, server: PrometheusSettings) -> PrometheusClient:
        """One for each server, opened when it is first asked: what is wrong with one concerns its shards only."""
        with self._lock:
            if server.url not in self._clients:
                self._clients[server.url] = self._closing.enter_context(self._connect(server))
            return self._clients[server.url]
