"""Everything that the demo runs: five PostgreSQL servers, Prefect's server, the serving process, the workload."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from deployments.child import Child
from deployments.prefect_server import PrefectServer
from foreshard.errors import ForeshardError
from foreshard.fleet.embedded import EmbeddedFleet
from foreshard.fleet.server import free_port
from foreshard.settings import CONFIG_FILE, CONFIG_VARIABLE

LOCK = "demo.lock"
OURS = ("run", "prefect", "migrations", "failpoints", CONFIG_FILE, "ledger.sqlite", "demo-report.json")
"""What the demo keeps in its state directory, beside what the embedded fleet removes itself."""


class Stack:
    """The demo's processes. ``state_dir`` remembers them, so that a later command can stop them."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir.resolve()
        self.run_dir = self.state_dir / "run"
        self.fleet = EmbeddedFleet(self.state_dir)
        self.server = Child("prefect-server", self.run_dir)
        self.serving = Child("serve", self.run_dir)
        self.workload = Child("workload", self.run_dir)
        self.prefect: PrefectServer | None = None

    @property
    def config_file(self) -> Path:
        """The settings of everything that runs in this stack."""
        return self.state_dir / CONFIG_FILE

    @property
    def ledger(self) -> Path:
        """The client-side history of writes."""
        return self.state_dir / "ledger.sqlite"

    def start_prefect(self) -> PrefectServer:
        """Prefect's server on a free port; it is not ready yet."""
        self.prefect = PrefectServer(self.state_dir, self.fleet.scheduler_url(), free_port(set()))
        self.prefect.start()
        return self.prefect

    def environment(self) -> dict[str, str]:
        """What the flows and the command line need to find this stack."""
        assert self.prefect is not None
        return {**self.prefect.client_environment(), CONFIG_VARIABLE: str(self.config_file)}

    def start_serving(self, failpoints: str) -> None:
        """`foreshard serve`, with the failpoints of a kill test armed."""
        armed = {"FORESHARD_FAILPOINTS": failpoints} if failpoints else {}
        self.serving.start([sys.executable, "-m", "foreshard.cli", "serve"], {**self.environment(), **armed})

    def start_workload(self, config: Mapping[str, object]) -> None:
        """Readers and writers through the router."""
        file = self.run_dir / "workload.json"
        file.write_text(json.dumps(config, indent=1), encoding="utf-8")
        argv = [sys.executable, "-m", "foreshard.fleet.workload", "--config", str(file)]
        self.workload.start(argv, self.environment())

    def workload_status(self) -> dict[str, object]:
        """What the workload said last; empty before its first word."""
        try:
            status: dict[str, object] = json.loads((self.run_dir / "workload-status.json").read_text())
        except (OSError, ValueError):
            return {}
        return status

    def require_running(self) -> None:
        """Raises ForeshardError with the end of its log if a process has died by itself."""
        for child in (self.server, self.serving, self.workload):
            if child.was_started:
                child.require_running()

    def stop(self) -> None:
        """Stops everything, clients before servers. Harmless in any state."""
        self.workload.stop(patience_s=15)
        self.serving.stop()
        self.server.stop()
        self.fleet.down()

    def wipe(self) -> None:
        """Stops everything and removes all data, also what an interrupted demo left."""
        self.stop()
        self.fleet.down(wipe=True)
        for name in OURS:
            path = self.state_dir / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def lock(state_dir: Path) -> IO[str]:
    """The right to run a demo there, until the file is closed. Raises ForeshardError if one runs already."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = (state_dir / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ForeshardError(
            f"A demo runs in {state_dir} already.", remedy="Use it, or stop it by `foreshard down`."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def tear_down(state_dir: Path) -> None:
    """Stops a demo that runs there, whatever it is doing, and removes its data."""
    if not state_dir.is_dir():
        return
    _interrupt_holder(state_dir)
    with lock(state_dir):
        Stack(state_dir).wipe()


def _interrupt_holder(state_dir: Path, patience_s: float = 60.0) -> None:
    """As Ctrl-C in its terminal would; it stops its own children, then lets go of the lock."""
    deadline = time.monotonic() + patience_s
    asked = False
    while time.monotonic() < deadline:
        try:
            lock(state_dir).close()
            return
        except ForeshardError:
            if not asked:
                asked = True
                with suppress(OSError, ValueError, psutil.NoSuchProcess):
                    psutil.Process(int((state_dir / LOCK).read_text())).send_signal(signal.SIGINT)
            time.sleep(0.2)
    raise ForeshardError(f"The demo in {state_dir} does not stop.", remedy="End its process and try again.")
