"""The demo's settings file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from deployments import demo_settings
from deployments.prefect_server import PrefectServer
from deployments.stack import Stack
from foreshard.settings import load_settings


@pytest.mark.parametrize("own_suites", [True, False])
def test_data_docs_have_a_port_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_suites: bool
) -> None:
    suites = tmp_path / "suites"
    if own_suites:
        suites.mkdir()
    monkeypatch.setattr(demo_settings, "OWN_SUITES", suites)
    stack = Stack(tmp_path / "state")
    stack.state_dir.mkdir()
    stack.prefect = PrefectServer(stack.state_dir, "postgresql+asyncpg://nobody", 4999)
    monkeypatch.setattr(stack.fleet, "control_dsn", lambda: "dbname=foreshard")
    demo_settings.write(stack, 0.0)
    checks = tomllib.loads(stack.config_file.read_text(encoding="utf-8"))["checks"]
    assert checks.keys() == ({"docs_port", "suites"} if own_suites else {"docs_port"})
    assert checks["docs_port"] not in (0, 4210, 4999)
    assert load_settings(stack.config_file).checks.docs_port == checks["docs_port"]
