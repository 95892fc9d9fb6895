"""A process that runs the checks of a migration's next step: `python -m benchmarks.checks_run SETTINGS.json MIGRATION`.

A process of its own for each run, so that its peak of memory is that of these checks alone. What it measured is one
line of JSON. SETTINGS.json are the settings of the migration's runners.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from data_checks import collect as collecting
from data_checks import migration_gate
from data_checks.scope import Checkpoint
from foreshard.control.engine import ControlDatabase
from foreshard.migration.runner import Runner
from foreshard.postgres.digests import compare_tables
from foreshard.settings import Settings


@dataclass(frozen=True)
class Checked:
    """Seconds of the whole, of the comparison of rows in it, and of the gate's process; peaks of memory of both
    processes, in MB.
    """

    checkpoint: str
    passed: bool
    evaluated: int
    seconds: float
    scan_s: float
    gate_s: float
    memory_mb: float
    gate_memory_mb: float


def run(settings: Settings, settings_file: Path, migration: int) -> Checked:
    """The checks of the next step, in a process. Raises ``CalledProcessError`` if that fails."""
    settings_file.write_text(settings.model_dump_json(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.checks_run", str(settings_file), str(migration)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Checked(**json.loads(done.stdout.splitlines()[-1]))


def main(settings_file: Path, migration: int) -> None:
    """Print what the checks of the next step took."""
    settings = Settings.model_validate_json(settings_file.read_text(encoding="utf-8"))
    assert settings.control is not None
    control = ControlDatabase(settings.control.dsn)
    scan = _Timed(compare_tables)
    watched = mock.patch.object(collecting, "compare_tables", scan)
    with watched, Runner(control, settings, migration, "bench_checks") as runner:
        step = runner.next_step()
        assert step is not None
        assert step.checkpoint is not None
        started = time.perf_counter()
        gate = migration_gate.run(runner.work, Checkpoint(step.checkpoint), step.flip_no, _ignore)
        seconds = time.perf_counter() - started
    report = gate.report
    for finding in report.verdict.failed:
        print(finding, file=sys.stderr)
    measured = Checked(
        report.scope.checkpoint.value,
        report.verdict.passed,
        report.verdict.evaluated,
        round(seconds, 2),
        round(scan.seconds, 2),
        round(seconds - report.collected_s, 2),
        _peak_mb(resource.RUSAGE_SELF),
        _peak_mb(resource.RUSAGE_CHILDREN),
    )
    print(json.dumps(asdict(measured)))
    control.close()


class _Timed:
    """A function that adds up how long its calls took."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.seconds = 0.0

    def __call__(self, *args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return self._function(*args, **options)
        finally:
            self.seconds += time.perf_counter() - started


def _ignore(line: str) -> None:
    """Nobody's own suites run here."""
    del line


def _peak_mb(who: int) -> float:
    return round(resource.getrusage(who).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
