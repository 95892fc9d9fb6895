"""An application that sends its transactions at a fixed rate, whatever the server does: pgbench."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import find_binaries

GIVE_UP_MS = 2000
"""A transaction that could not begin in that time is left out, and counts as having taken it."""

OUTPUT = "output"


@dataclass(frozen=True)
class Transaction:
    """``at``: seconds since the epoch when it ended; ``ms``: since it was due."""

    at: float
    ms: float


@dataclass
class Sent:
    """Every transaction, once the application has ended."""

    transactions: list[Transaction] = field(default_factory=list)

    def between(self, begin: float, end: float) -> list[float]:
        """Milliseconds that each took of those that ended then."""
        return [one.ms for one in self.transactions if begin <= one.at < end]


def saturated(dsn: str, script: str, clients: int, seconds: int, cpus: Sequence[int]) -> float:
    """Transactions per second of clients that wait for nothing but the server. ``cpus``: where they may run."""
    with tempfile.TemporaryDirectory() as name:
        application = _started(dsn, Path(name), script, clients, [f"--time={seconds}"], cpus)
        application.wait()
        text = _output(Path(name))
    found = re.search(r"tps = ([0-9.]+)", text)
    if found is None or application.returncode != 0:
        raise ForeshardError(f"pgbench failed: {text[-1000:]}")
    return float(found[1])


@contextmanager
def sending(dsn: str, script: str, clients: int, per_second: float, cpus: Sequence[int]) -> Iterator[Sent]:
    """Send until the block ends; the result is complete then. ``cpus``: where the clients may run.

    Raises:
        ForeshardError: the application ended before.
    """
    sent = Sent()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rate = [
            *("--time=1000000", f"--rate={per_second:.1f}", f"--latency-limit={GIVE_UP_MS}"),
            *("--log", f"--log-prefix={directory / 'log'}"),
        ]
        application = _started(dsn, directory, script, clients, rate, cpus)
        try:
            yield sent
            if application.poll() is not None:
                raise ForeshardError(f"pgbench ended: {_output(directory)[-1000:]}")
        finally:
            application.terminate()
            application.wait()
        for log in directory.glob("log.*"):
            sent.transactions += _read(log.read_text(encoding="ascii").splitlines())


def _started(
    dsn: str, directory: Path, script: str, clients: int, options: Sequence[str], cpus: Sequence[int]
) -> subprocess.Popen[bytes]:
    file = directory / "transaction.sql"
    file.write_text(script, encoding="utf-8")
    command = [
        *(str(find_binaries().tool("pgbench")), "--no-vacuum", "--protocol=prepared", "--random-seed=1"),
        *(f"--client={clients}", "--jobs=1", f"--file={file}", *options, dsn),
    ]
    with (directory / OUTPUT).open("wb") as output:
        application = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    psutil.Process(application.pid).cpu_affinity(list(cpus))
    return application


def _output(directory: Path) -> str:
    return (directory / OUTPUT).read_text(encoding="utf-8", errors="replace")


def _read(lines: Sequence[str]) -> Iterator[Transaction]:
    for line in lines:
        # client, its transaction's number, microseconds, script, seconds and microseconds of its end, lag
        parts = line.split()
        if len(parts) < 7:  # the last line of one that was told to end
            continue
        ms = GIVE_UP_MS if parts[2] == "skipped" else int(parts[2]) / 1000
        yield Transaction(int(parts[4]) + int(parts[5]) / 1e6, ms)
