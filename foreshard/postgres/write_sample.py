"""Measures where the writes of buckets go: committed row writes per slot, decoded from the WAL for some seconds.

A temporary logical slot of our own on the migration's publication, read through SQL: nothing but the REPLICATION
attribute is needed, the migration's streams are not touched, and the slot goes with its session. Only counts are kept.
The decoded messages are those of PostgreSQL's documentation, *Logical Replication Message Formats*, protocol 1.
"""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from uuid import UUID

from psycopg import errors

from foreshard.errors import WritesNotMeasured
from foreshard.postgres.connect import Connection
from foreshard.postgres.names import MigrationNames
from foreshard.topology.keys import KeyType, Part, slot

SLOT_PATIENCE_S = 10.0
"""A new slot waits for every transaction on the server that has written. Connections need it as statement_timeout."""

DECODE_PATIENCE_S = 60.0
BATCH = 2_000
"""Changes asked for at once; the server ends a batch at the end of a transaction."""

POLL_S = 0.25


@dataclass(frozen=True)
class WriteSample:
    """Row writes per slot, committed on their owner within ``seconds``.

    ``unplaced``: those whose WAL does not hold the key (a DELETE whose primary key lacks it).
    """

    writes: Mapping[int, int]
    unplaced: int
    seconds: float

    @property
    def total(self) -> int:
        """Writes whose slot is known."""
        return sum(self.writes.values())


class KeyDecoder:
    """Finds the keys of written rows in pgoutput's messages. One for each slot: it learns the tables on the way."""

    def __init__(self, buckets: Sequence[str], tables: Mapping[str, str]) -> None:
        self._buckets = frozenset(buckets)
        self._tables = tables
        self._key_at: dict[int, int | None] = {}

    def is_write(self, message: bytes) -> bool:
        """Whether the message is a row written in one of the buckets. Has to see every message, in order."""
        kind = message[:1]
        if kind == b"R":
            self._learn(message)
        return kind in (b"I", b"U", b"D") and self._key_at.get(_relation(message)) is not None

    def key(self, message: bytes) -> str | None:
        """The row's key as text, of an update the new row's; None if the message does not hold it."""
        at = self._key_at[_relation(message)]
        assert at is not None
        position = 5
        if message[5:6] in (b"K", b"O") and message[:1] == b"U":
            position = _end_of_row(message, 6)
        return _column(message, position + 1, at)

    def _learn(self, message: bytes) -> None:
        namespace, position = _string(message, 5)
        table, position = _string(message, position)
        columns = int.from_bytes(message[position + 1 : position + 3], "big")
        position += 3
        names = []
        for _ in range(columns):
            name, position = _string(message, position + 1)
            position += 8  # type and its modifier
            names.append(name)
        key = self._tables.get(table) if namespace in self._buckets else None
        self._key_at[_relation(message)] = names.index(key) if key in names else None


def measure(
    owners: Sequence[Connection],
    names: MigrationNames,
    token: int,
    decoders: Callable[[], KeyDecoder],
    key_type: KeyType,
    seconds: float,
    waited: Callable[[float], None],
) -> WriteSample:
    """Count what is committed on ``owners`` within ``seconds``. ``token``: the lease's, so that runners do not meet.

    ``owners``: the source, and the target if it owns keys; each with `SLOT_PATIENCE_S` as its statement_timeout. What
    replication applied there is left out. ``waited`` is told the seconds that have passed.

    Raises:
        WritesNotMeasured: no slot could be had, or decoding did not keep up.
    """
    name = f"{names.schema}_sample_{token}"
    counted: Counter[int] = Counter()
    unplaced = 0
    with ExitStack() as stack:
        for conn in owners:
            stack.enter_context(_temporary_slot(conn, name))
        readers = [(conn, decoders()) for conn in owners]
        started, begin = time.monotonic(), [_now(conn) for conn in owners]
        for (conn, decoder), lsn in zip(readers, begin, strict=True):
            for message in _decoded(conn, name, names, lsn):  # from while the other slot was waited for
                decoder.is_write(message)
        while (passed := time.monotonic() - started) < seconds:
            waited(passed)
            time.sleep(min(POLL_S, seconds - passed))
        end = [_now(conn) for conn in owners]
        for (conn, decoder), lsn in zip(readers, end, strict=True):
            for message in _decoded(conn, name, names, lsn):
                if not decoder.is_write(message):
                    continue
                key = decoder.key(message)
                if key is None:
                    unplaced += 1
                else:
                    counted[slot(_parsed(key, key_type), key_type)] += 1
    return WriteSample(dict(counted), unplaced, seconds)


@contextmanager
def _temporary_slot(conn: Connection, name: str) -> Iterator[None]:
    try:
        conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', true)", (name,))
    except (errors.QueryCanceled, errors.ConfigurationLimitExceeded) as error:
        raise WritesNotMeasured(
            f"No slot could be had within {SLOT_PATIENCE_S:g} s: {str(error).strip()}",
            remedy="A long transaction holds it up, or max_replication_slots is reached.",
        ) from error
    try:
        yield
    finally:
        # It would go with its session, but a little later; after an error it is gone already.
        if not conn.broken:
            conn.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_name = %s AND temporary AND active_pid = pg_backend_pid()",
                (name,),
            )


def _now(conn: Connection) -> str:
    row = conn.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None  # a SELECT without FROM has one row
    return str(row[0])


def _decoded(conn: Connection, name: str, names: MigrationNames, upto: str) -> Iterator[bytes]:
    """Consume every message up to an LSN, batch by batch, row by row: a large transaction never stands in memory."""
    deadline = time.monotonic() + DECODE_PATIENCE_S
    publication = '"' + names.publication.replace('"', '""') + '"'
    while True:
        messages = 0
        try:
            with conn.cursor() as cursor:
                for (message,) in cursor.stream(
                    "SELECT data FROM pg_logical_slot_get_binary_changes(%s, %s, %s, 'proto_version', '1',"
                    " 'publication_names', %s, 'origin', 'none')",
                    (name, upto, BATCH, publication),
                    binary=True,
                ):
                    messages += 1
                    yield bytes(message)
        except errors.QueryCanceled as error:
            raise WritesNotMeasured(
                f"Decoding {BATCH} changes took more than {SLOT_PATIENCE_S:g} s.",
                remedy="The server is very busy.",
            ) from error
        if not messages:
            return
        if time.monotonic() > deadline:
            raise WritesNotMeasured(
                f"Decoding the writes took more than {DECODE_PATIENCE_S:g} s.",
                remedy="The server writes faster than one session decodes; measure for a shorter time.",
            )


def _parsed(key: str, key_type: KeyType) -> Part:
    if key_type is KeyType.TEXT:
        return key
    if key_type is KeyType.BYTEA:
        return bytes.fromhex(key.removeprefix("\\x"))
    return UUID(key) if key_type is KeyType.UUID else int(key)


def _relation(message: bytes) -> int:
    return int.from_bytes(message[1:5], "big")


def _string(message: bytes, position: int) -> tuple[str, int]:
    end = message.index(b"\0", position)
    return message[position:end].decode(), end + 1


def _columns(message: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Of the row at ``position``: (kind, start, end) of each column's value."""
    count = int.from_bytes(message[position : position + 2], "big")
    position += 2
    for _ in range(count):
        kind = message[position]
        position += 1
        length = 0
        if kind in b"tb":
            (length,) = struct.unpack_from(">i", message, position)
            position += 4
        yield kind, position, position + length
        position += length


def _column(message: bytes, position: int, wanted: int) -> str | None:
    for number, (kind, start, end) in enumerate(_columns(message, position)):
        if number == wanted:
            return message[start:end].decode() if kind == ord("t") else None
    return None


def _end_of_row(message: bytes, position: int) -> int:
    return max((end for _, _, end in _columns(message, position)), default=position + 2)
