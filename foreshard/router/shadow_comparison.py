"""Whether two answers to one read are the same, and where they differ. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

Rows: TypeAlias = Sequence[tuple[Any, ...]]

_NAMED_COLUMNS = 8
_BY_EQUALITY = frozenset({int, str, bytes, bool, type(None), datetime})
"""Types whose equal values are the same. Not so 1.0 and 1.00, 0.0 and -0.0, or what may hold such numbers."""


def same(one: Rows, other: Rows, *, ordered: bool) -> bool:
    """Whether both hold the same rows; their order counts only if ``ordered``.

    Values are compared by ``repr``: it tells 1.0 from 1.00, NaN equals itself, JSON and arrays can be sorted.
    """
    if len(one) != len(other):
        return False
    if one == other and all(type(value) in _BY_EQUALITY for row in one for value in row):
        return True  # most reads end here, for a tenth of what the texts cost
    mine, theirs = [_text(row) for row in one], [_text(row) for row in other]
    return mine == theirs if ordered else sorted(mine) == sorted(theirs)


def difference(one: Rows, other: Rows, *, ordered: bool) -> str:
    """How they differ, in a few words that hold no value of any row: numbers of rows, and columns that differ.

    Columns count from 1. Those of unordered rows are columns whose values, taken together, differ.
    """
    if len(one) != len(other):
        return f"{len(one)} rows at the owner, {len(other)} on the other side"
    mine, theirs = [_text(row) for row in one], [_text(row) for row in other]
    if not ordered:
        mine, theirs = sorted(mine), sorted(theirs)
    rows = sum(a != b for a, b in zip(mine, theirs, strict=True))
    width = len(one[0]) if one else 0
    columns = [
        column + 1
        for column in range(width)
        if _column(mine, column, ordered=ordered) != _column(theirs, column, ordered=ordered)
    ]
    named = ", ".join(map(str, columns[:_NAMED_COLUMNS])) + (", ..." if len(columns) > _NAMED_COLUMNS else "")
    where = f"in columns {named}" if columns else "in how values stand together"
    return f"{rows} of {len(one)} rows differ, {where}"


def _column(rows: list[tuple[str, ...]], column: int, *, ordered: bool) -> list[str]:
    values = [row[column] for row in rows]
    return values if ordered else sorted(values)


def _text(row: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(map(_value, row))


def _value(value: Any) -> str:
    # The served rows may have come from a session with another TimeZone: an instant is an instant.
    if isinstance(value, datetime) and value.tzinfo is not None:
        return repr(value.astimezone(UTC))
    return repr(value)
