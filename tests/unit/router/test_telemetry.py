"""What a router counts, and how Prometheus reads it."""

from __future__ import annotations

import threading
import urllib.request
from timeit import timeit

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from foreshard.errors import InvalidInput, RefusedWrite, ShardUnavailable, UnknownCommitOutcome
from foreshard.router import StaticMapSource
from foreshard.router.prometheus import RouterCollector, serve
from foreshard.router.telemetry import BOUNDS_S, Outcome, ShadowOutcome, Telemetry
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Intent, RoutingMap


@pytest.fixture
def telemetry() -> Telemetry:
    return counted("shop")


def counted(application: str) -> Telemetry:
    placement = Placement({"b0": "one"})
    return Telemetry(application, StaticMapSource(RoutingMap(7, KeyType.TEXT, ("b0",), placement)))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.COMMITTED),
        (RefusedWrite("no"), Outcome.REFUSED),
        (ShardUnavailable("no"), Outcome.UNAVAILABLE),
        (UnknownCommitOutcome("?"), Outcome.UNKNOWN),
        (ValueError("mine"), Outcome.FAILED),
        (KeyboardInterrupt(), Outcome.FAILED),
    ],
)
def test_an_error_says_how_it_ended(error: BaseException | None, outcome: Outcome) -> None:
    assert Outcome.of(error) is outcome


def test_latencies_fall_into_cells(telemetry: Telemetry) -> None:
    for seconds in (0.0, BOUNDS_S[0], 0.0003, 4.9, 5.0, 60.0):
        telemetry.transaction(Intent.READ, Outcome.COMMITTED, "one", seconds)
    latencies = telemetry.figures().latencies[Intent.READ, "one"]
    assert latencies.cumulative[:2] == (2, 3)
    assert latencies.cumulative[-2:] == (5, 6)
    assert latencies.sum_s == pytest.approx(70 - 0.1 + BOUNDS_S[0] + 0.0003)


def test_latencies_are_told_by_shard_and_endings_by_outcome(telemetry: Telemetry) -> None:
    for outcome, shard in (
        (Outcome.COMMITTED, "one"),
        (Outcome.COMMITTED, "two"),
        (Outcome.FAILED, "one"),
    ):
        telemetry.transaction(Intent.WRITE, outcome, shard, 0.001)
    figures = telemetry.figures()
    assert figures.transactions == {
        (Intent.WRITE, Outcome.COMMITTED): 2,
        (Intent.WRITE, Outcome.FAILED): 1,
    }
    assert [figures.latencies[Intent.WRITE, shard].cumulative[-1] for shard in ("one", "two")] == [2, 1]


def test_nothing_is_lost_between_threads(telemetry: Telemetry) -> None:
    def work() -> None:
        for _ in range(2000):
            telemetry.transaction(Intent.WRITE, Outcome.COMMITTED, "one", 0.001)
            telemetry.refused("FS001")
            telemetry.retried()
            telemetry.shadow_read(ShadowOutcome.MATCH)
            telemetry.shadow_latency(0.001, 0.002)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures = telemetry.figures()
    assert figures.transactions == {(Intent.WRITE, Outcome.COMMITTED): 8000}
    assert (figures.retries, figures.refusals) == (8000, {"FS001": 8000})
    assert figures.shadow_reads == {ShadowOutcome.MATCH: 8000}
    assert figures.shadow_latencies["other"].cumulative[-1] == 8000


def test_counting_is_cheap(telemetry: Telemetry) -> None:
    once = min(
        timeit(lambda: telemetry.transaction(Intent.READ, Outcome.COMMITTED, "one", 0.001), number=2000)
        for _ in range(5)
    )
    assert once / 2000 < 20e-6  # about one microsecond; a busy machine is given time


def test_prometheus_reads_all_of_it(telemetry: Telemetry) -> None:
    other = counted("reports")
    telemetry.transaction(Intent.READ, Outcome.COMMITTED, "one", 0.002)
    telemetry.transaction(Intent.WRITE, Outcome.REFUSED, "two", 0.3)
    telemetry.refused("FS001")
    telemetry.refused(None)
    telemetry.retried()
    telemetry.shadow_read(ShadowOutcome.LAG)
    telemetry.shadow_latency(0.001, 0.004)
    telemetry.shadow_read(ShadowOutcome.DROPPED)
    with serve(telemetry, other, port=0) as endpoint:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        with pytest.raises(InvalidInput, match="port"):
            serve(telemetry, port=endpoint.port)
    found = {
        (sample.name.removeprefix("foreshard_router_"), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    shop = ("application", "shop")
    assert found["map_epoch", shop] == 7
    assert found["map_epoch", ("application", "reports")] == 7
    assert found["map_age_seconds", shop] == 0
    assert found["map_fresh", shop] == 1
    assert found["registered", shop] == 0
    assert found["transactions_total", shop, ("intent", "read"), ("outcome", "committed")] == 1
    assert found["transactions_total", shop, ("intent", "write"), ("outcome", "refused")] == 1
    assert found["refusals_total", shop, ("sqlstate", "FS001")] == 1
    assert found["refusals_total", shop, ("sqlstate", "none")] == 1
    assert found["retries_total", shop] == 1
    assert found["retries_total", ("application", "reports")] == 0
    assert found["shadow_reads_total", shop, ("outcome", "lag")] == 1
    read = (shop, ("intent", "read"))
    assert found["transaction_seconds_bucket", *read, ("le", "0.0025"), ("shard", "one")] == 1
    assert found["transaction_seconds_bucket", *read, ("le", "0.001"), ("shard", "one")] == 0
    assert found["transaction_seconds_count", *read, ("shard", "one")] == 1
    assert found["shadow_read_seconds_sum", shop, ("side", "other")] == pytest.approx(0.004)


def test_an_application_registers_it_beside_its_own(telemetry: Telemetry) -> None:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(RouterCollector(telemetry))
    assert registry.get_sample_value("foreshard_router_map_epoch", {"application": "shop"}) == 7
