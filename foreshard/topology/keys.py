"""Keys to buckets and slots: PostgreSQL's own hash functions in Python.

A bucket number is what ``PARTITION BY HASH`` gives for the key (``satisfies_hash_partition``), so a fleet
that is already hash-partitioned, any SQL and this module agree. The slot uses the same function with another
seed, so that slots spread evenly inside each bucket.

Sources of the algorithms: Bob Jenkins' lookup3 as in PostgreSQL's ``src/common/hashfn.c``, ``hashfunc.c``
(``hashint8extended``), ``partbounds.c`` (``compute_partition_hash_value``) and ``hash_combine64``.
Text is hashed by its UTF-8 bytes, as PostgreSQL does in a UTF-8 database under a deterministic collation.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from struct import Struct
from typing import LiteralString, TypeAlias
from uuid import UUID

from foreshard.errors import InvalidInput

Part: TypeAlias = int | str | UUID | bytes
"""A value of one key column."""

Key: TypeAlias = Part | tuple[Part, ...]
"""A composite key is a tuple, of at least two parts."""

SLOTS = 1024
"""Slots of every bucket; during a migration the target owns those below the bound."""

SLOT_SEED = 0x51ED270B7A3F19C5
"""Seed of the slot's hash. Below 2^63, so it is the same number as an ``int8`` in SQL."""

PARTITION_SEED = 0x7A5B22367996DCFD
"""``HASH_PARTITION_SEED`` of PostgreSQL."""

_words = Struct("<III").unpack_from

_COMBINE = 0x49A0F4DD15E5A8E3  # hash_combine64(0, h) = h + this
_LOOKUP3_START = 0x9E3779B9 + 3923095  # plus the length in bytes
_M32 = 0xFFFFFFFF
_M64 = 0xFFFFFFFFFFFFFFFF


class KeyType(StrEnum):
    """Type of a key column, by PostgreSQL's name."""

    INT2 = "int2"
    INT4 = "int4"
    INT8 = "int8"
    TEXT = "text"
    UUID = "uuid"
    BYTEA = "bytea"


KeyTypes: TypeAlias = KeyType | tuple[KeyType, ...]
"""Of a fleet's keys. Of a composite key the bucket comes from all parts, the slot from the first alone: its column is
the distribution column."""


_INT_BITS = {KeyType.INT2: 16, KeyType.INT4: 32, KeyType.INT8: 64}
_HASH_SQL: dict[KeyType, LiteralString] = {
    KeyType.INT2: "pg_catalog.hashint2extended({key}, {seed})",
    KeyType.INT4: "pg_catalog.hashint4extended({key}, {seed})",
    KeyType.INT8: "pg_catalog.hashint8extended({key}, {seed})",
    KeyType.TEXT: "pg_catalog.hashtextextended({key}, {seed})",
    KeyType.UUID: "pg_catalog.uuid_hash_extended({key}, {seed})",
    # SQL cannot call bytea's own function before PostgreSQL 18; the hash of a row of one column is that column's.
    KeyType.BYTEA: "CASE WHEN {key} IS NOT NULL THEN pg_catalog.hash_record_extended(ROW({key}), {seed}) END",
}


def parts_of(key_types: KeyTypes) -> tuple[KeyType, ...]:
    """The types of all parts of a key."""
    return (key_types,) if isinstance(key_types, KeyType) else key_types


def distribution_type(key_types: KeyTypes) -> KeyType:
    """The type of the distribution column."""
    return parts_of(key_types)[0]


def distribution_part(key: Key, key_types: KeyTypes) -> Part:
    """What of the key stands in the distribution column.

    Raises ``InvalidInput`` (field ``key``) if it is not of as many parts.
    """
    return _split(key, key_types)[0]


def key_types_text(key_types: KeyTypes) -> str:
    """As it is written: ``int8``, or ``int8,text``."""
    return ",".join(parts_of(key_types))


def parse_key_types(text: str) -> KeyTypes:
    """What `key_types_text` gave. Raises ``ValueError``."""
    first, *others = (KeyType(part) for part in text.split(","))
    return (first, *others) if others else first


def _split(key: Key, key_types: KeyTypes) -> tuple[Part, ...]:
    if isinstance(key_types, KeyType):
        if isinstance(key, tuple):
            raise _wrong_type(key, f"one value ({key_types})")
        return (key,)
    if not isinstance(key, tuple) or len(key) != len(key_types):
        raise InvalidInput("key", f"is not a tuple of {len(key_types)} parts ({key_types_text(key_types)})")
    return key


def hash_extended(key: Part, key_type: KeyType, seed: int) -> int:
    """The key's 64-bit hash, unsigned, as PostgreSQL's ``hash…extended(key, seed)`` (which shows it signed).

    ``seed`` is taken modulo 2^64. Raises ``InvalidInput`` (field ``key``) for a key the column cannot hold.
    """
    if key_type is KeyType.TEXT:
        return _hash_bytes(_text_bytes(key), seed & _M64)
    if key_type is KeyType.UUID:
        if not isinstance(key, UUID):
            raise _wrong_type(key, "a uuid.UUID")
        return _hash_bytes(key.bytes, seed & _M64)
    if key_type is KeyType.BYTEA:
        if not isinstance(key, bytes):
            raise _wrong_type(key, "bytes")
        return _hash_bytes(key, seed & _M64)
    return _hash_uint32(_fold(_checked_int(key, key_type)), seed & _M64)


def bucket_number(key: Key, key_types: KeyTypes, modulus: int) -> int:
    """The remainder for which ``satisfies_hash_partition(…, modulus, remainder, key)`` is true, with all parts of it.

    Raises ``InvalidInput`` for an unusable key or a modulus that is not a positive ``int4``.
    """
    if not 1 <= modulus < 2**31:
        raise InvalidInput("modulus", f"{modulus} is not between 1 and 2147483647")
    if isinstance(key_types, KeyType) and not isinstance(key, tuple):
        return ((hash_extended(key, key_types, PARTITION_SEED) + _COMBINE) & _M64) % modulus
    row = 0
    for part, key_type in zip(_split(key, key_types), parts_of(key_types), strict=True):
        row = _hash_combine(row, hash_extended(part, key_type, PARTITION_SEED))
    return row % modulus


def slot(key: Key, key_types: KeyTypes) -> int:
    """The key's slot, 0 <= slot < ``SLOTS``, by its first part. Raises ``InvalidInput`` for an unusable key."""
    if isinstance(key_types, KeyType) and not isinstance(
        key, tuple
    ):  # the plain case, at a third of the price
        return hash_extended(key, key_types, SLOT_SEED) % SLOTS
    return hash_extended(distribution_part(key, key_types), distribution_type(key_types), SLOT_SEED) % SLOTS


def slot_sql(key_type: KeyType) -> LiteralString:
    """The SQL expression that hashes ``{key}``, of this type, with ``{seed}``; NULL for NULL.

    Its result is a signed ``int8``; SQL must mask it (``& 1023``) where Python takes the remainder.
    """
    return _HASH_SQL[key_type]


def _wrong_type(key: object, wanted: str) -> InvalidInput:
    if key is None:
        return InvalidInput("key", "is null; a row without a key belongs to no bucket")
    return InvalidInput("key", f"is a {type(key).__name__}, not {wanted}")


def _hash_combine(a: int, b: int) -> int:
    """``hash_combine64``."""
    return a ^ (b + _COMBINE + (a << 54) + (a >> 7)) & _M64


def _checked_int(key: Part, key_type: KeyType) -> int:
    # bool is an int for Python, never for PostgreSQL.
    if not isinstance(key, int) or isinstance(key, bool):
        raise _wrong_type(key, "an int")
    limit = 1 << (_INT_BITS[key_type] - 1)
    if not -limit <= key < limit:
        raise InvalidInput("key", f"{key} is out of range for {key_type}")
    return key


def _text_bytes(key: Part) -> bytes:
    if not isinstance(key, str):
        raise _wrong_type(key, "a str")
    if "\0" in key:
        raise InvalidInput("key", "contains a NUL character, which PostgreSQL's text cannot hold")
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise InvalidInput("key", "contains a lone surrogate, which is not valid UTF-8") from None


def _fold(value: int) -> int:
    """``hashint8extended``: fold to 32 bits so that equal int2, int4 and int8 hash alike."""
    low, high = value & _M32, (value >> 32) & _M32
    return low ^ (high if value >= 0 else high ^ _M32)


def _hash_uint32(word: int, seed: int) -> int:
    """``hash_bytes_uint32_extended``."""
    a, b, c = _start(4, seed)
    return _final((a + word) & _M32, b, c)


def _hash_bytes(data: bytes, seed: int) -> int:
    """``hash_bytes_extended`` as on a little-endian server (x86-64, ARM)."""
    a, b, c = _start(len(data), seed)
    whole = len(data) - len(data) % 12
    for at in range(0, whole, 12):
        x, y, z = _words(data, at)
        a, b, c = _mix((a + x) & _M32, (b + y) & _M32, (c + z) & _M32)
    x, y, z = _words(data[whole:].ljust(12, b"\0"))
    # The lowest byte of c is reserved for the length, which _start already added.
    return _final((a + x) & _M32, (b + y) & _M32, (c + (z << 8)) & _M32)


@lru_cache(maxsize=256)  # keys of one type have few lengths and two seeds: a third of the time saved
def _start(length: int, seed: int) -> tuple[int, int, int]:
    a = (_LOOKUP3_START + length) & _M32
    if seed == 0:
        return a, a, a
    return _mix((a + (seed >> 32)) & _M32, (a + seed) & _M32, a)


def _rot(x: int, k: int) -> int:
    return ((x << k) | (x >> (32 - k))) & _M32


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = (a - c) & _M32 ^ _rot(c, 4)
    c = (c + b) & _M32
    b = (b - a) & _M32 ^ _rot(a, 6)
    a = (a + c) & _M32
    c = (c - b) & _M32 ^ _rot(b, 8)
    b = (b + a) & _M32
    a = (a - c) & _M32 ^ _rot(c, 16)
    c = (c + b) & _M32
    b = (b - a) & _M32 ^ _rot(a, 19)
    a = (a + c) & _M32
    c = (c - b) & _M32 ^ _rot(b, 4)
    b = (b + a) & _M32
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = ((c ^ b) - _rot(b, 14)) & _M32
    a = ((a ^ c) - _rot(c, 11)) & _M32
    b = ((b ^ a) - _rot(a, 25)) & _M32
    c = ((c ^ b) - _rot(b, 16)) & _M32
    a = ((a ^ c) - _rot(c, 4)) & _M32
    b = ((b ^ a) - _rot(a, 14)) & _M32
    c = ((c ^ b) - _rot(b, 24)) & _M32
    return b << 32 | c
