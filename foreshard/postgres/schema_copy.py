"""Copy of a bucket's schema: by pg_dump and pg_restore, in two parts around the copy of the data.

Before the data: schemas, types, functions, tables, sequences, defaults, primary keys and grants. After it:
indexes, foreign keys and triggers, which would slow the copy down (52 MB/s against 20, DESIGN section 5).

The servers may be of different versions. pg_restore writes a script and psql runs it: connected to an older server
than itself, pg_restore stops at its own first lines, which set what that server does not know.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import PostgresBinaries
from foreshard.fleet.client_tools import tools_for
from foreshard.postgres.connect import Connection, server_name

AFTER_DATA = frozenset({"INDEX", "INDEX ATTACH", "FK CONSTRAINT", "TRIGGER"})
"""Kinds of archive entries that are restored after the data."""


_SET = re.compile(r"SET (\w+) = ")

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h; see prctl(2)."""


def _dies_with(parent: int) -> Callable[[], None] | None:
    """What a child calls before its program starts, so that SIGKILL of the runner does not leave it at work.

    The signal comes when the thread that started the child ends, and ours waits for it (`_run`).
    None where there is no prctl (only Linux has it): there an orphan goes on until it is done, or until the next
    runner ends its session on the server (`replication.end_backends`).
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork as little as possible is done

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return arrange


def tools_between(source: Connection, target: Connection) -> PostgresBinaries:
    """The programs for a copy from server to server. Raises `ForeshardError` if none can read the source."""
    return tools_for(source.info.server_version // 10000, target.info.server_version // 10000)


def dump(
    tools: PostgresBinaries, conninfo: str, schemas: Sequence[str], archive: Path, application: str
) -> None:
    """Write the definition of ``schemas`` (no data, no subscriptions or publications) into ``archive``.

    ``application``: what the session on the server is called.
    """
    command = [
        "--format=custom",
        "--schema-only",
        "--no-publications",
        "--no-subscriptions",
        "--lock-wait-timeout=5s",
    ]
    patterns = [f'--schema="{schema.replace(chr(34), chr(34) * 2)}"' for schema in schemas]
    arguments = [*command, *patterns, f"--file={archive}", f"--dbname={conninfo}"]
    _run(tools, "pg_dump", arguments, conninfo, application)


def restore_before_data(
    tools: PostgresBinaries, target: Connection, conninfo: str, archive: Path, application: str
) -> None:
    """Create everything of the archive but indexes, foreign keys and triggers, in one transaction."""
    _restore(tools, target, conninfo, archive, application, after_data=False)


def restore_after_data(
    tools: PostgresBinaries, target: Connection, conninfo: str, archive: Path, application: str
) -> None:
    """Create indexes, foreign keys and user triggers, in one transaction: it happened wholly or not at all."""
    _restore(tools, target, conninfo, archive, application, after_data=True)


def rehearse(
    tools: PostgresBinaries, target: Connection, conninfo: str, archive: Path, application: str
) -> None:
    """Create everything of the archive and take it back. Raises `ForeshardError` with the server's words."""
    _restore(tools, target, conninfo, archive, application, after_data=None)


def _restore(
    tools: PostgresBinaries,
    target: Connection,
    conninfo: str,
    archive: Path,
    application: str,
    *,
    after_data: bool | None,
) -> None:
    """``after_data`` None: both parts, and rolled back."""
    part = {True: ".after.list", False: ".before.list", None: ".all.list"}[after_data]
    listing = archive.with_suffix(part)
    entries = _run(tools, "pg_restore", ["--list", str(archive)], conninfo, application).splitlines()
    chosen = [
        entry
        for entry in entries
        if _is_entry(entry) and (after_data is None or _kind_is_after(entry) == after_data)
    ]
    if not chosen:
        return
    listing.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    script = listing.with_suffix(".sql")
    arguments = [f"--use-list={listing}", f"--file={script}", str(archive)]
    _run(tools, "pg_restore", arguments, conninfo, application)
    known = {name for (name,) in target.execute("SELECT name FROM pg_settings")}
    statements = _without_unknown(script.read_text(encoding="utf-8"), known)
    script.write_text(statements + ("\nROLLBACK;\n" if after_data is None else ""), encoding="utf-8")
    options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--file={script}"]
    _run(tools, "psql", [*options, f"--dbname={conninfo}"], conninfo, application)


def _without_unknown(script: str, known: Collection[str]) -> str:
    """``script`` without the settings of its preamble that a server does not know; it has only the ``known`` ones.

    The preamble ends where the first object begins; behind it the same words may stand in a function's body.
    """
    preamble, begin, objects = script.partition("\n-- Name: ")
    lines = preamble.split("\n")
    kept = [line for line in lines if (set_ := _SET.match(line)) is None or set_[1] in known]
    return "\n".join(kept) + begin + objects


def _is_entry(line: str) -> bool:
    # Guards of this very migration are on the source's tables when it is dumped again after a crash.
    return bool(line) and not line.startswith(";") and " zz_foreshard" not in line


def _kind_is_after(line: str) -> bool:
    """An entry reads ``17; 2606 16390 FK CONSTRAINT b0000 flights flights_fk owner``."""
    rest = line.split(" ", 3)[3]
    return any(rest.startswith(f"{kind} ") for kind in AFTER_DATA)


def _run(tools: PostgresBinaries, tool: str, arguments: list[str], conninfo: str, application: str) -> str:
    # The passfile is named in the connection string, so no secret is in the arguments or the environment.
    # The interval lets the server notice within half a second that the tool is gone; no server on Windows has it.
    options = "-c lock_timeout=5s -c client_connection_check_interval=500ms"
    environment = {**os.environ, "PGOPTIONS": options, "PGAPPNAME": application}
    try:
        done = subprocess.run(
            [str(tools.tool(tool)), *arguments],
            env=environment, check=False, capture_output=True, text=True, timeout=600,
            preexec_fn=_dies_with(os.getpid()),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ForeshardError(f"{tool} on {server_name(conninfo)} took more than 10 minutes.") from error
    if done.returncode:
        raise ForeshardError(
            f"{tool} on {server_name(conninfo)} failed: {done.stderr.strip()[-800:]}",
            remedy="Its own words say what is missing; nothing was left half done on the target.",
        )
    return done.stdout
