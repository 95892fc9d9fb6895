"""What `foreshard doctor` says of Prometheus; databases and Prefect are looked at in the integration tests."""

from __future__ import annotations

from typing import Any

import pytest

from foreshard import doctor
from tests.unit.load.test_prometheus import client, settings


@pytest.mark.parametrize(
    ("values", "ok", "says"),
    [
        (["1"], True, "is scraped"),
        (["0"], False, "is down"),
        ([], False, "is not known"),
        (["1", "1"], False, "is 2 targets"),
    ],
)
def test_a_target_that_is_not_scraped_is_named(
    monkeypatch: pytest.MonkeyPatch, values: list[str], ok: bool, says: str
) -> None:
    def answer(_: str, form: dict[str, str]) -> Any:
        return [{"metric": {"job": str(n)}, "value": [float(form["time"]), v]} for n, v in enumerate(values)]

    monkeypatch.setattr(doctor, "PrometheusClient", lambda chosen: client(answer, chosen=chosen))
    (finding,) = doctor._prometheus([settings()])
    assert finding.ok == ok
    assert says in finding.what
    assert finding.what.startswith("s1: node_exporter in Prometheus at http://prometheus.test:9090")


def test_a_server_that_does_not_answer_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PrometheusClient", lambda chosen: client(lambda *_: "no", 502, chosen))
    (finding,) = doctor._prometheus([settings(node="db1:9100", postgres="db1:9187")])
    assert not finding.ok
    assert "prometheus.test" in finding.what
