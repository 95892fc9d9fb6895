"""Sessions on both sides that all read as of one moment: one snapshot a side, taken within about a millisecond."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from typing import TypeVar

import psycopg
from psycopg import sql

from foreshard.postgres.connect import Connection
from foreshard.postgres.pair import Sides, pinned_session

T = TypeVar("T")


class SideSessions:
    """The sessions of one side, each used by one thread at a time."""

    def __init__(self, sessions: list[Connection], threads: ThreadPoolExecutor) -> None:
        self.sessions = sessions
        self._threads = threads
        self._free: SimpleQueue[Connection] = SimpleQueue()
        for session in sessions:
            self._free.put(session)

    def start(self, read: Callable[[Connection], T]) -> Future[T]:
        """``read`` with the next session that is free, in the order of the calls."""
        return self._threads.submit(self._run, read)

    def _run(self, read: Callable[[Connection], T]) -> T:
        session = self._free.get()
        try:
            return read(session)
        finally:
            self._free.put(session)


class SnapshotPair(Sides[SideSessions]):
    """The sessions of both sides."""

    def both(self, read: Callable[[Connection], T]) -> Sides[T]:
        """``read`` run once on each side, at once. Raises what either of them raises."""
        running = self.source.start(read), self.target.start(read)
        for one in running:
            one.exception()  # never leave a session busy behind an error of the other one
        return Sides(running[0].result(), running[1].result())

    def cancel(self) -> None:
        """End the statements that are running."""
        for session in (*self.source.sessions, *self.target.sessions):
            with suppress(psycopg.Error):  # its server may be gone, and the statement with it
                session.cancel_safe(timeout=5)

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Within the block all sessions read what was committed when it began.

        While it lasts neither server can clean up rows that died since (its xmin stands): keep it short.
        """
        with ExitStack() as transactions:
            for session in (*self.source.sessions, *self.target.sessions):
                transactions.enter_context(session.transaction())
            exported = self.both(_export)  # the first statement of a transaction takes its snapshot
            for side, (leader, snapshot) in (
                (self.source, exported.source),
                (self.target, exported.target),
            ):
                for session in side.sessions:
                    if session is not leader:
                        session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            yield


def _export(session: Connection) -> tuple[Connection, str]:
    row = session.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return session, str(row[0])


@contextmanager
def open_snapshot_pair(source_conninfo: str, target_conninfo: str, workers: int) -> Iterator[SnapshotPair]:
    """``workers`` sessions on each side, closed at the end. Raises `ShardUnavailable`."""
    with ExitStack() as stack:

        def sessions(conninfo: str) -> SideSessions:
            threads = ThreadPoolExecutor(workers, thread_name_prefix="foreshard-digests")
            opened = [stack.enter_context(_session(conninfo)) for _ in range(workers)]
            stack.callback(threads.shutdown, cancel_futures=True)  # before the sessions are closed
            return SideSessions(opened, threads)

        yield SnapshotPair(sessions(source_conninfo), sessions(target_conninfo))


def _session(conninfo: str) -> Connection:
    session = pinned_session(conninfo)
    session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    session.read_only = True
    # The planner takes each key for a chunk of its own and would sort the table; there are few chunks.
    session.execute("SET enable_sort = off")
    return session
