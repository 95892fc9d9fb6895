"""Files of a query log: plain or gzipped, told apart by what is in them, read in pieces of bounded size."""

from __future__ import annotations

import csv
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foreshard.errors import InvalidInput
from foreshard.load.query_log.record import Zones, read_csv, read_json

PIECE = 1 << 20
LONGEST_LINE = 64 << 20
"""A longer line is no record; it is not kept in memory."""

Format = Literal["jsonlog", "csvlog"]
Advance = Callable[[int], None]
"""Told how many more bytes of the file, as it lies on the disk, were read."""


@dataclass(frozen=True)
class LogFile:
    """A file that begins with a record. ``fingerprint`` knows it again, also renamed or gzipped."""

    path: Path
    format: Format
    fingerprint: str
    first: float
    """When its first record was written, seconds since 1970."""
    bytes: int
    """On the disk."""


def find_files(paths: Sequence[Path]) -> tuple[list[LogFile], list[Path]]:
    """The log's files in the order of their first records, and the files that are none (yet).

    Directories are looked into, not below. A file given twice, or as it is and gzipped, counts once.

    Raises:
        InvalidInput: a path is not there or cannot be read, there is no log, or there are logs of both formats.
    """
    found: dict[str, LogFile] = {}
    others: list[Path] = []
    for path in paths:
        try:
            inside = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
            for one in inside:
                log = _open(one)
                if log is None:
                    others.append(one)
                elif log.fingerprint not in found or found[log.fingerprint].bytes < log.bytes:
                    found[log.fingerprint] = log
        except OSError as error:
            raise InvalidInput(str(path), f"cannot be read: {error.strerror}.") from None
    if not found:
        raise InvalidInput(
            "FILES",
            "hold no record of a jsonlog or csvlog.",
            remedy="Set log_destination to 'jsonlog' or 'csvlog' (docs/query-logs.md) and name those files.",
        )
    formats = {log.format for log in found.values()}
    if len(formats) > 1:
        raise InvalidInput(
            "FILES",
            "are of two formats, jsonlog and csvlog, which tell the same statements.",
            remedy="Name the files of one of them, for example log/*.json*.",
        )
    return sorted(found.values(), key=lambda log: log.first), others


class Lines:
    """The lines of a file from a place on; ``place`` is where the next one begins, in bytes as decompressed.

    A last line without its end is not given: it is still being written. ``broken`` says why a compressed file could
    not be read to its end.
    """

    def __init__(self, path: Path, place: int = 0, advance: Advance = lambda _: None) -> None:
        self._path = path
        self._advance = advance
        self.start = place
        self.unfinished = 0
        self.broken: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        for piece in self._pieces():
            if b"\n" not in piece:
                rest += piece
                if len(rest) > LONGEST_LINE:
                    raise InvalidInput(str(self._path), f"has a line of more than {LONGEST_LINE:,} bytes.")
                continue
            whole, _, after = piece.rpartition(b"\n")
            yield from (rest + whole).split(b"\n")
            rest = after
        self.unfinished = len(rest)

    def _pieces(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                file.seek(self.start)
                self._advance(self.start)
                while piece := file.read(PIECE):
                    self._advance(len(piece))
                    yield piece
                return
            file.seek(0)
            skip = self.start  # there is no way to a place in it but through all before
            for piece in self._unpacked(iter(lambda: file.read(PIECE // 4), b"")):
                yield piece[skip:]
                skip = max(0, skip - len(piece))

    def _unpacked(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            for packed in pieces:
                self._advance(len(packed))
                while packed:
                    yield unpacker.decompress(packed, PIECE)
                    packed = unpacker.unconsumed_tail
                    if unpacker.eof and (packed := unpacker.unused_data):
                        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        except zlib.error:
            self.broken = "is damaged"
            return
        if not unpacker.eof:
            self.broken = "is not complete"


def _open(path: Path) -> LogFile | None:
    first = next(iter(Lines(path)), b"")
    format_: Format = "jsonlog" if first.startswith(b"{") else "csvlog"
    if format_ == "jsonlog":
        record = read_json(first)
    else:
        # The first record may have more lines than this one; what is before the message stands in the first.
        try:
            fields = next(csv.reader([first.decode(errors="replace")]), [])
        except csv.Error:
            return None
        record = read_csv(fields + [""] * (26 - len(fields))) if len(fields) >= 14 else None
    at = None if record is None else Zones().seconds(record)
    if at is None:
        return None
    return LogFile(path, format_, hashlib.sha256(first[:4096]).hexdigest(), at, path.stat().st_size)
