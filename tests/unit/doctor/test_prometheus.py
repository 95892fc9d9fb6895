"""What the doctor says of Prometheus servers."""

from __future__ import annotations

from typing import Any

import pytest

from foreshard.doctor import prometheus
from tests.unit.load.test_prometheus import client, settings


@pytest.mark.parametrize(
    ("values", "severity", "says"),
    [
        (["1"], "ok", "is scraped"),
        (["0"], "wrong", "is down"),
        ([], "wrong", "is not known"),
        (["1", "1"], "wrong", "is 2 targets"),
    ],
)
def test_a_target_that_is_not_scraped_is_named(
    monkeypatch: pytest.MonkeyPatch, values: list[str], severity: str, says: str
) -> None:
    def answer(_: str, form: dict[str, str]) -> Any:
        return [{"metric": {"job": str(n)}, "value": [float(form["time"]), v]} for n, v in enumerate(values)]

    monkeypatch.setattr(prometheus, "PrometheusClient", lambda chosen: client(answer, chosen=chosen))
    (finding,) = prometheus.examine([settings()])
    assert finding.severity == severity
    assert says in finding.what
    assert finding.what.startswith("s1: node_exporter in Prometheus at http://prometheus.test:9090")


def test_a_server_that_does_not_answer_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "PrometheusClient", lambda chosen: client(lambda *_: "no", 502, chosen))
    (finding,) = prometheus.examine([settings(node="db1:9100", postgres="db1:9187")])
    assert finding.severity == "wrong"
    assert "prometheus.test" in finding.what
