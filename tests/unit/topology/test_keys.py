"""Keys against values that PostgreSQL 17.10 gave, and against what a key may not be.

Thousands of keys are compared with a live server in tests/integration/test_keys_match_postgres.py.
"""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import InvalidInput
from foreshard.topology.keys import (
    SLOT_SEED,
    SLOTS,
    Key,
    KeyType,
    KeyTypes,
    Part,
    bucket_number,
    distribution_part,
    hash_extended,
    key_types_text,
    parse_key_types,
    slot,
    slot_sql,
)

INT_TYPES = (KeyType.INT2, KeyType.INT4, KeyType.INT8)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.mark.parametrize(
    ("key", "key_type", "signed_hash", "bucket_of_48"),
    [
        (0, KeyType.INT2, 3016010210666894058, 32),
        (-32768, KeyType.INT2, 6900714894191629759, 45),
        (-1, KeyType.INT4, -3534740741396807534, 5),
        (2147483647, KeyType.INT4, 7682456218115348233, 31),
        (-9223372036854775808, KeyType.INT8, 7682456218115348233, 31),
        (4294967296, KeyType.INT8, -7096370770195315161, 8),
        ("", KeyType.TEXT, 7432995440726295029, 38),
        ("N14228", KeyType.TEXT, 6982264234649521845, 11),
        ("exactly12byt", KeyType.TEXT, 6632605969807464802, 34),
        ("żółw 🐢 longer than a block", KeyType.TEXT, 3620362929697724515, 22),
        (UUID("12345678-9abc-def0-1234-56789abcdef0"), KeyType.UUID, -5274793161829156687, 12),
    ],
)
def test_values_from_postgres(key: Part, key_type: KeyType, signed_hash: int, bucket_of_48: int) -> None:
    assert hash_extended(key, key_type, SLOT_SEED) == signed_hash % 2**64
    assert bucket_number(key, key_type, 48) == bucket_of_48
    assert slot(key, key_type) == signed_hash & 1023


@given(st.integers(-(2**15), 2**15 - 1), st.integers(0, 2**64 - 1))
def test_equal_integers_of_any_width_hash_alike(value: int, seed: int) -> None:
    assert len({hash_extended(value, key_type, seed) for key_type in INT_TYPES}) == 1


@given(texts, st.integers(1, 2**31 - 1))
def test_bucket_and_slot_are_in_range(key: str, modulus: int) -> None:
    assert 0 <= bucket_number(key, KeyType.TEXT, modulus) < modulus
    assert 0 <= slot(key, KeyType.TEXT) < SLOTS


def test_slots_are_spread_evenly_inside_one_bucket() -> None:
    """If the slot followed from the bucket, a canary step would move a bucket whole or not at all."""
    keys = [key for key in range(48_000) if bucket_number(key, KeyType.INT8, 48) == 7]
    below_half = sum(slot(key, KeyType.INT8) < SLOTS // 2 for key in keys)
    assert abs(below_half / len(keys) - 0.5) < 0.05


def test_seed_may_be_written_signed() -> None:
    assert hash_extended("N1", KeyType.TEXT, -1) == hash_extended("N1", KeyType.TEXT, 2**64 - 1)


@pytest.mark.parametrize(
    ("key", "key_type"),
    [
        (None, KeyType.TEXT),
        (None, KeyType.INT8),
        (None, KeyType.UUID),
        (True, KeyType.INT4),
        (1.0, KeyType.INT8),
        ("1", KeyType.INT8),
        (1, KeyType.TEXT),
        (b"N1", KeyType.TEXT),
        ("a\0b", KeyType.TEXT),
        ("\ud800", KeyType.TEXT),
        (2**15, KeyType.INT2),
        (-(2**15) - 1, KeyType.INT2),
        (2**31, KeyType.INT4),
        (2**63, KeyType.INT8),
        (-(2**63) - 1, KeyType.INT8),
        ("00000000-0000-0000-0000-000000000000", KeyType.UUID),
        ("N1", KeyType.BYTEA),
        (None, KeyType.BYTEA),
    ],
)
def test_unusable_keys_are_refused_by_name(key: Part, key_type: KeyType) -> None:
    with pytest.raises(InvalidInput) as refusal:
        hash_extended(key, key_type, SLOT_SEED)
    assert refusal.value.field == "key"


@pytest.mark.parametrize("modulus", [0, -1, 2**31])
def test_unusable_modulus_is_refused(modulus: int) -> None:
    with pytest.raises(InvalidInput, match="modulus"):
        bucket_number(1, KeyType.INT4, modulus)


@pytest.mark.parametrize("key_type", KeyType)
def test_every_key_type_has_an_expression_of_sql(key_type: KeyType) -> None:
    written = slot_sql(key_type).format(key="k", seed=1)
    assert written.startswith(("pg_catalog.", "CASE WHEN k IS NOT NULL THEN pg_catalog."))


PAIR = (KeyType.INT8, KeyType.TEXT)


def test_a_composite_key_has_its_bucket_from_all_parts_and_its_slot_from_the_first() -> None:
    keys: list[Key] = [(1, "a"), (1, "b"), (2, "a")]
    assert len({bucket_number(key, PAIR, 2**31 - 1) for key in keys}) == 3
    assert [slot(key, PAIR) for key in keys] == [slot(part, KeyType.INT8) for part in (1, 1, 2)]
    assert distribution_part((1, "a"), PAIR) == 1


@pytest.mark.parametrize(
    ("key", "key_types"),
    [
        (1, PAIR),
        ((1,), PAIR),
        ((1, "a", "b"), PAIR),
        (("a", 1), PAIR),
        ((1, None), PAIR),
        ([1, "a"], PAIR),
        ((1,), KeyType.INT8),
        ((1, "a"), KeyType.INT8),
    ],
)
def test_a_key_of_other_parts_is_refused(key: Key, key_types: KeyTypes) -> None:
    with pytest.raises(InvalidInput) as refusal:
        bucket_number(key, key_types, 48)
    assert refusal.value.field == "key"
    if key != (1, None):
        with pytest.raises(InvalidInput):
            slot(key, key_types)


@pytest.mark.parametrize("key_types", [KeyType.BYTEA, PAIR])
def test_key_types_are_written_and_read(key_types: KeyTypes) -> None:
    assert parse_key_types(key_types_text(key_types)) == key_types
    with pytest.raises(ValueError, match="int9"):
        parse_key_types("int9")
