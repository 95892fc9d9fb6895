"""Whatever a child started is gone after `stop`, also when parent or child died before."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deployments.child import Child
from foreshard.errors import ForeshardError

GRANDCHILD = (
    "import pathlib, subprocess, sys, time; "
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "pathlib.Path(sys.argv[1]).write_text(str(p.pid)); time.sleep(600)"
)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child("patient", tmp_path / "run")
    yield made
    made.stop(patience_s=0)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_stopping_ends_what_the_child_started(child: Child, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child.start([sys.executable, "-c", GRANDCHILD, str(note)], os.environ)
    eventually(lambda: note.exists() and note.read_text() != "")
    grandchild = int(note.read_text())
    assert child.is_running()
    assert psutil.pid_exists(grandchild)
    child.stop()
    assert not child.is_running()
    assert not psutil.pid_exists(grandchild)


def test_orphans_of_a_killed_child_are_ended_too(child: Child, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    pid = child.start([sys.executable, "-c", GRANDCHILD, str(note)], os.environ)
    eventually(lambda: note.exists() and note.read_text() != "")
    psutil.Process(pid).kill()
    eventually(lambda: not child.is_running())
    # A later command knows the child by its pid file only.
    Child(child.name, child.run_dir).stop()
    assert not psutil.pid_exists(int(note.read_text()))


def test_a_child_that_ignores_the_interrupt_is_killed(child: Child, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    )
    child.start([sys.executable, "-c", stubborn, str(ready)], os.environ)
    eventually(ready.exists)
    child.stop(patience_s=0.2)
    assert not child.is_running()


def test_a_reused_process_id_is_not_ours(child: Child) -> None:
    child.run_dir.mkdir()
    mine = psutil.Process()
    stale = {"pid": mine.pid, "started": mine.create_time() - 1000}
    (child.run_dir / "patient.pid").write_text(json.dumps(stale))
    assert child.was_started
    assert not child.is_running()
    child.stop()
    assert not child.was_started
    assert mine.is_running()


def test_what_a_dead_child_said_last_is_told(child: Child) -> None:
    child.start([sys.executable, "-c", "raise SystemExit('no such port')"], os.environ)
    eventually(lambda: not child.is_running())
    with pytest.raises(ForeshardError, match="no such port"):
        child.require_running()


def test_stopping_twice_or_nothing_is_fine(child: Child) -> None:
    child.stop()
    child.start([sys.executable, "-c", "pass"], os.environ)
    child.stop()
    child.stop()
    assert not child.was_started
