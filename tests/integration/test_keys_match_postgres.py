"""The router's arithmetic against every version's: thousands of keys of every type in one round trip each."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from uuid import UUID

import pytest
from psycopg import sql

from foreshard.fleet.binaries import SUPPORTED
from foreshard.fleet.throwaway import ShardDatabase, ThrowawayServers
from foreshard.topology.keys import (
    SLOT_SEED,
    SLOTS,
    KeyType,
    Part,
    bucket_number,
    hash_extended,
    slot,
    slot_sql,
)
from tests.integration import versions

KEYS = 3000
MODULI = (1, 3, 48, 1000)

# The remainder is searched where PostgreSQL itself decides: in the function behind PARTITION BY HASH.
COMPARE = """
SELECT {seeded}, {unseeded},
       ARRAY(SELECT (SELECT remainder FROM generate_series(0, modulus - 1) AS remainder
                     WHERE satisfies_hash_partition('parent'::regclass, modulus, remainder, k))
             FROM unnest(%(moduli)s::int[]) WITH ORDINALITY AS m (modulus, place) ORDER BY place)
FROM unnest(%(keys)s::{type}[]) WITH ORDINALITY AS given (k, place)
ORDER BY place
"""


def _random_text(random: Random) -> str:
    # One, two, three and four bytes of UTF-8, never NUL, never a surrogate.
    ranges = ((1, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
    return "".join(chr(random.randint(*random.choice(ranges))) for _ in range(random.randint(0, 40)))


def _keys(key_type: KeyType, random: Random) -> list[Part]:
    if key_type is KeyType.TEXT:
        return ["", *(_random_text(random) for _ in range(KEYS))]
    if key_type is KeyType.UUID:
        return [UUID(int=random.getrandbits(128)) for _ in range(KEYS)]
    if key_type is KeyType.BYTEA:
        return [b"", b"\0", *(random.randbytes(random.randint(0, 40)) for _ in range(KEYS))]
    limit = {KeyType.INT2: 2**15, KeyType.INT4: 2**31, KeyType.INT8: 2**63}[key_type]
    edges = [0, 1, -1, limit - 1, -limit, *(value for value in (2**32, -(2**32)) if abs(value) < limit)]
    return [*edges, *(random.randrange(-limit, limit) for _ in range(KEYS))]


@pytest.fixture(params=SUPPORTED)
def shard_of_version(servers: ThrowawayServers, request: pytest.FixtureRequest) -> Iterator[ShardDatabase]:
    versions.require(request.param)
    fresh = servers.new_shard(f"source-{request.param}", request.param)
    yield fresh
    servers.drop(fresh.name, fresh.database)


@pytest.mark.slow
@pytest.mark.parametrize("key_type", KeyType)
def test_hash_bucket_and_slot_agree_with_every_version(
    shard_of_version: ShardDatabase, key_type: KeyType
) -> None:
    _assert_agree(shard_of_version, key_type)


@pytest.mark.parametrize("key_type", KeyType)
def test_hash_bucket_and_slot_agree_with_the_server(shard: ShardDatabase, key_type: KeyType) -> None:
    _assert_agree(shard, key_type)


def _assert_agree(shard: ShardDatabase, key_type: KeyType) -> None:
    keys = _keys(key_type, Random(20131128))
    type_name = sql.Identifier(str(key_type))
    with shard.connect() as conn:
        conn.execute(sql.SQL("CREATE TABLE parent (k {}) PARTITION BY HASH (k)").format(type_name))
        seeded, unseeded = (
            sql.SQL(slot_sql(key_type)).format(key=sql.Identifier("k"), seed=sql.Literal(seed))
            for seed in (SLOT_SEED, 0)
        )
        query = sql.SQL(COMPARE).format(seeded=seeded, unseeded=unseeded, type=type_name)
        rows = conn.execute(query, {"moduli": list(MODULI), "keys": keys}).fetchall()
    for key, (seeded, unseeded, remainders) in zip(keys, rows, strict=True):
        assert isinstance(seeded, int)
        assert isinstance(unseeded, int)
        assert hash_extended(key, key_type, SLOT_SEED) == seeded % 2**64, key
        assert hash_extended(key, key_type, 0) == unseeded % 2**64, key
        assert slot(key, key_type) == seeded & (SLOTS - 1), key
        assert [bucket_number(key, key_type, modulus) for modulus in MODULI] == remainders, key


COMPOSITES = [
    (KeyType.INT8, KeyType.TEXT),
    (KeyType.BYTEA, KeyType.UUID, KeyType.INT2),
    (KeyType.TEXT, KeyType.TEXT),
]

COMPARE_COMPOSITE = """
SELECT {slot_hash},
       ARRAY(SELECT (SELECT remainder FROM generate_series(0, modulus - 1) AS remainder
                     WHERE satisfies_hash_partition('parent'::regclass, modulus, remainder, {parts}))
             FROM unnest(%(moduli)s::int[]) WITH ORDINALITY AS m (modulus, place) ORDER BY place)
FROM unnest({arrays}) WITH ORDINALITY AS given ({parts}, place)
ORDER BY place
"""


@pytest.mark.slow
@pytest.mark.parametrize("key_types", COMPOSITES)
def test_composite_keys_agree_with_every_version(
    shard_of_version: ShardDatabase, key_types: tuple[KeyType, ...]
) -> None:
    _assert_composites_agree(shard_of_version, key_types)


@pytest.mark.parametrize("key_types", COMPOSITES[:2])
def test_composite_keys_agree_with_the_server(shard: ShardDatabase, key_types: tuple[KeyType, ...]) -> None:
    _assert_composites_agree(shard, key_types)


def _assert_composites_agree(shard: ShardDatabase, key_types: tuple[KeyType, ...]) -> None:
    random = Random(20261122)
    columns = [random.sample(_keys(key_type, random), 1000) for key_type in key_types]
    names = [sql.Identifier(f"k{number}") for number in range(len(key_types))]
    types = [sql.Identifier(str(key_type)) for key_type in key_types]
    parts = sql.SQL(", ").join(names)
    definitions = [sql.SQL("{} {}").format(*one) for one in zip(names, types, strict=True)]
    arrays = [
        sql.SQL("{}::{}[]").format(sql.Placeholder(f"k{number}"), type_name)
        for number, type_name in enumerate(types)
    ]
    with shard.connect() as conn:
        conn.execute(
            sql.SQL("CREATE TABLE parent ({}) PARTITION BY HASH ({})").format(
                sql.SQL(", ").join(definitions), parts
            )
        )
        query = sql.SQL(COMPARE_COMPOSITE).format(
            slot_hash=sql.SQL(slot_sql(key_types[0])).format(key=names[0], seed=sql.Literal(SLOT_SEED)),
            parts=parts,
            arrays=sql.SQL(", ").join(arrays),
        )
        given = {f"k{number}": column for number, column in enumerate(columns)}
        rows = conn.execute(query, {"moduli": list(MODULI), **given}).fetchall()
    for key, (slot_hash, remainders) in zip(zip(*columns, strict=True), rows, strict=True):
        assert isinstance(slot_hash, int)
        assert slot(key, key_types) == slot_hash & (SLOTS - 1), key
        assert [bucket_number(key, key_types, modulus) for modulus in MODULI] == remainders, key
