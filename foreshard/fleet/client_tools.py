"""Which installation's pg_dump, pg_restore and psql copy definitions from one server to another.

pg_dump refuses a server that is newer than itself, and what it writes is meant for servers of its own version and
newer ones. So: the oldest that knows both servers; where none knows the target, the newest that knows the source.
"""

from __future__ import annotations

from collections.abc import Sequence

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import PostgresBinaries, places, version_of

PROGRAMS = ("pg_dump", "pg_restore", "psql")


def tools_for(source: int, target: int) -> PostgresBinaries:
    """The tools for a copy from a server of major version ``source`` to one of ``target``.

    Raises:
        ForeshardError: none that is installed can read the source.
    """
    return choose(installed(), source, target)


def installed() -> list[PostgresBinaries]:
    """Every installation with all the tools, as a whole or as a package of client programs."""
    found = []
    for bin_dir in dict.fromkeys(place.resolve() for place in places()):
        versions = {version_of(bin_dir, program) for program in PROGRAMS}
        if len(versions) == 1 and (version := versions.pop()) is not None:
            found.append(PostgresBinaries(bin_dir, version))
    return found


def choose(having: Sequence[PostgresBinaries], source: int, target: int) -> PostgresBinaries:
    """The rule. Of two with the same major version the first one."""
    reading = sorted((tools for tools in having if tools.major >= source), key=lambda tools: tools.major)
    if not reading:
        there = ", ".join(tools.version for tools in having) or "none"
        raise ForeshardError(
            f"No pg_dump here can read PostgreSQL {source} (installed: {there}).",
            remedy=f"Install the client programs of PostgreSQL {max(source, target)}, or name their directory in"
            f" FORESHARD_PG{max(source, target)}_BIN.",
        )
    newest = reading[-1].major
    return next(tools for tools in reading if tools.major >= target or tools.major == newest)
