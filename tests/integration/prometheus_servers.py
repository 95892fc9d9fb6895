"""Prometheus with node_exporter and postgres_exporter as Debian packages them, on loopback, for one test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Self

import httpx
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from foreshard.fleet.server import free_port
from tests.integration.moving_fleet import wait_until

PROGRAMS = ("prometheus", "prometheus-node-exporter", "prometheus-postgres-exporter")
USER, PASSWORD = "reader", "not-a-secret"
_HASH = "$2b$04$5qfopgkpghIwpfzH/GZc6uJkZP9fBuqPDX0SRdTWzt02RV8aZ.bmu"  # bcrypt, of PASSWORD
SCRAPE_S = 1.0


def missing() -> list[str]:
    """The programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class PrometheusServers:
    """One server that wants basic auth, and an exporter of each kind; each can be killed and started again."""

    def __init__(self, directory: Path, postgres_dsn: str) -> None:
        self.directory = directory
        self._login = conninfo_to_dict(postgres_dsn, sslmode="disable")
        self._ports: dict[str, int] = {}
        for program in PROGRAMS:
            self._ports[program] = free_port(set(self._ports.values()))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.url = f"http://{self._address('prometheus')}"
        self.node, self.postgres = (self._address(program) for program in PROGRAMS[1:])

    def __enter__(self) -> Self:
        (self.directory / "web.yml").write_text(f"basic_auth_users:\n  {USER}: {_HASH}\n")
        (self.directory / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {SCRAPE_S:.0f}s, scrape_timeout: {SCRAPE_S:.0f}s}}\n"
            "scrape_configs:\n"
            f"- {{job_name: node, static_configs: [{{targets: ['{self.node}']}}]}}\n"
            f"- {{job_name: postgres, static_configs: [{{targets: ['{self.postgres}']}}]}}\n"
        )
        try:
            for program in reversed(PROGRAMS):
                self.start(program)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in list(self._running):
            self.kill(program)

    def start(self, program: str) -> None:
        """Start it, and wait until it answers."""
        address = self._address(program)
        command = [program, f"--web.listen-address={address}"]
        login = {name: value for name, value in self._login.items() if name != "passfile"}
        environment = {
            "PATH": "/usr/bin:/bin",
            "DATA_SOURCE_NAME": make_conninfo("", **login),
            "PGPASSFILE": str(self._login["passfile"]),  # in a DSN the exporter does not know it
        }
        if program == "prometheus":
            command += [
                f"--config.file={self.directory}/prometheus.yml",
                f"--storage.tsdb.path={self.directory}/data",
                f"--web.config.file={self.directory}/web.yml",
            ]
        with (self.directory / f"{program}.log").open("ab") as log:
            self._running[program] = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        path = "/-/ready" if program == "prometheus" else "/metrics"
        wait_until(lambda: _answers(f"http://{address}{path}"), f"{address} answers")

    def kill(self, program: str) -> None:
        """kill -9."""
        process = self._running.pop(program)
        process.kill()
        process.wait()

    def _address(self, program: str) -> str:
        return f"127.0.0.1:{self._ports[program]}"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, auth=(USER, PASSWORD), trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
