"""Foreshard's metrics as a Prometheus collector: every scrape reads the control database anew."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from foreshard.metrics.catalogue import CATALOGUE, PREFIX, Kind, MetricSpec
from foreshard.metrics.reading import PAUSE_BOUNDS_S, FlipReading, Reading
from foreshard.metrics.samples import samples

logger = logging.getLogger(__name__)

EDGES = (*(str(bound) for bound in PAUSE_BOUNDS_S), "+Inf")


class FleetCollector(Collector):
    """The catalogue's metrics, by ``read``. Where that fails there is `foreshard_up` 0 and nothing else.

    One scrape at a time reads; the others wait for it and read again.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read
        self._one = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """All metrics, read now. Never raises."""
        with self._one:
            begun = time.monotonic()
            try:
                found = list(_families(self._read()))
            except Exception as problem:  # a scrape must be answered, whatever is the matter
                said = next(iter(str(problem).splitlines()), type(problem).__name__)
                logger.warning("metrics: the control database cannot be read: %s", said)
                found = []
            taken = time.monotonic() - begun
        yield GaugeMetricFamily(f"{PREFIX}up", _TEXTS[f"{PREFIX}up"], value=float(bool(found)))
        duration = f"{PREFIX}read_duration_seconds"
        yield GaugeMetricFamily(duration, _TEXTS[duration], value=taken)
        yield from found


_TEXTS = {spec.name: spec.text for spec in CATALOGUE}


def exposition(read: Callable[[], Reading]) -> str:
    """What a scrape would get now, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(read))
    return generate_latest(registry).decode()


def _families(reading: Reading) -> Iterator[Metric]:
    families = {spec.name: _family(spec) for spec in CATALOGUE if spec.kind is not Kind.HISTOGRAM}
    for sample in samples(reading):
        families[sample.name].add_metric(sample.labels, sample.value)
    yield from (family for family in families.values() if family.samples)
    yield _pauses(reading.flips)


def _family(spec: MetricSpec) -> GaugeMetricFamily | CounterMetricFamily:
    family = CounterMetricFamily if spec.kind is Kind.COUNTER else GaugeMetricFamily
    return family(spec.name, spec.text, labels=spec.labels)


def _pauses(flips: Sequence[FlipReading]) -> Metric:
    (spec,) = (one for one in CATALOGUE if one.kind is Kind.HISTOGRAM)
    family = HistogramMetricFamily(spec.name, spec.text, labels=spec.labels)
    for flip in flips:
        buckets = list(zip(EDGES, map(float, accumulate(flip.counts)), strict=True))
        family.add_metric([flip.kind], buckets, flip.sum_s)
    return family
