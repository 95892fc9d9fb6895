from __future__ import annotations

import struct

import pytest

from foreshard.postgres.write_sample import KeyDecoder

TABLES = {"flights": "tailnum", "airports": "code"}


def relation(oid: int, schema: str, table: str, *columns: str) -> bytes:
    head = b"R" + struct.pack(">I", oid) + schema.encode() + b"\0" + table.encode() + b"\0d"
    return head + struct.pack(">h", len(columns)) + b"".join(_described(name) for name in columns)


def _described(name: str) -> bytes:
    return b"\1" + name.encode() + b"\0" + struct.pack(">Ii", 25, -1)


def row(*values: str | None) -> bytes:
    """None is NULL; "unchanged" stands for a TOASTed value that was not touched."""
    parts = [struct.pack(">h", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value == "unchanged":
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack(">i", len(value.encode())) + value.encode())
    return b"".join(parts)


def change(kind: bytes, oid: int, *rows: bytes) -> bytes:
    return kind + struct.pack(">I", oid) + b"".join(rows)


@pytest.fixture
def decoder() -> KeyDecoder:
    decoder = KeyDecoder(["b0000", "b0001"], TABLES)
    for message in (
        relation(1, "b0000", "flights", "id", "tailnum", "note"),
        relation(2, "foreshard_x_1", "marker", "id", "sent_at"),
        relation(3, "elsewhere", "flights", "id", "tailnum"),
        b"B" + bytes(20),
    ):
        assert not decoder.is_write(message)
    return decoder


@pytest.mark.parametrize(
    "message",
    [
        change(b"I", 1, b"N", row("1", "N12Ä", None)),
        change(b"U", 1, b"N", row("1", "N12Ä", "unchanged")),
        change(b"U", 1, b"K", row("1", "old", None), b"N", row("2", "N12Ä", "x")),
        change(b"U", 1, b"O", row(None, "old", "long" * 99), b"N", row("2", "N12Ä", "x")),
        change(b"D", 1, b"K", row("1", "N12Ä", None)),
    ],
)
def test_the_key_of_a_write_is_that_of_the_row_it_leaves(decoder: KeyDecoder, message: bytes) -> None:
    assert decoder.is_write(message)
    assert decoder.key(message) == "N12Ä"


@pytest.mark.parametrize("hidden", [None, "unchanged"])
def test_a_key_that_the_wal_does_not_hold_is_not_made_up(decoder: KeyDecoder, hidden: str | None) -> None:
    message = change(b"D", 1, b"K", row("1", hidden, None))
    assert decoder.is_write(message)
    assert decoder.key(message) is None


def test_the_marker_other_schemas_and_what_is_no_row_do_not_count(decoder: KeyDecoder) -> None:
    for message in (
        change(b"I", 2, b"N", row("1", "2")),
        change(b"I", 3, b"N", row("1", "2")),
        b"C" + bytes(25),
    ):
        assert not decoder.is_write(message)


def test_a_table_that_was_redefined_is_learnt_again(decoder: KeyDecoder) -> None:
    decoder.is_write(relation(1, "b0000", "flights", "tailnum", "id"))
    assert decoder.key(change(b"I", 1, b"N", row("N1", "7"))) == "N1"
