"""A process that runs the checks of a migration's next step: `python -m benchmarks.checks_run SETTINGS.json MIGRATION`.

A process of its own for each run, so that its peak of memory is that of these checks alone. What it measured is one
line of JSON. SETTINGS.json are the settings of the migration's runners.
"""

from __future__ import annotations

import json
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from data_checks import collect
from data_checks.run_gate import run_gate
from data_checks.scope import Checkpoint, Scope
from foreshard.control.engine import ControlDatabase
from foreshard.migration.runner import Runner
from foreshard.postgres.digests import CHUNKS
from foreshard.settings import Settings
from tasks.gates import _collect


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
    scan = _Timed(collect.compare_tables)
    collect.compare_tables = scan  # type: ignore[assignment]
    with (
        Runner(control, settings, migration, "bench_checks") as runner,
        tempfile.TemporaryDirectory() as scratch,
    ):
        step = runner.next_step()
        assert step is not None
        assert step.checkpoint is not None
        work = runner.work
        scope = Scope(
            migration=migration,
            flip=step.flip_no,
            marker=secrets.token_hex(8),
            checkpoint=Checkpoint(step.checkpoint),
            buckets=work.buckets,
            tables=tuple(work.tables),
            chunks=CHUNKS,
        )
        evidence = Path(scratch) / "evidence.sqlite"
        started = time.perf_counter()
        _collect(work, scope, evidence)
        collected = time.perf_counter()
        verdict = run_gate(evidence, scope, Path(scratch) / "docs", time_to_live=timedelta(hours=2))
        ended = time.perf_counter()
    for finding in verdict.failed:
        print(finding, file=sys.stderr)
    measured = Checked(
        scope.checkpoint.value,
        verdict.passed,
        verdict.evaluated,
        round(ended - started, 2),
        round(scan.seconds, 2),
        round(ended - collected, 2),
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


def _peak_mb(who: int) -> float:
    return round(resource.getrusage(who).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
