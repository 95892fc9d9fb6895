"""What else copies databases: pgcopydb, and pg_dump with pg_restore, each as fast as it gets on two cores."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import find_binaries, tool_environment
from foreshard.fleet.pgpass import HOST
from foreshard.fleet.server import SUPERUSER
from foreshard.fleet.throwaway import ShardDatabase

ENDING_S = 20.0
TIMEOUT_S = 1800.0


def pgcopydb(
    source: ShardDatabase, target: ShardDatabase, *, jobs: int = 4, split: str | None = "200MB"
) -> None:
    """Clone the whole database. Tables above ``split`` are copied by several processes (None: never).

    Raises:
        ForeshardError: it failed; the error holds the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="foreshard-pgcopydb-") as directory:
        _run(
            source,
            [
                *("pgcopydb", "clone", "--source", _uri(source), "--target", _uri(target)),
                *("--dir", f"{directory}/work", "--skip-large-objects"),
                *("--table-jobs", str(jobs), "--index-jobs", str(jobs)),
                *(() if split is None else ("--split-tables-larger-than", split)),
            ],
        )


def pg_dump(source: ShardDatabase, target: ShardDatabase, *, jobs: int = 4, compress: str = "0") -> None:
    """Dump the whole database into a directory and restore from that.

    Raises:
        ForeshardError: one of them failed; the error holds the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="foreshard-pg-dump-") as directory:
        dump = f"{directory}/dump"
        parallel = f"--jobs={jobs}"
        _run(
            source,
            [
                *("pg_dump", "--format=directory", parallel, f"--compress={compress}", "--no-sync"),
                *(f"--file={dump}", _uri(source)),
            ],
        )
        _run(source, ["pg_restore", parallel, "--exit-on-error", f"--dbname={_uri(target)}", dump])


def _uri(shard: ShardDatabase) -> str:
    return f"postgres://{SUPERUSER}@{HOST}:{shard.server.port}/{shard.database}"


def _run(shard: ShardDatabase, command: Sequence[str]) -> None:
    """Run it with the programs of the servers' own version; everything that it started ends with it."""
    environment = {
        **tool_environment(),
        # pgcopydb runs the psql, pg_dump and pg_restore that it finds first.
        "PATH": f"{find_binaries().bin_dir}{os.pathsep}{os.environ['PATH']}",
        "PGPASSFILE": str(shard.server.passwords.path),
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # pgcopydb that fails ends its whole process group
            )
        except FileNotFoundError:
            raise ForeshardError(
                f"{command[0]} is not installed.", remedy=f"On Debian: apt-get install {command[0]}."
            ) from None
        try:
            status = process.wait(TIMEOUT_S)
        except BaseException:
            _end(process)
            raise
        if status != 0:
            output.seek(0)
            raise ForeshardError(f"{command[0]} failed: {output.read()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    # pgcopydb removes its semaphores when it is asked to end, not when it is killed.
    for request in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, request)
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_S)
            return
