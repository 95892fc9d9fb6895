"""The endpoint beside `foreshard serve`, without a control database."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import httpx
import pytest

from deployments.metrics_server import beside, serve_alone
from foreshard.errors import InvalidInput
from foreshard.fleet.server import free_port
from foreshard.settings import Settings

NOWHERE = {"dsn": "host=127.0.0.1 port=1 dbname=nowhere"}


def scrape(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text


def test_it_answers_without_a_control_database_and_ends_with_the_body() -> None:
    port = free_port(set())
    with beside(Settings(control=NOWHERE, metrics={"port": port})):
        assert "foreshard_up 0.0" in scrape(port).splitlines()
    with pytest.raises(httpx.ConnectError):
        scrape(port)


def test_a_port_that_is_taken_is_said_and_the_body_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with beside(Settings(control=NOWHERE, metrics={"port": port})):
            said = capsys.readouterr().err
    assert f"127.0.0.1:{port} cannot be listened on" in said
    assert said.startswith("metrics.port: ")
    assert "Set it to a free port (0: not served)." in said


def test_port_0_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.metrics_server.Endpoint", None)
    with beside(Settings(control=NOWHERE, metrics={"port": 0})):
        pass


def test_alone_until_it_is_told_to_end() -> None:
    port = free_port(set())
    environment = os.environ | {
        "FORESHARD_CONTROL__DSN": NOWHERE["dsn"],
        "FORESHARD_METRICS__PORT": str(port),
    }
    command = [sys.executable, "-m", "foreshard.cli", "metrics", "--serve"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert f"http://127.0.0.1:{port}/metrics" in running.stdout.readline()
        assert "foreshard_up 0.0" in scrape(port).splitlines()
        running.terminate()
        assert running.wait(30) == 0
    with pytest.raises(InvalidInput, match=r"metrics\.port: is 0"):
        serve_alone(Settings(control=NOWHERE, metrics={"port": 0}))
