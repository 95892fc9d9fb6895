"""What routers count, for Prometheus: a collector for the application's own registry, or an endpoint of its own.

REGISTRY.register(RouterCollector(router.telemetry))      # beside what the application counts itself
endpoint = serve(router.telemetry, port=9187)             # where it counts nothing: http://127.0.0.1:9187/metrics
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from foreshard.errors import InvalidInput
from foreshard.router.map_source import MapState
from foreshard.router.telemetry import BOUNDS_S, Latencies, Telemetry

PREFIX = "foreshard_router"

_EDGES = (*(str(bound) for bound in BOUNDS_S), "+Inf")

_GAUGES: dict[str, tuple[str, Callable[[MapState], float]]] = {
    "map_epoch": ("Epoch of the routing map in use.", lambda state: state.epoch),
    "map_age_seconds": ("Since the control database confirmed the map.", lambda state: state.age_s),
    "map_fresh": ("1 if buckets at rest are read without asking their shard.", lambda state: state.fresh),
    "registered": ("1 if migrations wait for this router.", lambda state: state.registered),
}


class RouterCollector(Collector):
    """What one or several routers of a process counted, told apart by ``application``."""

    def __init__(self, *telemetries: Telemetry) -> None:
        self._telemetries = telemetries

    def collect(self) -> Iterator[Metric]:
        """All metrics, read now."""
        found = [(telemetry.application, telemetry.figures()) for telemetry in self._telemetries]
        for name, (text, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["application"])
            for application, figures in found:
                gauge.add_metric([application], float(value(figures.map)))
            yield gauge
        transactions = _counter("transactions", "Transactions that ended.", "intent", "outcome")
        refusals = _counter("refusals", "Attempts that were turned away.", "sqlstate")
        retries = _counter("retries", "Attempts that were made again.")
        shadows = _counter("shadow_reads", "Reads that were to be repeated on the other side.", "outcome")
        latencies = _histogram("transaction_seconds", "Transactions, retries included.", "intent", "shard")
        sides = _histogram("shadow_read_seconds", "Shadow reads, by the side that was read.", "side")
        for application, figures in found:
            for (intent, outcome), count in figures.transactions.items():
                transactions.add_metric([application, intent.value, outcome.value], count)
            for sqlstate, count in figures.refusals.items():
                refusals.add_metric([application, sqlstate], count)
            retries.add_metric([application], figures.retries)
            for shadow, count in figures.shadow_reads.items():
                shadows.add_metric([application, shadow.value], count)
            for (intent, shard), taken in figures.latencies.items():
                _add(latencies, [application, intent.value, shard], taken)
            for side, taken in figures.shadow_latencies.items():
                _add(sides, [application, side], taken)
        yield from (transactions, refusals, retries, shadows, latencies, sides)


class Endpoint:
    """An HTTP server in a daemon thread; it ends with `close` or with the process. A context manager, too."""

    def __init__(self, collector: Collector, port: int, address: str) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except (OSError, OverflowError) as refused:
            raise InvalidInput(
                "port", f"{address}:{port} cannot be listened on ({refused}).", remedy="Choose another."
            ) from None
        self.port: int = self._server.server_port

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(*telemetries: Telemetry, port: int, address: str = "127.0.0.1") -> Endpoint:
    """An endpoint for these routers alone; port 0 takes a free one. There is no access control: mind the address.

    Raises:
        InvalidInput: that address and port cannot be listened on.
    """
    return Endpoint(RouterCollector(*telemetries), port, address)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, labels=["application", *labels])


def _histogram(name: str, text: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"{PREFIX}_{name}", text, labels=["application", *labels])


def _add(histogram: HistogramMetricFamily, labels: list[str], taken: Latencies) -> None:
    histogram.add_metric(labels, list(zip(_EDGES, taken.cumulative, strict=True)), taken.sum_s)
