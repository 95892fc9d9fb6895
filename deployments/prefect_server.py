"""The Prefect server of the embedded stack, on PostgreSQL, as a child process.

SQLite answered a resume with 503 under load and took twice the time, so the embedded fleet's control server
holds a database for it. The URL names the pgpass file, which asyncpg reads: no password is in the environment.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from deployments.child import Child
from foreshard.errors import ForeshardError

QUERY_SECONDS = 2
SLOT_WAIT_SECONDS = 5
"""How soon a run that waits for another one of its deployment asks again."""

LEASES = "prefect.server.concurrency.lease_storage.filesystem"


@dataclass(frozen=True)
class PrefectServer:
    """A server on a loopback port; ``database_url`` is SQLAlchemy's for asyncpg and names a passfile."""

    state_dir: Path
    database_url: str
    port: int

    @property
    def api_url(self) -> str:
        """What clients are told as PREFECT_API_URL."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def ui_url(self) -> str:
        """What a person opens."""
        return f"http://127.0.0.1:{self.port}"

    def client_environment(self) -> dict[str, str]:
        """This process's environment with everything a Prefect client or flow run needs."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(self.state_dir.absolute() / "prefect"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_LOGGING_COLORS": "false",
            "PREFECT_WORKER_QUERY_SECONDS": str(QUERY_SECONDS),
            "OMP_NUM_THREADS": "1",  # models are fitted in processes: threads would only fight
        }

    def start(self) -> None:
        """Starts it and returns at once; `wait_until_ready` waits."""
        argv = [
            sys.executable,
            "-m",
            "prefect",
            "server",
            "start",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        env = {
            **self.client_environment(),
            "PREFECT_API_DATABASE_CONNECTION_URL": self.database_url,
            # In memory it would forget at a restart who holds a place, and end the runs that do.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": str(SLOT_WAIT_SECONDS),
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        }
        self._child.start(argv, env)

    def wait_until_ready(self, timeout_s: float = 90.0) -> None:
        """Returns when the API reaches its database. Raises ForeshardError if it dies or is late."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._child.require_running()
            if _answers(f"{self.api_url}/ready"):
                return
            time.sleep(0.2)
        raise ForeshardError(
            f"The Prefect server did not answer within {timeout_s:g} s.", remedy=f"See {self.log}."
        )

    def require_running(self) -> None:
        """Raises ForeshardError with the end of its log when it has died."""
        self._child.require_running()

    def stop(self) -> None:
        """Stops it; harmless if it is not running."""
        self._child.stop()

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self._child.log

    @property
    def _child(self) -> Child:
        return Child("prefect-server", self.state_dir / "run")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
