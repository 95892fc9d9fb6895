"""Which columns can hold keys of a fleet."""

from __future__ import annotations

from collections.abc import Mapping

from foreshard.topology.keys import KeyType

_FITS: Mapping[KeyType, frozenset[str]] = {
    KeyType.INT2: frozenset({"int2"}),
    KeyType.INT4: frozenset({"int2", "int4"}),
    KeyType.INT8: frozenset({"int2", "int4", "int8"}),
    KeyType.TEXT: frozenset({"text", "varchar"}),
    KeyType.UUID: frozenset({"uuid"}),
    KeyType.BYTEA: frozenset({"bytea"}),
}


def fits(column_type: str, key_type: KeyType) -> bool:
    """Whether every value of such a column is a key of that type, and hashed as one. Types by PostgreSQL's names."""
    return column_type in _FITS[key_type]
