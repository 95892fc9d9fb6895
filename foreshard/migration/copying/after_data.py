"""Keys, indexes, foreign keys, triggers: made after the data, several at a time, and each once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby

from psycopg import errors

from foreshard.migration.copying import crew
from foreshard.migration.copying.method import Method
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Part, Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres import preflight_queries, schema_copy
from foreshard.postgres.connect import NOTICE_OUR_END, Connection, connect, sql_file
from foreshard.postgres.copy_journal import CopyJournal
from foreshard.postgres.definitions import Definition
from foreshard.postgres.schema_copy import SchemaCopy

DEADLOCKS = 5
"""Two foreign keys may lock the same two tables in opposite orders; the one that gives way tries again."""

LOOK_S = 0.5


def archive(work: Work, source: Connection, target: Connection, method: Method) -> SchemaCopy:
    """The archive of the buckets' definitions, as it is divided for this method."""
    return schema_copy.between(
        source, target, work.buckets, work.archive, work.session_name, keys_late=method is Method.PIPE
    )


def missing(work: Work, source: Connection, target: Connection) -> bool:
    """Whether anything of it is not there yet."""
    wanted, there = (preflight_queries.secondary_objects(conn, work.buckets) for conn in (source, target))
    return bool(wanted - there)


def make(work: Work, source: Connection, target: Connection, method: Method, report: Report) -> None:
    """Make what is missing, phase after phase.

    Nothing may be applied to the tables meanwhile: a foreign key and the apply worker would lock two of them in
    opposite orders. So what changes on the source waits in its WAL.

    Raises:
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
        psycopg.Error: a definition cannot be made: what was copied does not satisfy it.
    """
    copy = archive(work, source, target, method)
    if not work.archive.exists():  # prepared on another machine
        copy.dump(work.source.dsn)
    journal = CopyJournal(work.names)
    journal.create(target)
    made = journal.made(target)
    wanted = sorted(copy.after_data(), key=lambda one: one.phase)
    makers, headroom = _Makers(work, journal, wanted, made), HeadroomWatch(work)

    def watch() -> None:
        headroom.look(report)
        report(makers.progress(_under_way(target)))

    for _, phase in groupby(wanted, key=lambda one: one.phase):
        left = [one for one in phase if one.label not in made]
        if left:
            workers = min(work.settings.copy_workers, len(left))
            # All together as many processes as there may be workers: what is made alone gets help.
            at_work = partial(makers.work_off, helpers=work.settings.copy_workers // workers - 1)
            crew.work_off(left, workers, at_work, watch, LOOK_S)
    report(makers.progress({}))


class _Makers:
    """Workers that make definitions, and what they are at."""

    def __init__(
        self, work: Work, journal: CopyJournal, wanted: Sequence[Definition], made: set[str]
    ) -> None:
        self._work, self._journal, self._wanted = work, journal, wanted
        self._made = set(made)
        self._at: dict[int, str] = {}

    def work_off(self, queue: crew.Queue[Definition], *, helpers: int) -> None:
        """A worker: one definition after another, each in a transaction of its own.

        ``helpers``: parallel workers that PostgreSQL may take for one.
        """
        with connect(self._work.target.dsn, application=self._work.session_name) as conn:
            queue.on_stop(conn.cancel_safe)
            conn.execute("SET search_path = ''")  # as in the script: what a definition names is qualified
            conn.execute("SET synchronous_commit = off")
            conn.execute(NOTICE_OUR_END)
            memory = self._work.settings.index_memory_bytes // 1024
            conn.execute("SELECT set_config('maintenance_work_mem', %s, false)", (f"{memory}kB",))
            conn.execute(f"SET max_parallel_maintenance_workers = {helpers}".encode())
            for one in queue:
                self._at[conn.info.backend_pid] = one.label
                self._make(conn, one)
                self._made.add(one.label)
                del self._at[conn.info.backend_pid]

    def _make(self, conn: Connection, one: Definition) -> None:
        for attempt in range(1, DEADLOCKS + 1):
            try:
                with conn.transaction():
                    self._journal.note_made(conn, one.label)
                    conn.execute(one.statements.encode())
                return
            except errors.UniqueViolation as error:
                if error.diag.table_name == "made":
                    return  # by another runner
                raise
            except errors.DeadlockDetected:
                if attempt == DEADLOCKS:
                    raise

    def progress(self, under_way: dict[int, float]) -> Progress:
        """``under_way``: how much of the index that a session builds is done, by the session's pid."""
        shares = {label: under_way.get(pid, 0.0) for pid, label in list(self._at.items())}
        parts = [
            Part(one.label, 1.0 if one.label in self._made else shares.get(one.label, 0.0), 1.0)
            for one in self._wanted
        ]
        done = sum(part.done for part in parts)
        return Progress("keys, indexes and triggers", done, len(parts), "objects", parts=tuple(parts))


def _under_way(target: Connection) -> dict[int, float]:
    """Share of each index build of this server that is done, by pid."""
    return {pid: float(share) for pid, share in target.execute(sql_file("index_progress.sql"))}
