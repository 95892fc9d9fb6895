"""Rows by way of the runner: ranges of blocks in one snapshot, several at a time, and what was copied stays copied.

The stream begins where the snapshot ends: the slot that exports it keeps every later change until the subscription,
created when everything is there, reads them. So nothing is applied while rows are copied, and tables need no keys yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from psycopg import errors

from foreshard.errors import ForeshardError, IllegalTransition
from foreshard.migration import failpoint
from foreshard.migration.copying import crew
from foreshard.migration.copying.pace import Pace
from foreshard.migration.copying.result import Copied
from foreshard.migration.copying.utilisation import SourceUse
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Part, Progress, Report
from foreshard.migration.work import Work
from foreshard.postgres import (
    block_ranges,
    copy_pipe,
    copy_snapshot,
    guard,
    publications,
    replication_slots,
    schema_copy,
    subscriptions,
)
from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.copy_journal import Chunk, Copying, CopyJournal

SLOT_PATIENCE_S = 60.0
LOOK_S = 0.25
PROLONG_S = 10.0
FOLLOW_S = 1.0


def copy(work: Work, source: Connection, target: Connection, report: Report) -> Copied:
    """Copy all rows, or what an earlier runner has left of them.

    Raises:
        LeaseLost: another runner has begun the copy anew.
        OutOfHeadroom: a server keeps too much WAL for this migration, or has too little disk left.
        ForeshardError: a row could not be copied, or the slot not be made.
    """
    journal = CopyJournal(work.names)
    journal.create(target)
    copying = journal.copying(target)
    again = copying is not None
    if copying is None or not _can_go_on(work, source, copying):
        report(Progress("slot and snapshot", 0, 1, "slots"))  # it may have to wait for writers
        _begin(work, source, target, journal, copying)
    chunks = journal.chunks(target)
    run = _Run(work, journal, chunks, block_ranges.columns(source, work.buckets, list(work.tables)))
    started = time.monotonic()
    if any(chunk.rows is None for chunk in chunks):
        with _pipe(work, source, target, journal) as pipe:
            _copy_chunks(run, pipe, source, report)
    journal.finish(target)
    copying = journal.copying(target)
    if copying is None or not copying.finished:
        raise ForeshardError("Some chunks were not copied.", remedy="Resume the migration.")
    copy_snapshot.release(source, work.names)
    report(run.tally.progress(None))
    return Copied(
        bytes=sum(chunk.range.bytes for chunk in chunks),
        rows=sum(chunk.rows or 0 for chunk in journal.chunks(target)),
        seconds=time.monotonic() - started,
        throttled_s=run.pace.waited_s / work.settings.copy_workers,
        interrupted=again,
    )


def _can_go_on(work: Work, source: Connection, copying: Copying) -> bool:
    """Whether what was copied is of use still: the stream has its slot, and all is there or the snapshot lives."""
    if not replication_slots.serves(source, work.names.forward):
        return False
    return copying.finished or copy_snapshot.lives(source, work.names, copying.snapshot)


def _begin(
    work: Work, source: Connection, target: Connection, journal: CopyJournal, before: Copying | None
) -> None:
    """Slot and snapshot; the target's tables are empty."""
    state = guard.state(target, work.names)
    if state is None or state.bound or subscriptions.health(target, work.names.forward) is not None:
        raise IllegalTransition(
            f"{work.target.name} is not to be copied to any more: it owns keys, or applies changes.",
            remedy="Abort the migration.",
        )
    if before is not None and before.finished:
        raise IllegalTransition(
            f"Slot {work.names.forward} on {work.source.name} was lost after everything was copied.",
            remedy="Abort the migration and begin again: the source loses nothing.",
        )
    copy_snapshot.release(source, work.names)
    work.store.record_resource(work.lease, work.source.name, "slot", work.names.forward)
    subscriptions.drop_orphaned_slot(target, source, work.names.forward)
    tables = [(bucket, table) for bucket in work.buckets for table in work.tables]
    # Before the slot: of a table that is published later, changes made before that are never sent.
    publications.add(source, work.names, tables)
    snapshot = copy_snapshot.create_with_slot(
        source, work.source.dsn, work.names, work.names.forward, SLOT_PATIENCE_S
    )
    leaves = block_ranges.leaves(source, work.buckets, list(work.tables))
    targets = [table for table, _ in guard.tables_of(work.buckets, work.tables)]
    ranges = block_ranges.in_order(leaves, block_ranges.CHUNK_BYTES)
    try:
        journal.begin(target, before, snapshot, ranges, targets)
    except errors.QueryCanceled as error:
        raise ForeshardError(
            f"The tables on {work.target.name} could not be emptied: somebody uses the copy.",
            remedy="End the transactions that look at it there, then resume.",
        ) from error


@dataclass
class _Tally:
    """What the workers have done, told to whoever watches. ``present``: wire bytes of chunks under way."""

    chunks: Sequence[Chunk]
    done: dict[int, int] = field(default_factory=dict)
    present: dict[int, int] = field(default_factory=dict)
    wire_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.done = {chunk.number: chunk.rows for chunk in self.chunks if chunk.rows is not None}
        self.before = self._bytes()

    def passed(self, chunk: Chunk, size: int) -> None:
        with self.lock:
            self.present[chunk.number] = self.present.get(chunk.number, 0) + size
            self.wire_bytes += size

    def finished(self, chunk: Chunk, rows: int | None) -> None:
        with self.lock:
            self.present.pop(chunk.number, None)
            self.done[chunk.number] = rows or 0

    def progress(self, elapsed_s: float | None) -> Progress:
        """Bytes on the source's disk; of a chunk under way at most as much as it has."""
        with self.lock:
            tables: dict[str, list[float]] = {}
            for chunk in self.chunks:
                leaf, size = chunk.range.leaf, chunk.range.bytes
                row = tables.setdefault(f"{leaf.bucket}.{leaf.table}", [0, 0, 0])
                row[0] += self._done(chunk)
                row[1] += size
                row[2] += self.done.get(chunk.number, 0)
            here = self._bytes()
        rate = (here - self.before) / elapsed_s if elapsed_s else None
        return Progress(
            "rows", here, sum(chunk.range.bytes for chunk in self.chunks), "bytes", rate or None,
            tuple(Part(name, done, total, int(rows)) for name, (done, total, rows) in tables.items()),
        )  # fmt: skip

    def _done(self, chunk: Chunk) -> int:
        size = chunk.range.bytes
        return size if chunk.number in self.done else min(self.present.get(chunk.number, 0), size)

    def _bytes(self) -> int:
        return sum(self._done(chunk) for chunk in self.chunks)


class _Run:
    """One runner's part of a copy."""

    def __init__(
        self,
        work: Work,
        journal: CopyJournal,
        chunks: Sequence[Chunk],
        columns: dict[tuple[str, str], list[str]],
    ) -> None:
        self.work, self.journal, self.columns = work, journal, columns
        self.tally = _Tally(chunks)
        self.pace = Pace(work.settings.backfill_max_bytes_per_s, time.monotonic)

    def work_off(self, pipe: copy_pipe.CopyPipe, queue: crew.Queue[Chunk]) -> None:
        """A worker: chunk after chunk, each in a transaction of its own."""
        work = self.work
        with connect(work.target.dsn, application=work.session_name) as target:
            copy_pipe.prepare_target(target)
            self.journal.allow_writes(target)
            for chunk in queue:
                self._one(chunk, pipe, target, queue.stopped)

    def _one(
        self, chunk: Chunk, pipe: copy_pipe.CopyPipe, target: Connection, stopped: threading.Event
    ) -> None:
        def passed(size: int) -> None:
            self.tally.passed(chunk, size)
            if stopped.wait(self.pace.wait_s(size)):
                raise ForeshardError("The copy was stopped.")

        leaf, rows = chunk.range.leaf, None
        with target.transaction():
            if self.journal.claim(target, chunk):
                rows = pipe.copy(chunk.range, self.columns[leaf.bucket, leaf.table], target, passed)
                self.journal.copied(target, chunk, rows)
        self.tally.finished(chunk, rows)
        if len(self.tally.done) >= len(self.tally.chunks) // 2:
            failpoint.hit("backfill", self.work.state_dir)


@contextmanager
def _pipe(
    work: Work, source: Connection, target: Connection, journal: CopyJournal
) -> Iterator[copy_pipe.CopyPipe]:
    copying = journal.copying(target)
    assert copying is not None  # _begin made it, or an earlier runner
    yield copy_pipe.CopyPipe(
        schema_copy.tools_between(source, target),
        work.source.dsn,
        copying.snapshot.name,
        binary=not subscriptions.not_binary(source, work.names),
        encoding=str(source.info.parameter_status("server_encoding")),
        application=work.session_name,
    )


def _copy_chunks(run: _Run, pipe: copy_pipe.CopyPipe, source: Connection, report: Report) -> None:
    """Workers copy; this thread watches over them: room, pace, the snapshot's life, progress."""
    work = run.work
    waiting = [chunk for chunk in run.tally.chunks if chunk.rows is None]
    headroom, use = HeadroomWatch(work), SourceUse(work)
    use.begin(run.pace)
    started = prolonged = followed = time.monotonic()
    passed = 0

    def watch() -> None:
        nonlocal prolonged, followed, passed
        headroom.look(report)
        now = time.monotonic()
        if now - prolonged > PROLONG_S:
            copy_snapshot.prolong(source, work.names)
            prolonged = now
        if now - followed > FOLLOW_S:
            use.follow(run.pace, (run.tally.wire_bytes - passed) / (now - followed))
            followed, passed = now, run.tally.wire_bytes
        report(run.tally.progress(now - started))

    count = min(work.settings.copy_workers, len(waiting))
    crew.work_off(waiting, count, partial(run.work_off, pipe), watch, LOOK_S)
