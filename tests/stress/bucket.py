"""The stress application's schema and keys: few hot counters, many cold ones, families, tokens, events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from foreshard.fleet.grants import APPLICATION, OWNER
from foreshard.topology.keys import SLOTS, KeyType, bucket_number, slot

KEY_TYPE = KeyType.INT8
BUCKETS = ("s0000", "s0001")
"""They move as one. All buckets of the fleet, so that every key is in one of them."""

TABLES = dict.fromkeys(("counter", "event", "parent", "child", "token"), "key")
CHILDREN = 3
"""Children of a parent, always."""

HOT, MANY, FAMILIES, TOKENS = 8, 2000, 24, 48
MANY_FROM, FRESH_FROM, FAMILY_FROM, TOKEN_FROM = 10_000, 20_000, 30_000, 40_000
"""Keys of different use never meet. Counters from FRESH_FROM on are not there at first."""


def bucket_of(key: int) -> str:
    """The bucket that holds the key."""
    return BUCKETS[bucket_number(key, KEY_TYPE, len(BUCKETS))]


def slot_of(key: int) -> int:
    """The key's slot, which the bound divides."""
    return slot(key, KEY_TYPE)


def hot_keys() -> list[int]:
    """A hot key for each eighth of the slots, half of them in each bucket, so that every flip moves some."""
    return [
        next(
            key
            for key in count(1)
            if slot_of(key) * HOT // SLOTS == part and bucket_of(key) == BUCKETS[part % len(BUCKETS)]
        )
        for part in range(HOT)
    ]


def many_keys() -> list[int]:
    """Keys that are written now and then."""
    return list(range(MANY_FROM, MANY_FROM + MANY))


def fresh_keys() -> list[int]:
    """Keys of counters that the first write inserts."""
    return list(range(FRESH_FROM, FRESH_FROM + MANY // 4))


def family_keys() -> list[int]:
    """Keys of parents; each has a counter too, whose row lock makes writers of one family queue."""
    return list(range(FAMILY_FROM, FAMILY_FROM + FAMILIES))


def token_keys(bucket: str) -> list[int]:
    """Keys that tokens of this bucket may stand at."""
    return list(islice((key for key in count(TOKEN_FROM) if bucket_of(key) == bucket), 64))


def tokens() -> Iterator[tuple[int, int]]:
    """(id, key) of every token at first."""
    for number in range(TOKENS):
        keys = token_keys(BUCKETS[number % len(BUCKETS)])
        yield number, keys[number % len(keys)]


def create_buckets(conn: psycopg.Connection[tuple[object, ...]], buckets: Sequence[str]) -> None:
    """Create and fill the buckets in one transaction; ``conn`` is a superuser's, in autocommit."""
    # Trusted like a literal: the file stands beside this one.
    text: LiteralString = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    with conn.transaction():
        conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(OWNER)))
        for bucket in buckets:
            parts = {"bucket": sql.Identifier(bucket), "application": sql.Identifier(APPLICATION)}
            conn.execute(sql.SQL(text).format(**parts))
            here = [key for key in (*hot_keys(), *many_keys(), *family_keys()) if bucket_of(key) == bucket]
            families = [key for key in family_keys() if bucket_of(key) == bucket]
            standing = [(key, number) for number, key in tokens() if bucket_of(key) == bucket]
            with conn.cursor() as cursor:
                cursor.execute(_fill("INSERT INTO {}.counter SELECT k, 0 FROM unnest(%s) k", bucket), (here,))
                cursor.execute(
                    _fill("INSERT INTO {}.parent SELECT k, 0 FROM unnest(%s) k", bucket), (families,)
                )
                cursor.execute(
                    _fill(
                        "INSERT INTO {}.child SELECT k, n, 0 FROM unnest(%s) k, generate_series(1, %s) n",
                        bucket,
                    ),
                    (families, CHILDREN),
                )
                cursor.executemany(_fill("INSERT INTO {}.token VALUES (%s, %s, 0)", bucket), standing)


def _fill(query: LiteralString, bucket: str) -> sql.Composed:
    return sql.SQL(query).format(sql.Identifier(bucket))
