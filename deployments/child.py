"""Child processes of the embedded stack: own session, own log, found again and stopped after a crash.

A child starts in a session of its own with SIGINT at its default: Ctrl-C in the terminal reaches only the
parent, which then stops its children in order; and a child of a non-interactive shell would ignore SIGINT.
Whatever a child starts itself stays in its session, so that stopping the session leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from foreshard.errors import ForeshardError

SAME_START_S = 1.0
"""Two readings of one process's start differ by rounding only."""


@dataclass(frozen=True)
class Child:
    """A named child process; ``run_dir`` holds its `<name>.pid` and `<name>.log`."""

    name: str
    run_dir: Path

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.run_dir / f"{self.name}.log"

    @property
    def was_started(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._recorded() is not None

    @property
    def _pid_file(self) -> Path:
        return self.run_dir / f"{self.name}.pid"

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> int:
        """Starts it and returns its process id; one left over from an earlier parent is stopped first."""
        self.stop()
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                argv,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_default_signals,
            )
        started = psutil.Process(process.pid).create_time()
        self._pid_file.write_text(json.dumps({"pid": process.pid, "started": started}), encoding="utf-8")
        return process.pid

    def is_running(self) -> bool:
        """Whether the process that was started still lives (a reused process id does not count)."""
        return self.process() is not None

    def require_running(self) -> None:
        """Raises ForeshardError with the end of its log when it has died."""
        if not self.is_running():
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise ForeshardError(f"{self.name} has stopped by itself:\n{tail}", remedy=f"See {self.log}.")

    def stop(self, patience_s: float = 10.0) -> None:
        """Stops it and all of its session: asked first (SIGINT), then told (SIGKILL). Harmless if gone."""
        recorded = self._recorded()
        if recorded is None:
            return
        pid, started = recorded
        leader = self.process()
        if leader is not None:
            leader.send_signal(signal.SIGINT)
            _wait(leader, patience_s)
        if not _is_reused(pid, started):
            for left_over in _session(pid):
                _kill(left_over)
        self._pid_file.unlink(missing_ok=True)

    def kill9(self) -> None:
        """Kills it, its session and all below it outright, as a lack of memory or power would; nobody is asked."""
        recorded = self._recorded()
        if recorded is not None and not _is_reused(*recorded):
            leader = self.process()
            # A worker's runs have sessions of their own; they are known as long as it lives.
            members = [*([] if leader is None else leader.children(recursive=True)), *_session(recorded[0])]
            for process in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            for process in members:
                _wait(process, 5.0)

    def _recorded(self) -> tuple[int, float] | None:
        try:
            content = json.loads(self._pid_file.read_text(encoding="utf-8"))
            return int(content["pid"]), float(content["started"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def process(self) -> psutil.Process | None:
        """It, if it still lives: a reused process id does not count."""
        recorded = self._recorded()
        if recorded is None:
            return None
        try:
            process = psutil.Process(recorded[0])
            same = abs(process.create_time() - recorded[1]) < SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait(process: psutil.Process, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                break
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)  # our own child would stay as a zombie


def _is_reused(pid: int, started: float) -> bool:
    """Whether another process has the id now. The system gives it out only when the whole session has ended."""
    try:
        return bool(abs(psutil.Process(pid).create_time() - started) >= SAME_START_S)
    except psutil.NoSuchProcess:
        return False


def _session(sid: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == sid:
                members.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return members


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        process.kill()
        process.wait(timeout=5)
