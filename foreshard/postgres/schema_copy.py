"""Copy of a bucket's schema: by pg_dump and pg_restore, in two parts around the copy of the data.

Before the data: schemas, types, functions, tables, sequences, defaults and grants. After it: indexes, foreign keys and
triggers, which would slow the copy down (52 MB/s against 20, DESIGN section 5). Keys stand on either side of it: where
changes are applied while tables are being copied, their rows are found by keys; where not, keys come after the data.

A partitioned table's key is valid only when the keys of all its partitions have been attached to it: together with
keys. Of an index that backs no constraint the parts are attached after the data.

The servers may be of different versions. pg_restore writes a script and psql runs it: connected to an older server
than itself, pg_restore stops at its own first lines, which set what that server does not know.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreshard.fleet.binaries import PostgresBinaries
from foreshard.fleet.client_tools import tools_for
from foreshard.postgres import client_program
from foreshard.postgres.connect import Connection
from foreshard.postgres.definitions import Definition, definitions
from foreshard.postgres.names import GUARD_TRIGGER, TRUNCATE_TRIGGER

KEY = "CONSTRAINT"
"""Kind of the archive entries of primary keys, unique and exclusion constraints."""

AFTER_DATA = ("INDEX", "FK CONSTRAINT", "TRIGGER")
"""Kinds of archive entries that are restored after the data in any case; comments on them too."""

_NEED_NO_KEY = (
    *(
        KEY,
        *AFTER_DATA,
        "INDEX ATTACH",
        "TABLE ATTACH",
        "CHECK CONSTRAINT",
        "STATISTICS",
        "POLICY",
        "ROW SECURITY",
    ),
    *("ACL", "DEFAULT ACL", "COMMENT", "SECURITY LABEL", "SEQUENCE SET"),
)
"""What pg_dump may list after a key without meaning that it needs one, as a view grouped by a primary key does."""

_ATTACH = "INDEX ATTACH "
_OURS = (GUARD_TRIGGER, TRUNCATE_TRIGGER)

_SET = re.compile(r"SET (\w+) = ")


@dataclass(frozen=True)
class SchemaCopy:
    """A copy of the definitions of ``schemas`` by way of the file ``archive``.

    ``application``: what its sessions on servers are called. ``keys_late``: keys come after the data, unless something
    that comes before it needs one.
    """

    tools: PostgresBinaries
    schemas: Sequence[str]
    archive: Path
    application: str
    keys_late: bool = False

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

    def restore_before_data(self, target: Connection, conninfo: str, *, ending: str) -> None:
        """Create everything of the archive that comes before the data, in one transaction that ends with ``ending``.

        ``conninfo`` leads to the same server as ``target``.
        """
        self._play("before", self._entries()[0], target, conninfo, ending)

    def after_data(self) -> list[Definition]:
        """What comes after the data, to be created one by one."""
        entries = self._entries()[1]
        if not entries:
            return []
        return definitions(self._script("after", entries), len(entries))

    def rehearse(self, target: Connection, conninfo: str) -> None:
        """Create everything of the archive, and take it back. Raises `ForeshardError` with the server's words."""
        before, after = self._entries()
        self._play("rehearsal", [*before, *after], target, conninfo, ending="ROLLBACK;\n")

    def _entries(self) -> tuple[list[str], list[str]]:
        lines = self._run("pg_restore", ["--list", str(self.archive)]).split("\n")
        return split_entries(lines, self.schemas, keys_late=self.keys_late)

    def _play(
        self, part: str, entries: Sequence[str], target: Connection, conninfo: str, ending: str = ""
    ) -> None:
        """Those entries of the archive as SQL that the target's version takes, run there in one transaction."""
        if not entries:
            return
        known = {name for (name,) in target.execute("SELECT name FROM pg_settings")}
        statements = without_unknown(self._script(part, entries), known)
        script = self._file(part, "sql")
        with script.open("w", encoding="utf-8", newline="") as file:
            file.write(f"{statements}\n{ending}")
        options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
        self._run("psql", [*options, f"--file={script}"], conninfo)

    def _script(self, part: str, entries: Sequence[str]) -> str:
        """Those entries of the archive as pg_restore's script."""
        listing, script = self._file(part, "list"), self._file(part, "sql")
        listing.write_text("\n".join(entries) + "\n", encoding="utf-8")
        self._run("pg_restore", [f"--use-list={listing}", f"--file={script}", str(self.archive)])
        with script.open(encoding="utf-8", newline="") as file:  # definitions may hold line ends of their own
            return file.read()

    def _file(self, part: str, kind: str) -> Path:
        return self.archive.with_suffix(f".{part}.{kind}")

    def _run(self, tool: str, arguments: list[str], conninfo: str | None = None) -> str:
        return client_program.run(self.tools.tool(tool), arguments, conninfo, self.application)


def between(
    source: Connection,
    target: Connection,
    schemas: Sequence[str],
    archive: Path,
    application: str,
    *,
    keys_late: bool = False,
) -> SchemaCopy:
    """A copy by the tools that suit both servers. Raises `ForeshardError` if none can read the source."""
    return SchemaCopy(tools_between(source, target), schemas, archive, application, keys_late)


def tools_between(source: Connection, target: Connection) -> PostgresBinaries:
    """The client programs that suit both servers. Raises `ForeshardError` if none can read the source."""
    return tools_for(source.info.server_version // 10000, target.info.server_version // 10000)


def without_unknown(script: str, known: Collection[str]) -> str:
    """``script`` without the settings of its preamble that a server does not know; it has only the ``known`` ones.

    The preamble ends where the first object begins; behind it the same words may stand in a function's body.
    """
    preamble, begin, objects = script.partition("\n-- Name: ")
    lines = preamble.split("\n")
    kept = [line for line in lines if (found := _SET.match(line)) is None or found[1] in known]
    return "\n".join(kept) + begin + objects


def split_entries(
    lines: Sequence[str], schemas: Sequence[str], *, keys_late: bool = False
) -> tuple[list[str], list[str]]:
    """Lines of an archive's list: those to restore before the data of ``schemas``, and those after it.

    ``keys_late``: keys after it, if nothing else that pg_dump lists behind a key could need one.

    An entry reads ``17; 2606 16390 FK CONSTRAINT b0000 flights flights_fk owner``; names may hold spaces, and are not
    quoted. Guards of this very migration stand on the source's tables when it is dumped again after a crash: left out.
    """
    entries = {line: line.split(" ", 3)[3] for line in lines if line and not line.startswith(";")}
    told = set(entries.values())
    late = (*AFTER_DATA, KEY) if keys_late and _keys_can_wait(list(entries.values())) else AFTER_DATA
    comments = tuple(
        f"COMMENT {schema} {kind} " for schema in schemas for kind in ("INDEX", "CONSTRAINT", "TRIGGER")
    )

    def is_ours(entry: str) -> bool:
        return entry.startswith("TRIGGER ") and any(f" {name} " in entry for name in _OURS)

    def is_after(entry: str) -> bool:
        if entry.startswith(_ATTACH):  # the index is an entry by itself, unless it came with its constraint
            return KEY in late or f"INDEX {entry.removeprefix(_ATTACH)}" in told
        return entry.startswith((*(f"{kind} " for kind in late), *comments))

    before, after = (
        [line for line, entry in entries.items() if not is_ours(entry) and is_after(entry) == wanted]
        for wanted in (False, True)
    )
    return before, after


def _keys_can_wait(entries: Sequence[str]) -> bool:
    first = next(
        (number for number, entry in enumerate(entries) if entry.startswith(f"{KEY} ")), len(entries)
    )
    return all(entry.startswith(tuple(f"{kind} " for kind in _NEED_NO_KEY)) for entry in entries[first:])
