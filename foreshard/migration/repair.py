"""Re-copies rows that differ from their owner to the other side, while both are written and the migration goes on.

Each batch of rows, on the side that owns them and on the side that is mended:

1. the owner's exclusive fence lock: nobody writes there, and no flip takes the rows away;
2. a marker: all that the owner ever accepted for them has been applied on the other side;
3. there, in a session that flows back nowhere (`foreshard.postgres.repair_session`), a lock on the table;
4. the rows are read again on both sides; those that differ still are written as the owner has them, and committed.

The table's lock keeps 4 right even if the owner's lock is lost half-way (a server ends a session that says nothing):
what is written at the owner from then on is applied behind that lock, after our commit, and the marker of a flip behind
that.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby

import psycopg
from psycopg import errors, sql

from foreshard.control.repair_store import RepairStore, Target
from foreshard.errors import FailedOver, InvalidInput
from foreshard.migration.bystander import require_comparable
from foreshard.migration.comparison import patience_s
from foreshard.migration.difference import Difference, owner_of
from foreshard.migration.work import Work
from foreshard.postgres import guard
from foreshard.postgres.connect import Connection
from foreshard.postgres.fence import MARKER_PATIENCE_S
from foreshard.postgres.guard import Side
from foreshard.postgres.keyed_rows import KeyedRow, KeyedRows, keyed_rows
from foreshard.postgres.last_word import Key
from foreshard.postgres.marker import MarkerLine
from foreshard.postgres.names import FENCE_CLASS
from foreshard.postgres.pair import Sides, pinned_session
from foreshard.postgres.repair_session import repair_session, require_rights

ROWS_AT_ONCE = 50
"""Writers of the migration's buckets wait while a batch is mended: some milliseconds."""

ATTEMPTS = 20
LONGEST_SILENCE_MS = 2000
"""A server itself ends a session that holds a lock and says nothing for so long: its process may be stopped."""

REFUSALS = (errors.IntegrityError, errors.DataError, errors.InsufficientPrivilege, errors.FeatureNotSupported)
"""What the copy's server says to rows that it does not take."""

INSERTED, UPDATED, DELETED, EQUAL, LEFT = "inserted", "updated", "deleted", "equal", "left"


@dataclass(frozen=True)
class RowOutcome:
    """What became of one row: inserted, updated, deleted, equal (nothing was left to do) or left, and why.

    ``refused``: by a constraint, together with the rows of its batch.
    """

    difference: Difference
    what: str
    why: str = ""
    refused: bool = False


@dataclass(frozen=True)
class _Place:
    """A table on the side that is mended."""

    into: Side
    bucket: str
    table: str


class Repair:
    """One repair of one migration, by a person's word. ``said_by`` is kept with every row.

    Raises `InvalidInput` if nobody says so.
    """

    def __init__(self, work: Work, store: RepairStore, said_by: str) -> None:
        if not said_by.strip():
            raise InvalidInput("--as", "is empty.", remedy="Say who decides.")
        self._work, self._store, self._said_by = work, store, said_by.strip()

    def require_rights(self) -> None:
        """On both shards, before a person is asked.

        Raises:
            ForeshardError: our role lacks one; nothing is written without it.
        """
        for shard in (self._work.source, self._work.target):
            with pinned_session(shard.dsn) as session:
                require_rights(session, shard.dsn)

    def run(
        self, rows: Sequence[Difference], done: Callable[[int], None] = lambda _: None
    ) -> list[RowOutcome]:
        """Mend these rows; ``done`` is told how many of them after each batch. Safe to run again after any failure.

        Raises:
            ForeshardError: a right is missing, another repair is under way, or the migration has gone too far.
            FlipFailed: the stream from the owner does not apply.
            ShardUnavailable, psycopg.OperationalError: a shard went away; what was mended until then stays so.
        """
        require_comparable(self._work)
        number = self._store.begin(self._work.lease.migration, self._said_by)
        outcomes = [RowOutcome(row, LEFT, _why_left(row)) for row in rows if _why_left(row)]
        mendable = sorted((row for row in rows if not _why_left(row)), key=_place_of_row)
        for (into, bucket, table), group in groupby(mendable, key=_place_of_row):
            place = _Place(Side(into), bucket, table)
            outcomes += self._mend_table(number, place, list(group), done)
        return outcomes

    def _mend_table(
        self, number: int, place: _Place, rows: list[Difference], done: Callable[[int], None]
    ) -> list[RowOutcome]:
        outcomes: list[RowOutcome] = []
        refused: list[Difference] = []
        with _Ends.opened(self._work, place) as ends:
            for start in range(0, len(rows), ROWS_AT_ONCE):
                batch = rows[start : start + ROWS_AT_ONCE]
                found = self._mend(number, place, ends, batch)
                if len(rows) > 1 and any(one.refused for one in found):
                    # One is in the way of another, perhaps of a later batch's: each by itself, when those are done.
                    refused += batch
                    continue
                outcomes += found
                done(len(batch))
            for row in refused:
                outcomes += self._mend(number, place, ends, [row])
                done(1)
        return outcomes

    def _mend(self, number: int, place: _Place, ends: _Ends, batch: Sequence[Difference]) -> list[RowOutcome]:
        target = Target(self._work.shard(place.into).name, place.bucket, place.table)
        self._store.note(number, target, "intended", [row.key for row in batch])
        found = ends.mend({row.row: row for row in batch})
        for (what, why), group in groupby(
            sorted(found, key=lambda one: (one.what, one.why)), key=lambda one: (one.what, one.why)
        ):
            self._store.note(number, target, what, [one.difference.key for one in group], why)
        return found


class _Ends:
    """The two servers of a repair of one table."""

    def __init__(
        self,
        work: Work,
        place: _Place,
        reader: Connection,
        writer: Connection,
        line: MarkerLine,
        table: KeyedRows,
    ) -> None:
        self._work, self._into = work, place.into
        self._reader, self._writer, self._line, self._table = reader, writer, line, table

    @classmethod
    @contextmanager
    def opened(cls, work: Work, place: _Place) -> Iterator[_Ends]:
        """Closed at the end."""
        with ExitStack() as stack:
            reader = stack.enter_context(pinned_session(work.shard(place.into.other).dsn))
            writer = stack.enter_context(repair_session(work.shard(place.into).dsn, work.names))
            line = stack.enter_context(work.marker_line(place.into.other))
            sides = Sides(reader, writer) if place.into is Side.TARGET else Sides(writer, reader)
            table = keyed_rows(sides, place.bucket, place.table, work.tables[place.table], work.key_type)
            yield cls(work, place, reader, writer, line, table)

    def mend(self, rows: dict[Key, Difference]) -> list[RowOutcome]:
        """All of them in one transaction, or none."""
        patience = patience_s(self._work)
        for attempt in range(1, ATTEMPTS + 1):
            self._line.drain(patience)  # nobody waits meanwhile
            guard.wait_for_fence(self._reader, self._work.settings.lock_timeout_ms, attempt)
            guard.wait_for_fence(self._writer, self._work.settings.lock_timeout_ms, attempt)
            try:
                with self._reader.transaction():
                    _watched(self._reader)
                    self._reader.execute(
                        "SELECT pg_advisory_xact_lock(%s, %s)", (FENCE_CLASS, self._work.names.number)
                    )
                    if self._line.applied(self._line.send(), MARKER_PATIENCE_S):
                        with self._writer.transaction():
                            _watched(self._writer)
                            self._table.lock(self._writer)
                            return self._write(rows)
            except (errors.LockNotAvailable, errors.DeadlockDetected):
                pass  # somebody's transaction is long
            except REFUSALS as refused:
                why = _in_words(refused)
                return [RowOutcome(row, LEFT, why, refused=True) for row in rows.values()]
            time.sleep(random.uniform(0.5, 1.5) * self._work.settings.lock_timeout_ms / 1000)
        return [
            RowOutcome(row, LEFT, "its writers did not pause, or the stream is behind")
            for row in rows.values()
        ]

    def _write(self, rows: dict[Key, Difference]) -> list[RowOutcome]:
        state = guard.state(self._reader, self._work.names)
        if state is None or not (state.same_system and state.same_timeline):
            raise FailedOver(
                f"{self._work.shard(self._into.other).name} is not the server any more that owned these rows.",
                remedy="Resume the migration, or wait for the janitor, then try again.",
            )
        owned = self._table.read(self._reader, list(rows))
        copied = self._table.read(self._writer, list(rows))
        outcomes = [
            self._outcome(row, owned.get(key), copied.get(key), state.bound) for key, row in rows.items()
        ]
        wrong = [one.difference.row for one in outcomes if one.what in (INSERTED, UPDATED, DELETED)]
        if wrong:
            self._table.rewrite(self._reader, self._writer, wrong)
        return outcomes

    def _outcome(
        self, row: Difference, owned: KeyedRow | None, copied: KeyedRow | None, bound: int
    ) -> RowOutcome:
        there = [one for one in (owned, copied) if one is not None]
        if not there or (owned is not None and copied is not None and owned.digests == copied.digests):
            return RowOutcome(row, EQUAL)
        if owner_of([one.slot for one in there], bound) is not self._into.other:
            return RowOutcome(row, LEFT, "it has another owner by now")
        if owned is None:
            return RowOutcome(row, DELETED)
        return RowOutcome(row, INSERTED if copied is None else UPDATED)


def _place_of_row(row: Difference) -> tuple[str, str, str]:
    assert row.owner is not None  # those without one are left
    return row.owner.other.value, row.bucket, row.table


def _why_left(row: Difference) -> str:
    if not row.row:
        return "its table has no key: write it by hand, in a session with a replication origin"
    if row.owner is None:
        return "its copies disagree about the distribution key, and so about their owner: decide by hand"
    return ""


def _watched(session: Connection) -> None:
    """The server ends the transaction if nothing more is heard of it: it holds a lock that others wait for."""
    session.execute(
        sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}").format(sql.Literal(LONGEST_SILENCE_MS))
    )


def _in_words(refused: psycopg.Error) -> str:
    """Without the values that the server's own words may hold."""
    name = refused.diag.constraint_name or refused.diag.column_name or ""
    return f"the server refused it: {type(refused).__name__} {name}".rstrip()
