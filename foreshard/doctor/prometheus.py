"""Prometheus servers that load is read from: does each exporter that is named get scraped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from foreshard.doctor.finding import Finding, ok, wrong
from foreshard.errors import ForeshardError
from foreshard.load.prometheus import PrometheusClient, PrometheusSeries
from foreshard.load.prometheus_queries import Target
from foreshard.load.prometheus_settings import PrometheusSettings

CHECK = "prometheus"


def examine(servers: Iterable[PrometheusSettings]) -> list[Finding]:
    """One finding for each exporter of each shard, or for a server that does not answer."""
    return [finding for server in servers for finding in _server(server)]


def _server(server: PrometheusSettings) -> list[Finding]:
    found = []
    try:
        with PrometheusClient(server) as client:
            for name, shard in server.shards.items():
                for kind, selector in Target(name, shard, "").selectors.items():
                    series = client.query(f"up{{{selector}}}", datetime.now(UTC))
                    what = f"{name}: {kind}_exporter in Prometheus at {server.url}"
                    found.append(judge(what, selector, series))
    except ForeshardError as error:
        found.append(wrong(CHECK, error.message, error.remedy or "Start it, or correct its address."))
    return found


def judge(what: str, selector: str, series: list[PrometheusSeries]) -> Finding:
    """``series``: what `up` with that selector gave."""
    up = [value for one in series for _, value in one.points()]
    if up == [1.0]:
        return ok(CHECK, f"{what} is scraped")
    if len(up) > 1:
        remedy = f"up{{{selector}}} must select one: name more labels."
        return wrong(CHECK, f"{what} is {len(up)} targets", remedy)
    if up:
        return wrong(CHECK, f"{what} is down", "Start it, or look at Prometheus' page of targets.")
    return wrong(CHECK, f"{what} is not known", f"up{{{selector}}} selects nothing: correct its labels.")
