"""Rows of one range of blocks, from the source's snapshot into the target, without looking at them.

psql reads the source: row by row, as the protocol gives them, takes Python twice the time of both servers together.
The target is written by a connection of ours, and not by another psql: that one would take the end of the pipe for the
end of the data, and commit what it has, when this process dies. Here the COPY ends, and its transaction commits, only
after psql has said that it is through.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from psycopg import sql

from foreshard.fleet.binaries import PostgresBinaries
from foreshard.postgres import client_program
from foreshard.postgres.block_ranges import BlockRange
from foreshard.postgres.connect import NOTICE_OUR_END, Connection
from foreshard.postgres.printing import PRINTING

PIPE_BYTES = 2**20
BLOCK_BYTES = 2**18

_SOURCE_SETTINGS = {
    **PRINTING,  # where rows travel as text
    "search_path": "pg_catalog",
    "row_security": "off",  # a policy that hides rows from us is an error, never fewer rows
    "statement_timeout": "0",
    "synchronize_seqscans": "off",
}


@dataclass(frozen=True)
class CopyPipe:
    """How ranges are read: ``snapshot`` on the server that ``conninfo`` leads to; ``binary`` or as text.

    ``encoding``: both databases', so that nothing is converted. ``application``: what the reading session is called.
    """

    tools: PostgresBinaries
    conninfo: str
    snapshot: str
    binary: bool
    encoding: str
    application: str

    def copy(
        self,
        part: BlockRange,
        columns: Sequence[str],
        target: Connection,
        passed: Callable[[int], None],
    ) -> int:
        """Copy all rows of ``part`` inside the transaction that is open on ``target``; returns how many.

        ``passed`` is told of each block's bytes on their way; it may wait, and what it raises ends the copy.

        Raises:
            ForeshardError: the source could not be read to the end; the transaction cannot be committed any more.
        """
        leaf = part.leaf
        names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
        form = sql.SQL("binary" if self.binary else "text")
        reading = sql.SQL("COPY (SELECT {} FROM ONLY {} WHERE {}) TO STDOUT (FORMAT {})").format(
            names, sql.Identifier(leaf.schema, leaf.name), _within(part), form
        )
        into = sql.Identifier(leaf.bucket, leaf.table)
        writing = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {}{})").format(
            into, names, form, sql.SQL(", FREEZE" if part.whole else "")
        )
        if (
            part.whole
        ):  # of a table that is emptied in the same transaction rows can be frozen, now and for ever
            target.execute(sql.SQL("TRUNCATE {}").format(into))
        settings = {**_SOURCE_SETTINGS, "client_encoding": self.encoding}
        arguments = [
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--command=BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            f"--command=SET TRANSACTION SNAPSHOT {sql.Literal(self.snapshot).as_string(target)}",
            f"--command={reading.as_string(target)}",
        ]
        psql = self.tools.tool("psql")
        with target.cursor() as cursor:
            with (
                cursor.copy(writing) as copy,
                # Innermost: leaving it says whether the source was read to its end, while the COPY can still be failed.
                client_program.output_of(
                    psql, arguments, self.conninfo, self.application, settings
                ) as output,
            ):
                _widen(output)
                while block := os.read(output.fileno(), BLOCK_BYTES):
                    passed(len(block))
                    copy.write(block)
            return cursor.rowcount


def prepare_target(target: Connection) -> None:
    """The settings of a session that `CopyPipe.copy` writes by."""
    target.execute(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
        (list(PRINTING), list(PRINTING.values())),
    )
    target.execute(NOTICE_OUR_END)
    # A crash that forgets rows forgets the journal's word of them, too: both are in one transaction.
    target.execute("SET synchronous_commit = off")
    target.execute("SELECT set_config('client_encoding', current_setting('server_encoding'), false)")


def _within(part: BlockRange) -> sql.Composable:
    first = sql.SQL("ctid >= {}").format(sql.Literal(f"({part.first},0)"))
    if part.end is None:
        return first
    return sql.SQL("{} AND ctid < {}").format(first, sql.Literal(f"({part.end},0)"))


def _widen(output: IO[bytes]) -> None:
    """A larger pipe means fewer turns between psql and us; only Linux can, and not beyond an account's limit."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(output.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
