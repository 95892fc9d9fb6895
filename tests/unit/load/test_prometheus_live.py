"""Prometheus among the live sources: what it owns, how far it goes back, and whom its failures concern."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from foreshard.clock import FleetClock
from foreshard.errors import ConfigurationError, SourceUnavailable
from foreshard.load.instant import Instant
from foreshard.load.load_settings import LoadSettings
from foreshard.load.prometheus import PrometheusClient
from foreshard.load.prometheus_live import FARTHEST, PrometheusSource
from foreshard.load.prometheus_queries import NODE_METRICS
from foreshard.load.prometheus_settings import PrometheusSettings
from foreshard.load.source import Reading, Visit
from tests.unit.load.test_prometheus import T0, client, matrix, scrapes, settings


@dataclass(frozen=True)
class Shard:
    name: str = "s1"
    dsn: str = "host=db1 dbname=app"


def visit(ts: datetime, shard: str = "s1") -> Visit:
    return Visit(Shard(shard), (), ts, lambda: Instant(ts, "boot", 0.0))


def answered(path: str, form: dict[str, str]) -> Any:
    """Scraped every 15 s; one core is busy all the time."""
    if path.endswith("query"):
        return [scrapes(form, instance="db1:9100")]
    begin, end, step = (int(form[name]) for name in ("start", "end", "step"))
    assert "pg_stat" not in form["query"]
    return [matrix([(at, "1.5") for at in range(begin, end + 1, step)], foreshard_metric="cpu_cores")]


def test_it_tells_the_minutes_since_the_last_visit() -> None:
    chosen = settings(node="db1:9100", postgres="db1:9187")
    with PrometheusSource([chosen], FleetClock(), lambda _: client(answered, chosen=chosen)) as source:
        first = source.collect(visit(T0), None)
        later = T0 + timedelta(minutes=5)
        second = source.collect(visit(later), first.reading)
        absent = source.collect(visit(T0 + timedelta(days=9)), first.reading)
        assert source.collect(visit(T0, "s2"), None).samples == []
        assert source.owns(Shard(), None) == NODE_METRICS
        assert source.owns(Shard("s2"), None) == frozenset()
    assert {one.ts for one in second.samples} >= {T0 + timedelta(minutes=minute) for minute in range(1, 5)}
    assert {(one.metric, one.value, one.bucket) for one in second.samples} == {("cpu_cores", 1.5, None)}
    assert second.reading == {"until": later.isoformat()}
    earliest = min(one.ts for one in absent.samples)
    assert earliest >= T0 + timedelta(days=9) - FARTHEST - timedelta(minutes=3)


def test_a_server_that_is_away_leaves_a_gap_and_keeps_what_it_owns() -> None:
    with PrometheusSource(
        [settings()], FleetClock(), lambda chosen: client(lambda *_: "no", 502, chosen)
    ) as source:
        with pytest.raises(SourceUnavailable):
            source.collect(visit(T0), None)
        assert source.owns(Shard(), None) == NODE_METRICS


def test_a_missing_token_concerns_the_shards_of_that_server_only() -> None:
    def connect(chosen: PrometheusSettings) -> PrometheusClient:
        if chosen.token_env is not None:
            raise ConfigurationError("load.prometheus.token_env", "is not set")
        return client(answered, chosen=chosen)

    guarded = PrometheusSettings.model_validate(
        {"url": "http://other.test", "token_env": "NOWHERE", "shards": {"s2": {"node": "db2:9100"}}}
    )
    with PrometheusSource([guarded, settings()], FleetClock(), connect) as source:
        with pytest.raises(ConfigurationError, match="token_env"):
            source.collect(visit(T0, "s2"), None)
        reading: Reading = {"until": (T0 - timedelta(minutes=3)).isoformat()}
        assert source.collect(visit(T0), reading).samples


def test_a_shard_has_one_source() -> None:
    server = {"url": "http://prometheus.test", "shards": {"s1": {"node": "db1"}}}
    with pytest.raises(ValueError, match="s1 twice"):
        LoadSettings.model_validate({"prometheus": [server, server | {"url": "http://other.test"}]})
    with pytest.raises(ValueError, match="s1 twice"):
        LoadSettings.model_validate({"prometheus": [server], "whole_machine": ["s1"]})
