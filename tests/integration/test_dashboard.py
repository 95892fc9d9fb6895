"""A real Prometheus scrapes metrics of a real control database: every panel of the dashboard has data, rules load."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict

from foreshard.alerts.alert import KINDS
from foreshard.control.alert_store import AlertStore
from foreshard.control.engine import ControlDatabase
from foreshard.fleet.server import free_port
from foreshard.fleet.throwaway import ThrowawayServers
from foreshard.metrics.catalogue import CATALOGUE
from foreshard.metrics.prometheus import FleetCollector
from foreshard.metrics.reader import read
from foreshard.router.prometheus import Endpoint
from foreshard.settings import Settings
from tests import measured_fleet
from tests.integration.moving_fleet import wait_until

DEPLOYMENTS = Path(__file__).resolve().parents[2] / "deployments"
BOARD = json.loads((DEPLOYMENTS / "grafana" / "dashboards" / "foreshard.json").read_text())
NAMES = {spec.name for spec in CATALOGUE}
pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")


def panels() -> list[dict[str, Any]]:
    return [one for one in BOARD["panels"] if one["type"] != "row"]


EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{panel['title']}-{at}")
    for panel in panels()
    for at, target in enumerate(panel["targets"])
]


@pytest.fixture(scope="module")
def module_control(servers: ThrowawayServers) -> Iterator[ControlDatabase]:
    """One control database for all of them: they only read."""
    dsn = servers.new_control_database()
    database = ControlDatabase(dsn)
    database.migrate()
    yield database
    database.close()
    servers.drop("control", str(conninfo_to_dict(dsn)["dbname"]))


@pytest.fixture(scope="module")
def url(module_control: ControlDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that scrapes a filled control database every second, by the configuration that is deployed."""
    control, directory = module_control, tmp_path_factory.mktemp("prometheus")
    settings = Settings(control={"dsn": control.conninfo})
    measured_fleet.fill(control)
    port = free_port(set())
    with Endpoint(FleetCollector(lambda: read(control, settings)), 0, "127.0.0.1") as endpoint:
        text = (DEPLOYMENTS / "prometheus" / "prometheus.yml").read_text()
        text = (
            text.replace("127.0.0.1:4211", f"127.0.0.1:{endpoint.port}")
            .replace("15s", "1s")
            .replace("10s", "1s")
        )
        (directory / "prometheus.yml").write_text(text)
        shutil.copy(DEPLOYMENTS / "prometheus" / "alerts.yml", directory)
        command = [
            "prometheus",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
        ]
        with (directory / "log").open("wb") as log:
            running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: bool(_query(address, "foreshard_up == 1")), "it is scraped")
            yield address
        finally:
            running.terminate()
            running.wait(20)


def _query(url: str, expr: str) -> list[Any]:
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": expr}, trust_env=False)
    except httpx.HTTPError:
        return []
    if answer.status_code == 503:  # it is starting
        return []
    if answer.status_code != 200:
        raise AssertionError(f"{expr}: {answer.text}")
    found: list[Any] = answer.json()["data"]["result"]
    return found


def test_the_committed_dashboard_is_what_the_code_makes() -> None:
    from deployments.grafana.dashboard import FILE, as_json

    assert as_json() == FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_every_panel_has_data(url: str, expr: str) -> None:
    for variable in ("shard", "resource", "migration"):
        expr = expr.replace(f"${variable}", ".*")
    assert "$" not in expr
    assert _query(url, expr), expr


def test_every_metric_that_is_named_exists() -> None:
    text = json.dumps(BOARD) + (DEPLOYMENTS / "prometheus" / "alerts.yml").read_text()
    named = {re.sub("_bucket$", "", one) for one in re.findall(r"foreshard_[a-z0-9_]+", text)}
    known = {name for one in NAMES for name in (one, re.sub("_bucket$", "", one))}
    assert named <= known | {"foreshard_shard"}, named - known


def test_what_is_counted_as_an_alert_is_shown(url: str, module_control: ControlDatabase) -> None:
    assert len(_query(url, "foreshard_alerts")) == len(KINDS)
    assert AlertStore(module_control).lasting() == frozenset()


def test_variables_and_annotations_have_values(url: str) -> None:
    for one in BOARD["templating"]["list"]:
        if one["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", one["query"]).groups()  # type: ignore[union-attr]
            assert {series["metric"][label] for series in _query(url, metric)}, one
    (annotation,) = (one for one in BOARD["annotations"]["list"] if one.get("expr"))
    _query(url, annotation["expr"])  # it can be parsed


def test_ids_are_unique_and_no_panel_lies_on_another() -> None:
    ids = [one["id"] for one in BOARD["panels"] if one.get("id")]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for one in BOARD["panels"]:
        at = one["gridPos"]
        cells = {
            (x, y)
            for x in range(at.get("x", 0), at.get("x", 0) + at["w"])
            for y in range(at.get("y", 0), at.get("y", 0) + at["h"])
        }
        assert not cells & taken, one["title"]
        assert max(x for x, _ in cells) < 24, one["title"]
        taken |= cells


def test_rules_are_loaded_and_healthy(url: str) -> None:
    answer = httpx.get(f"{url}/api/v1/rules", trust_env=False).json()
    (group,) = answer["data"]["groups"]
    assert len(group["rules"]) > 10
    wait_until(lambda: _evaluated(url), "every rule was evaluated")


def _evaluated(url: str) -> bool:
    groups = httpx.get(f"{url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
    assert not [rule for rule in groups[0]["rules"] if rule["health"] == "err"]
    return all(rule["health"] == "ok" for rule in groups[0]["rules"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_promtool_finds_nothing(arguments: tuple[str, ...]) -> None:
    said = subprocess.run(
        ["promtool", *arguments], cwd=DEPLOYMENTS / "prometheus", capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr
