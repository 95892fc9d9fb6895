"""An application that sends its transactions at a fixed rate, whatever the server does: pgbench."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import find_binaries

GIVE_UP_MS = 2000
"""A transaction that could not begin in that time is left out, and counts as having taken it."""


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


def saturated(dsn: str, script: str, clients: int, seconds: int) -> float:
    """Transactions per second of clients that wait for nothing but the server."""
    with tempfile.TemporaryDirectory() as directory:
        command = _command(dsn, Path(directory), script, clients, [f"--time={seconds}"])
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if found is None or done.returncode != 0:
        raise ForeshardError(f"pgbench failed: {done.stdout[-1000:]}")
    return float(found[1])


@contextmanager
def sending(dsn: str, script: str, clients: int, per_second: float) -> Iterator[Sent]:
    """Send until the block ends; the result is complete then.

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
        with (directory / "output").open("w+", encoding="utf-8") as output:
            application = subprocess.Popen(
                _command(dsn, directory, script, clients, rate), stdout=output, stderr=subprocess.STDOUT
            )
            try:
                yield sent
                if application.poll() is not None:
                    output.seek(0)
                    raise ForeshardError(f"pgbench ended: {output.read()[-1000:]}")
            finally:
                application.terminate()
                application.wait()
        for log in directory.glob("log.*"):
            sent.transactions += _read(log.read_text(encoding="ascii").splitlines())


def _command(dsn: str, directory: Path, script: str, clients: int, options: Sequence[str]) -> list[str]:
    file = directory / "transaction.sql"
    file.write_text(script, encoding="utf-8")
    return [
        *(str(find_binaries().tool("pgbench")), "--no-vacuum", "--protocol=prepared", "--random-seed=1"),
        *(f"--client={clients}", "--jobs=1", f"--file={file}", *options, dsn),
    ]


def _read(lines: Sequence[str]) -> Iterator[Transaction]:
    for line in lines:
        # client, its transaction's number, microseconds, script, seconds and microseconds of its end, lag
        parts = line.split()
        if len(parts) < 7:  # the last line of one that was told to end
            continue
        ms = GIVE_UP_MS if parts[2] == "skipped" else int(parts[2]) / 1000
        yield Transaction(int(parts[4]) + int(parts[5]) / 1e6, ms)
