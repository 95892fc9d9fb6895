"""Records of jsonlog and csvlog, of which only what is counted is kept. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

csv.field_size_limit(1 << 30)  # a statement may be long; lines and records have bounds of their own
CSV_COLUMNS = 26
LONGEST_RECORD = 16 << 20
_STAMP = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ")


class Record(NamedTuple):
    """``timestamp`` and ``session_start`` as the log writes them, in log_timezone; absent fields are ''."""

    timestamp: str
    session: str
    session_start: str
    database: str
    backend: str
    application: str
    transaction: str
    """'' when it was over."""
    severity: str
    message: str
    detail: str


class Zones:
    """Offsets of the abbreviations in time stamps, learnt from the log: a session id holds its start in UTC."""

    def __init__(self) -> None:
        self._offsets: dict[str, float] = {}
        self._minutes: dict[str, float] = {}

    def minute(self, record: Record) -> float | None:
        """The minute that the record was written in, seconds since 1970; None if its zone is not known."""
        stamp = record.timestamp
        key = stamp[:16] + stamp[23:]
        known = self._minutes.get(key)
        if known is None:
            offset = self._offset(record)
            if offset is None:
                return None
            if len(self._minutes) > 100:
                self._minutes.clear()
            known = self._minutes[key] = _local(stamp[:16] + ":00") - offset
        return known

    def seconds(self, record: Record) -> float | None:
        """When the record was written, to the second."""
        minute = self.minute(record)
        return None if minute is None else minute + float(record.timestamp[17:19])

    def _offset(self, record: Record) -> float | None:
        zone = record.timestamp[24:]
        if zone in ("UTC", "GMT"):
            return 0.0
        started = record.session_start
        try:
            self._offsets[started[20:]] = _local(started[:19]) - int(record.session.partition(".")[0], 16)
        except ValueError:
            return None
        return self._offsets.get(zone)


def _local(stamp: str) -> float:
    return datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()


def json_records(lines: Iterable[bytes], place: int) -> Iterator[tuple[int, Record | None]]:
    """Each line's record and the place where it begins; None for what is no record."""
    for line in lines:
        yield place, read_json(line)
        place += len(line) + 1


def csv_records(lines: Iterable[bytes], place: int) -> Iterator[tuple[int, Record | None]]:
    """The same of a csvlog: a record goes on for as many lines as its quotes stay open.

    After a line that spoils the quotes the next line that begins like a record is one.
    """
    held: list[bytes] = []
    is_open = False
    size = 0
    for line in lines:
        held.append(line)
        size += len(line) + 1
        is_open ^= bool(line.count(b'"') & 1)
        if is_open and size <= LONGEST_RECORD:
            continue
        record = None if is_open else _whole(held)
        if record is not None:
            yield place, record
            place, held, size = place + size, [], 0
            continue
        found, held = _resynchronised(held)
        is_open = bool(held)
        for size, one in found:
            yield place, one
            place += size
        size = _size(held)


def _resynchronised(held: list[bytes]) -> tuple[list[tuple[int, Record | None]], list[bytes]]:
    """The records of lines that are not one, each with its size, and the lines that a last one begins with."""
    found: list[tuple[int, Record | None]] = []
    start = 0
    while start < len(held):
        end = start + 1
        is_open = bool(held[start].count(b'"') & 1)
        begins = _STAMP.match(held[start]) is not None
        while begins and is_open and end < len(held) and not _STAMP.match(held[end]):
            is_open ^= bool(held[end].count(b'"') & 1)
            end += 1
        if begins and is_open and end == len(held) and start > 0:
            return found, held[start:]
        lines = held[start:end]
        found.append((_size(lines), _whole(lines) if begins and not is_open else None))
        start = end
    return found, []


def _size(lines: list[bytes]) -> int:
    return sum(len(line) + 1 for line in lines)


def _whole(held: list[bytes]) -> Record | None:
    text = (held[0] if len(held) == 1 else b"\n".join(held)).decode(errors="replace")
    try:
        return read_csv(next(csv.reader((text,))))
    except (csv.Error, StopIteration):
        return None


def read_csv(fields: list[str]) -> Record | None:
    """The record of a csvlog's 26 columns (PostgreSQL 14 and later)."""
    if len(fields) != CSV_COLUMNS or not _is_stamp(fields[0]):
        return None
    over = fields[9].endswith("/0")
    return Record(
        fields[0], fields[5], fields[8], fields[2], fields[23], fields[22], "" if over else fields[9], fields[11],
        fields[13], fields[14],
    )  # fmt: skip


def read_json(line: bytes) -> Record | None:
    """The record of a line of a jsonlog."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:  # the log holds bytes in the encodings of its databases
            found = orjson.loads(line.decode(errors="replace"))
        except orjson.JSONDecodeError:
            return None
    try:
        get = found.get
        stamp = found["timestamp"]
        transaction = get("vxid", "")
        if not _is_stamp(stamp):
            return None
        return Record(
            stamp, found["session_id"], get("session_start", ""), get("dbname", ""), get("backend_type", ""),
            get("application_name", ""), "" if transaction.endswith("/0") else transaction,
            found["error_severity"], get("message", ""), get("detail", ""),
        )  # fmt: skip
    except (AttributeError, KeyError, TypeError):
        return None


def _is_stamp(stamp: str) -> bool:
    return len(stamp) > 24 and stamp[4] == "-" and stamp[13] == ":" and stamp[19] == "." and stamp[23] == " "
