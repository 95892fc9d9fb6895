"""What the first message of a transaction says."""

from __future__ import annotations

from uuid import UUID

import pytest

from foreshard.router.opening import Addressing, Isolation, Opening
from foreshard.topology.keys import KeyType, Part
from foreshard.topology.routing_map import Route

ROUTE = Route('b"1', "source", None, None, None)


@pytest.mark.parametrize(
    ("key", "key_type", "said"),
    [
        (-(2**63), KeyType.INT8, "CAST( -9223372036854775808 AS int8)"),
        ("it's", KeyType.TEXT, "CAST('it''s' AS text)"),
        ("a\\b", KeyType.TEXT, "CAST( E'a\\\\b' AS text)"),
        (b"\x00'", KeyType.BYTEA, "CAST(E'\\\\x0027' AS bytea)"),
        (UUID(int=1), KeyType.UUID, "AS uuid)"),
    ],
)
def test_keys_are_quoted_for_any_server(key: Part, key_type: KeyType, said: str) -> None:
    begin, asked = Opening(ROUTE, key, key_type, read_only=False, ask_owner=True).statements()
    assert begin == "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
    assert asked.startswith("SELECT foreshard.assert_owner(CAST('b\"1' AS text), CAST(")
    assert said in asked


def test_a_bucket_is_the_whole_search_path() -> None:
    opening = Opening(
        ROUTE, 1, KeyType.INT8, True, False,
        isolation=Isolation.REPEATABLE_READ, addressing=Addressing.SEARCH_PATH,
    )  # fmt: skip
    assert opening.statements() == [
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        'SET LOCAL search_path = "b""1", pg_temp',
    ]
    assert not opening.plain


def test_a_read_asks_and_sets_in_one_statement() -> None:
    opening = Opening(ROUTE, 1, KeyType.INT8, True, True, addressing=Addressing.SEARCH_PATH)
    assert opening.preface() == (
        "SELECT foreshard.assert_owner(CAST('b\"1' AS text), CAST(1 AS int8)),"
        " pg_catalog.set_config('search_path', '\"b\"\"1\", pg_temp', true)"
    )
