"""Reads the query log of a shard from where an earlier reading stopped, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from foreshard.errors import InvalidInput
from foreshard.load.query_log.counting import Counting
from foreshard.load.query_log.file import Advance, Lines, LogFile
from foreshard.load.query_log.record import csv_records, json_records
from foreshard.load.sample import Sample

BATCH = 20_000
"""So many samples are stored at once."""
MOST_UNREADABLE = 0.05
MOST_BARE = 0.01
FUTURE = timedelta(minutes=5)
"""What a clock may be ahead."""

Position = Mapping[str, Any]
Store = Callable[[Sequence[Sample], Position], None]
"""Is given samples, and the position behind them. It must keep the samples before it keeps the position."""

_SETTINGS = "On the server: lc_messages = 'C', log_min_duration_statement = 0, log_duration = off (docs/query-logs.md)."


@dataclass
class Told:
    """What a reading found. ``bare``: durations without a statement; ``late``: statements of a minute told before."""

    records: int = 0
    counted: int = 0
    bare: int = 0
    late: int = 0
    unreadable: int = 0
    first_unreadable: str = ""
    unfinished: int = 0
    """Bytes of a last line that was still being written."""
    broken: list[str] = field(default_factory=list)
    """Compressed files that could not be read to their end. What follows them is left for the next reading."""
    skipped: int = 0
    """Files that earlier readings have read."""


@dataclass(frozen=True)
class Server:
    """Whose log it is: the shard, its database, the fleet's buckets and those that are placed on it."""

    shard: str
    database: str
    known: Collection[str]
    placed: Collection[str]


class Reading:
    """One run over ``files`` (`find_files`), from ``position`` if they go on from there.

    Where they hold a file that is older than all that was read, everything is read again: stored values win.
    """

    def __init__(
        self, server: Server, files: Sequence[LogFile], factor: float = 1.0, position: Position | None = None
    ) -> None:
        names = [log.fingerprint for log in files]
        goes_on = position is not None and position["file"] in names and files[0].first >= position["since"]
        self._start = position if goes_on else None
        self._before = position
        begin = names.index(position["file"]) if position is not None and goes_on else 0
        self._files = files[begin:]
        self._since: float = self._start["since"] if self._start else files[0].first
        self.told = Told(skipped=begin)
        self.bytes = sum(log.bytes for log in self._files)
        self.counting = Counting(
            server.shard, server.database, server.known, server.placed, factor,
            self._start["state"] if self._start else None,
        )  # fmt: skip

    def run(self, store: Store, advance: Advance = lambda _: None) -> Told:
        """Read to the end, and store as it goes.

        Raises:
            InvalidInput: too much of a file is unreadable, the log is in another language or lacks the statements,
                or it is ahead of the clock.
        """
        place = int(self._start["place"]) if self._start else 0
        for number, log in enumerate(self._files):
            if not self._read(log, place, store, advance, last=number == len(self._files) - 1):
                break
            place = 0
        self._check_statements()
        if self._start is None and not self.told.counted:
            raise InvalidInput(
                "FILES",
                f"hold {self.told.records:,} records and no statement with its duration that a client of this shard's "
                "database sent.",
                remedy=_SETTINGS,
            )
        self._flush(store)
        return self.told

    def _read(self, log: LogFile, place: int, store: Store, advance: Advance, *, last: bool) -> bool:
        told, counting = self.told, self.counting
        lines = Lines(log.path, place, advance)
        records = (json_records if log.format == "jsonlog" else csv_records)(lines, place)
        samples = counting.samples
        read = unreadable = 0
        for at, record in records:
            read += 1
            outcome = "unreadable" if record is None else counting.add(record, log.fingerprint, at)
            if outcome == "counted":
                told.counted += 1
            elif outcome == "unreadable":
                unreadable += 1
                told.first_unreadable = told.first_unreadable or f"{log.path}, byte {at:,}"
            elif outcome == "bare":
                told.bare += 1
            elif outcome == "late":
                told.late += 1
            if len(samples) >= BATCH:
                _check_readable(log, unreadable, read, told.first_unreadable)
                self._check_statements()
                self._flush(store)
        told.records += read
        if lines.unfinished and not last:
            unreadable += 1
        elif last:
            told.unfinished = lines.unfinished
        told.unreadable += unreadable
        _check_readable(log, unreadable, read, told.first_unreadable)
        if lines.broken:
            told.broken.append(f"{log.path} {lines.broken}")
            return False
        return True

    def _check_statements(self) -> None:
        if self.told.bare > 10 + MOST_BARE * self.told.counted:
            raise InvalidInput(
                "FILES",
                f"tell {self.told.bare:,} durations without their statement, or in another language.",
                remedy=_SETTINGS,
            )

    def _flush(self, store: Store) -> None:
        samples, state = self.counting.samples, self.counting.state()
        now = datetime.now(UTC)
        ahead = max((one.ts for one in samples), default=now)
        if ahead > now + FUTURE:
            raise InvalidInput(
                "FILES", f"tell of {ahead:%Y-%m-%d %H:%M} UTC, which is still to come.",
                remedy="Check the clocks of the server and of this machine.",
            )  # fmt: skip
        position = None
        if state is not None:
            file, place, known = state
            position = {"file": file, "place": place, "since": self._since, "state": known}
        if position is not None and (self._start is not None or _is_further(position, self._before)):
            store(samples, position)
        elif samples:
            store(samples, {})
        samples.clear()


def _is_further(position: Position, before: Position | None) -> bool:
    if before is None:
        return True

    def reached(one: Position) -> tuple[float, float]:
        return one["state"]["closed_until"] or 0.0, -one["since"]

    return reached(position) > reached(before)


def _check_readable(log: LogFile, unreadable: int, read: int, where: str) -> None:
    if unreadable > 10 and unreadable > MOST_UNREADABLE * read:
        raise InvalidInput(
            str(log.path),
            f"{unreadable:,} of {read:,} records cannot be read, the first in {where}.",
            remedy=f"Is it a {log.format} of PostgreSQL 14 or later? Leave the file out.",
        )
