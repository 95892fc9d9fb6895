"""Packages, this machine, and what becomes of a check that fails or hangs."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from foreshard.doctor import control, local, packages
from foreshard.doctor.control import ControlFacts
from foreshard.doctor.examination import Examination
from foreshard.doctor.local import LocalFacts
from foreshard.doctor.together import Late, together
from foreshard.postgres.server_facts import ClockOffset
from foreshard.settings import load_settings

VERSIONS = {"prefect": "3.8.8", "fastapi": "0.150.0", "sqlalchemy": "2.0.58", "pandas": "2.3.3"}
REQUIRES = [
    "prefect==3.8.8",
    "fastapi<0.151",
    "sqlalchemy<2.1,>=2.0.58",
    "pandas<3,>=2.3",
    "x; extra == 'demo'",
]
LOCAL = LocalFacts({"/etc/foreshard.toml": 0o640}, None, 10**12, "/var/lib", "free", "127.0.0.1:4210", 0.0)


@pytest.mark.parametrize(
    ("package", "version", "says"),
    [
        ("fastapi", "0.151.2", "Prefect's server does not start"),
        ("sqlalchemy", "2.1.0", "schedules nothing"),
        ("pandas", "3.0.0", "statsforecast refuses it"),
        ("prefect", "3.9.1", "is not ==3.8.8"),
        ("prefect", None, "prefect is not installed"),
    ],
)
def test_a_package_of_another_version_is_found(package: str, version: str | None, says: str) -> None:
    installed: dict[str, Any] = {**VERSIONS, package: version}
    (finding,) = packages.judge(REQUIRES, installed.get, ">=3.11", "3.11.7")
    assert finding.severity == "wrong"
    assert says in finding.what
    assert "--constraint constraints.txt" in finding.remedy


def test_packages_as_they_should_be_are_in_order() -> None:
    (finding,) = packages.judge(REQUIRES, VERSIONS.get, ">=3.11", "3.11.7")
    assert finding.severity == "ok"


def test_an_old_python_is_found() -> None:
    (finding,) = packages.judge(REQUIRES, VERSIONS.get, ">=3.11", "3.10.2")
    assert finding.what == "Python 3.10.2 is not >=3.11"


def test_this_environment_is_as_it_should_be() -> None:
    assert [one.severity for one in packages.examine()] == ["ok"]


@pytest.mark.parametrize(
    ("facts", "severity", "says"),
    [
        (LOCAL, "ok", "in order"),
        (replace(LOCAL, modes={"/etc/foreshard.toml": 0o666}), "warn", "mode 0666"),
        (replace(LOCAL, passfile_mode=0o644), "wrong", "libpq ignores"),
        (replace(LOCAL, free_bytes=10**6), "wrong", "GiB free"),
        (replace(LOCAL, docs="bad address"), "wrong", "Data Docs cannot be served on 127.0.0.1:4210"),
        (replace(LOCAL, offset_s=-3600.0), "warn", "clock.offset_seconds is -3600"),
    ],
)
def test_each_fault_of_this_machine_is_found(facts: LocalFacts, severity: str, says: str) -> None:
    (finding,) = local.judge(facts)
    assert finding.severity == severity
    assert says in finding.what


@pytest.mark.parametrize(
    ("revision", "severity", "says"),
    [
        ("0013", "warn", "no fleet is described"),
        ("0012", "wrong", "has schema 0012, this version wants 0013"),
        (None, "wrong", "has no schema"),
    ],
)
def test_each_state_of_the_control_database_is_told(revision: str | None, severity: str, says: str) -> None:
    found = control.judge(ControlFacts(revision, "0013", ClockOffset(0, 0), None))
    assert any(one.severity == severity and says in one.what for one in found)


def test_one_that_hangs_does_not_keep_the_others() -> None:
    released = threading.Event()
    waiting: list[set[str]] = []

    def broken() -> int:
        raise ValueError("no")

    def hang() -> int:
        released.wait(30)
        return 1

    found = together({"a": lambda: 7, "b": broken, "c": hang}, 3.0, waiting.append)
    released.set()
    assert found["a"] == 7
    assert isinstance(found["b"], ValueError)
    assert isinstance(found["c"], Late)
    assert {"c"} in waiting


@pytest.mark.parametrize("only", [None, "control", "shards", "clock", "shard-1"])
def test_without_a_control_database_nothing_of_the_fleet_is_called_in_order(
    monkeypatch: pytest.MonkeyPatch, only: str | None
) -> None:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", "host=127.0.0.1 port=1 dbname=none")
    monkeypatch.setenv("FORESHARD_CHECKS__DOCS_PORT", "0")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    found = Examination(load_settings(), "main", list, list, only=only).run()
    assert any(one.severity == "wrong" and "control database does not answer" in one.what for one in found)


def test_what_needs_no_control_database_does_not_ask_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", "host=127.0.0.1 port=1 dbname=none")
    assert {one.check for one in Examination(load_settings(), "main", list, list, only="packages").run()} == {
        "packages"
    }


def test_deployments_of_a_prefect_that_is_away_are_not_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", "host=127.0.0.1 port=1 dbname=none")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    (finding,) = Examination(load_settings(), "main", list, list, only="deployments").run()
    assert finding.severity == "wrong"
    assert "Prefect does not answer" in finding.what
