"""Copy of a bucket's schema: by pg_dump and pg_restore, in two parts around the copy of the data.

Before the data: schemas, types, functions, tables, sequences, defaults, primary keys and grants. After it:
indexes, foreign keys and triggers, which would slow the copy down (52 MB/s against 20, DESIGN section 5).

A partitioned table's key is valid only when the keys of all its partitions have been attached to it: before the data,
since replicated changes find their rows by it. Of an index that backs no constraint the parts are attached after it.

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
from dataclasses import dataclass
from pathlib import Path

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import PostgresBinaries
from foreshard.fleet.client_tools import tools_for
from foreshard.postgres import passwords
from foreshard.postgres.connect import Connection, server_name
from foreshard.postgres.names import GUARD_TRIGGER, TRUNCATE_TRIGGER

AFTER_DATA = ("INDEX", "FK CONSTRAINT", "TRIGGER")
"""Kinds of archive entries that are restored after the data; comments on them too."""

_ATTACH = "INDEX ATTACH "
_OURS = (GUARD_TRIGGER, TRUNCATE_TRIGGER)

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


@dataclass(frozen=True)
class SchemaCopy:
    """A copy of the definitions of ``schemas`` by way of the file ``archive``.

    ``application``: what its sessions on servers are called.
    """

    tools: PostgresBinaries
    schemas: Sequence[str]
    archive: Path
    application: str

    def dump(self, conninfo: str) -> None:
        """Write the definitions (no data, no subscriptions or publications) into the archive."""
        options = [
            "--format=custom",
            "--schema-only",
            "--no-publications",
            "--no-subscriptions",
            "--lock-wait-timeout=5s",
            "--encoding=UTF8",  # the list of its entries is read by us
        ]
        patterns = [f'--schema="{schema.replace(chr(34), chr(34) * 2)}"' for schema in self.schemas]
        self._run("pg_dump", [*options, *patterns, f"--file={self.archive}"], conninfo)

    def restore_before_data(self, target: Connection, conninfo: str) -> None:
        """Create everything of the archive but indexes, foreign keys and triggers, in one transaction.

        ``conninfo`` leads to the same server as ``target``.
        """
        self._play("before", self._entries()[0], target, conninfo)

    def restore_after_data(self, target: Connection, conninfo: str) -> None:
        """Create indexes, foreign keys and user triggers, in one transaction: it happened wholly or not at all."""
        self._play("after", self._entries()[1], target, conninfo)

    def rehearse(self, target: Connection, conninfo: str) -> None:
        """Create everything of the archive, and take it back. Raises `ForeshardError` with the server's words."""
        before, after = self._entries()
        self._play("rehearsal", [*before, *after], target, conninfo, ending="\nROLLBACK;\n")

    def _entries(self) -> tuple[list[str], list[str]]:
        return split_entries(self._run("pg_restore", ["--list", str(self.archive)]).split("\n"), self.schemas)

    def _play(
        self, part: str, entries: Sequence[str], target: Connection, conninfo: str, ending: str = ""
    ) -> None:
        """Those entries of the archive as SQL that the target's version takes, run there in one transaction."""
        if not entries:
            return
        listing, script = (self.archive.with_suffix(f".{part}.{kind}") for kind in ("list", "sql"))
        listing.write_text("\n".join(entries) + "\n", encoding="utf-8")
        self._run("pg_restore", [f"--use-list={listing}", f"--file={script}", str(self.archive)])
        known = {name for (name,) in target.execute("SELECT name FROM pg_settings")}
        with script.open(encoding="utf-8", newline="") as file:  # definitions may hold line ends of their own
            statements = without_unknown(file.read(), known)
        with script.open("w", encoding="utf-8", newline="") as file:
            file.write(statements + ending)
        options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
        self._run("psql", [*options, f"--file={script}"], conninfo)

    def _run(self, tool: str, arguments: list[str], conninfo: str | None = None) -> str:
        return _run(self.tools.tool(tool), arguments, conninfo, self.application)


def between(
    source: Connection, target: Connection, schemas: Sequence[str], archive: Path, application: str
) -> SchemaCopy:
    """A copy by the tools that suit both servers. Raises `ForeshardError` if none can read the source."""
    tools = tools_for(source.info.server_version // 10000, target.info.server_version // 10000)
    return SchemaCopy(tools, schemas, archive, application)


def without_unknown(script: str, known: Collection[str]) -> str:
    """``script`` without the settings of its preamble that a server does not know; it has only the ``known`` ones.

    The preamble ends where the first object begins; behind it the same words may stand in a function's body.
    """
    preamble, begin, objects = script.partition("\n-- Name: ")
    lines = preamble.split("\n")
    kept = [line for line in lines if (found := _SET.match(line)) is None or found[1] in known]
    return "\n".join(kept) + begin + objects


def split_entries(lines: Sequence[str], schemas: Sequence[str]) -> tuple[list[str], list[str]]:
    """Lines of an archive's list: those to restore before the data of ``schemas``, and those after it.

    An entry reads ``17; 2606 16390 FK CONSTRAINT b0000 flights flights_fk owner``; names may hold spaces, and are not
    quoted. Guards of this very migration stand on the source's tables when it is dumped again after a crash: left out.
    """
    entries = {line: line.split(" ", 3)[3] for line in lines if line and not line.startswith(";")}
    told = set(entries.values())
    comments = tuple(
        f"COMMENT {schema} {kind} " for schema in schemas for kind in ("INDEX", "CONSTRAINT", "TRIGGER")
    )

    def is_ours(entry: str) -> bool:
        return entry.startswith("TRIGGER ") and any(f" {name} " in entry for name in _OURS)

    def is_after(entry: str) -> bool:
        if entry.startswith(_ATTACH):  # the index is an entry by itself, unless it came with its constraint
            return f"INDEX {entry.removeprefix(_ATTACH)}" in told
        return entry.startswith((*(f"{kind} " for kind in AFTER_DATA), *comments))

    before, after = (
        [line for line, entry in entries.items() if not is_ours(entry) and is_after(entry) == wanted]
        for wanted in (False, True)
    )
    return before, after


def _run(program: Path, arguments: list[str], conninfo: str | None, application: str) -> str:
    """Run it on that server, or on none (None); returns what it says."""
    tool = program.name
    server = "no server" if conninfo is None else server_name(conninfo)
    # The interval lets the server notice within half a second that the tool is gone; no server on Windows has it.
    options = "-c lock_timeout=5s -c client_connection_check_interval=500ms"
    with passwords.for_child(conninfo) as login:
        database = [] if login.conninfo is None else [f"--dbname={login.conninfo}"]
        try:
            done = subprocess.run(
                [str(program), *database, *arguments],
                env={**login.environment, "PGOPTIONS": options, "PGAPPNAME": application},
                pass_fds=login.files, check=False, capture_output=True, encoding="utf-8", errors="replace",
                timeout=600, preexec_fn=_dies_with(os.getpid()),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ForeshardError(f"{tool} on {server} took more than 10 minutes.") from error
    if done.returncode:
        raise ForeshardError(
            f"{tool} on {server} failed: {done.stderr.strip()[-800:]}",
            remedy="Its own words say what is missing; nothing was left half done on the target.",
        )
    return done.stdout
