"""pg_dump, pg_restore and psql, started against a server: how they log in, what they are called there, how they end."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from foreshard.errors import ForeshardError
from foreshard.postgres import passwords
from foreshard.postgres.connect import server_name

TIMEOUT_S = 600.0

NOTICED: Mapping[str, str] = {
    "lock_timeout": "5s",
    # The server notices within half a second that the program is gone; no server on Windows has it.
    "client_connection_check_interval": "500ms",
}
"""Settings of a program's session."""

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h; see prctl(2)."""


def run(program: Path, arguments: Sequence[str], conninfo: str | None, application: str) -> str:
    """Run it on that server, or on none (None); returns what it says. ``application``: what its session is called.

    Raises:
        ForeshardError: it failed, in its own words, or took more than ten minutes.
    """
    with passwords.for_child(conninfo) as login:
        try:
            done = subprocess.run(
                _command(program, login, arguments), env=_environment(login, application, NOTICED),
                pass_fds=login.files, check=False, capture_output=True, encoding="utf-8", errors="replace",
                timeout=TIMEOUT_S, preexec_fn=_dies_with(os.getpid()),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ForeshardError(f"{_on(program, conninfo)} took more than 10 minutes.") from error
    if done.returncode:
        raise _failure(program, conninfo, done.stderr)
    return done.stdout


@contextmanager
def output_of(
    program: Path,
    arguments: Sequence[str],
    conninfo: str,
    application: str,
    settings: Mapping[str, str],
) -> Iterator[IO[bytes]]:
    """What it writes, to be read while it runs; leaving the block before its end kills it.

    The end of what can be read is not the end of what it had to say: it may have failed. Whoever reads to the end and
    leaves the block normally has read everything. It does not outlive us: nobody reads what it writes any more.

    Raises:
        ForeshardError: on leaving the block: it failed, in its own words.
    """
    with passwords.for_child(conninfo) as login, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            _command(program, login, arguments), env=_environment(login, application, {**NOTICED, **settings}),
            pass_fds=login.files, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, bufsize=0,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.stdout
            process.stdout.close()  # what was not read is not wanted
            status = process.wait()
        except BaseException:
            process.kill()
            process.stdout.close()
            process.wait()
            raise
        if status:
            said.seek(0)
            raise _failure(program, conninfo, said.read().decode("utf-8", errors="replace"))


def _command(program: Path, login: passwords.ChildLogin, arguments: Sequence[str]) -> list[str]:
    database = [] if login.conninfo is None else [f"--dbname={login.conninfo}"]
    return [str(program), *database, *arguments]


def _environment(
    login: passwords.ChildLogin, application: str, settings: Mapping[str, str]
) -> dict[str, str]:
    options = " ".join(
        f"-c {name}={value.replace(chr(92), chr(92) * 2).replace(' ', chr(92) + ' ')}"
        for name, value in settings.items()
    )
    return {**login.environment, "PGOPTIONS": options, "PGAPPNAME": application}


def _dies_with(parent: int) -> Callable[[], None] | None:
    """What a child calls before its program starts, so that SIGKILL of the runner does not leave it at work.

    The signal comes when the thread that started the child ends, and ours waits for it.
    None where there is no prctl (only Linux has it): there an orphan goes on until it is done, or until the next
    runner ends its session on the server (`backends.end_replaced`).
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork as little as possible is done

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return arrange


def _on(program: Path, conninfo: str | None) -> str:
    return f"{program.name} on {'no server' if conninfo is None else server_name(conninfo)}"


def _failure(program: Path, conninfo: str | None, said: str) -> ForeshardError:
    return ForeshardError(
        f"{_on(program, conninfo)} failed: {said.strip()[-800:]}",
        remedy="Its own words say what is missing; nothing was left half done on the target.",
    )
