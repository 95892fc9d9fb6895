"""The demo's stack without its story: five servers, Prefect, `foreshard serve`, six weeks of load; no workload."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from deployments.demo import Demo
from deployments.stack import Stack
from deployments.steps import Steps
from foreshard.control.engine import ControlDatabase


class Quiet(Demo):
    """A demo in which nobody reads or writes, so that only the stack itself works."""

    def _start_workload(self) -> None:
        pass

    def prepare(self) -> None:
        """From an empty directory to served flows."""
        self.stack.fleet.up()
        self.control = ControlDatabase(self.stack.fleet.control_dsn())
        self.set_up()

    def forecast(self) -> None:
        """Two samples and a forecast, which a decision wants."""
        self._flow("collect")
        self._flow("forecast")


@contextmanager
def embedded_stack() -> Iterator[Quiet]:
    """Up while the block lasts, removed after it."""
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="foreshard-bench-") as directory:
        Path(directory).chmod(0o755)
        stack = Stack(Path(directory) / "state")
        stack.state_dir.mkdir()
        try:
            with Steps(Console(stderr=True)) as steps:
                demo = Quiet(stack, steps, once=True, failpoints="")
                demo.prepare()
                yield demo
        finally:
            stack.wipe()
            os.environ.clear()
            os.environ.update(environment)
