"""What the real Prometheus and exporters tell, against the truth from the operating system and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil
import psycopg
import pytest

from foreshard.errors import ConfigurationError
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.load.prometheus import PrometheusClient, QueryRefused
from foreshard.load.prometheus_queries import Target
from foreshard.load.prometheus_settings import PrometheusSettings
from foreshard.load.prometheus_source import history
from tests.integration.moving_fleet import wait_until
from tests.integration.prometheus_servers import (
    PASSWORD,
    PROGRAMS,
    SCRAPE_S,
    USER,
    PrometheusServers,
    missing,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}"),
]

STEP_S = 3
STEP = timedelta(seconds=STEP_S)
_, NODE, _ = PROGRAMS


class Truth(Thread):
    """Totals that are read ten times a second: seconds of CPU, committed and rolled back transactions."""

    def __init__(self, shard: ShardDatabase) -> None:
        super().__init__()
        self._shard = shard
        self._ended = Event()
        self.times: list[float] = []
        self.cpu_s: list[float] = []
        self.transactions: list[float] = []

    def run(self) -> None:
        with self._shard.connect() as conn:
            while not self._ended.wait(0.1):
                cpu = psutil.cpu_times()
                (count,) = conn.execute(
                    "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
                ).fetchone() or (0,)
                self.times.append(time.time())
                self.cpu_s.append(cpu.user + cpu.system + cpu.nice + cpu.irq + cpu.softirq)
                self.transactions.append(float(str(count)))

    def end(self) -> None:
        self._ended.set()
        self.join()

    def rates(self, totals: list[float], until: datetime) -> list[float]:
        """The means over the step that ends then, and over what may lie between its first scrape and its last.

        Each is up to `SCRAPE_S` from its end of the step. Where load is uneven these differ, and Prometheus tells one.
        """
        at, missed = until.timestamp(), np.linspace(0.0, SCRAPE_S, 11)
        spans = [(at - STEP_S + early, at - late) for early in missed for late in missed]
        first, last = (np.interp(moments, self.times, totals) for moments in zip(*spans, strict=True))
        return [float(rise) / (end - begin) for rise, (begin, end) in zip(last - first, spans, strict=True)]


@pytest.fixture
def servers_of_load(shard: ShardDatabase, tmp_path: Path) -> Iterator[PrometheusServers]:
    with PrometheusServers(tmp_path, shard.superuser_dsn) as running:
        yield running


def now() -> datetime:
    return datetime.now(UTC)


def pass_a_step() -> None:
    end = now() + STEP
    wait_until(lambda: now() > end, "the time is over")


def work(conn: psycopg.Connection[tuple[object, ...]]) -> bool:
    """A second of some 400 transactions, steadily."""
    end = now() + timedelta(seconds=1)
    while now() < end:
        for _ in range(20):
            conn.execute("SELECT FROM pg_namespace LIMIT 1")
        # Else transactions are counted in lumps; and those of a session that reads no table, at its end only.
        conn.execute("SELECT pg_stat_force_next_flush()")
        time.sleep(0.04)
    return True


def told_since(client: PrometheusClient, target: Target, moment: datetime) -> bool:
    """Whether both exporters have answered throughout a step after ``moment``."""
    parts = history(client, target, moment - STEP, now(), STEP_S)
    told = {one.metric for part in parts for one in part.samples if one.ts > moment}
    return {"cpu_cores", "transactions_per_s"} <= told


def test_what_prometheus_tells_is_true_and_its_gaps_are_gaps(
    servers_of_load: PrometheusServers, shard: ShardDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_TEST_PASSWORD", PASSWORD)
    settings = PrometheusSettings.model_validate(
        {
            "url": servers_of_load.url,
            "username": USER,
            "token_env": "PROMETHEUS_TEST_PASSWORD",
            "shards": {
                "source": {
                    "node": servers_of_load.node,
                    "postgres": {"instance": servers_of_load.postgres, "job": "postgres"},
                    "queries": {"memory_bytes": f'node_load1{{instance="{servers_of_load.node}"}}'},
                }
            },
        }
    )
    target = Target("source", settings.shards["source"], shard.database)
    truth = Truth(shard)
    truth.start()
    try:
        began = now()
        burner = subprocess.Popen(["nice", sys.executable, "-c", "while True: pass"])
        try:
            with shard.connect() as conn, PrometheusClient(settings) as client:
                wait_until(
                    lambda: work(conn) and told_since(client, target, began + 1.5 * STEP), "work is told", 30
                )
        finally:
            burner.kill()
            burner.wait()
        worked_until = now()
        servers_of_load.kill(NODE)
        node_down = now()
        pass_a_step()
        node_up = now()
        servers_of_load.start(NODE)
        with PrometheusClient(settings) as client:
            wait_until(lambda: told_since(client, target, node_up), "the exporter is told of again")
        servers_of_load.kill("prometheus")
        stopped = now()
        pass_a_step()
        servers_of_load.start("prometheus")
        started = now()
        with PrometheusClient(settings) as client:
            wait_until(lambda: told_since(client, target, started), "Prometheus tells again")
    finally:
        truth.end()
    with PrometheusClient(settings) as client:
        parts = list(history(client, target, began, now(), STEP_S))
        with pytest.raises(QueryRefused, match="parse error"):
            client.query("rate(", now())
    found: dict[str, dict[datetime, float]] = {}
    for part in parts:
        for sample in part.samples:
            assert sample.ts.timestamp() % STEP_S == 0
            found.setdefault(sample.metric, {})[sample.ts] = sample.value

    working = [ts for ts in found["cpu_cores"] if began + STEP <= ts <= worked_until]
    assert working, "no step of the work was told"
    for ts in working:
        cpu = truth.rates(truth.cpu_s, ts)
        assert 0.85 * min(cpu) - 0.1 < found["cpu_cores"][ts] < 1.15 * max(cpu) + 0.1
    steps = [ts for ts in found["transactions_per_s"] if began + 1.5 * STEP <= ts <= worked_until]
    assert steps
    for ts in steps:
        told, true = found["transactions_per_s"][ts], truth.rates(truth.transactions, ts)
        assert min(true) > 100
        assert 0.8 * min(true) < told < 1.2 * max(true)
    with shard.connect() as conn:
        (size,) = conn.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    assert found["size_bytes"][steps[-1]] == pytest.approx(float(str(size)), rel=0.05)
    assert max(found["memory_bytes"].values()) < 1000  # the user's query in place of ours

    def overlapping(begin: datetime, end: datetime, metric: str) -> list[datetime]:
        """Values whose step shares more than the time between two scrapes with that time."""
        scrape = timedelta(seconds=1.2 * SCRAPE_S)
        return [ts for ts in found[metric] if ts > begin + scrape and ts - STEP < end - scrape]

    assert overlapping(node_down, node_up, "cpu_cores") == []
    assert overlapping(node_down, node_up, "net_bytes_per_s") == []
    assert overlapping(node_down, node_up, "transactions_per_s"), "the other exporter was up"
    for metric in ("cpu_cores", "transactions_per_s", "size_bytes"):
        assert overlapping(stopped, started, metric) == []
        assert [ts for ts in found[metric] if ts > started], f"{metric} goes on"
    assert [ts for ts in found["cpu_cores"] if node_up < ts < stopped]

    monkeypatch.setenv("PROMETHEUS_TEST_PASSWORD", "wrong")
    with (
        PrometheusClient(settings) as stranger,
        pytest.raises(ConfigurationError, match=r"load\.prometheus\.token_env"),
    ):
        stranger.query("up", now())
