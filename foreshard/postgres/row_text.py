"""A row as one text, for its digest: equal texts if and only if every column prints alike.

``ROW(a, b, ...)::text`` is such a text, but it looks at every character for quotes, which takes two thirds of a scan's
time. So each column is written so that its end can be told without quotes, and only where the type's text may hold
anything is it left to ROW:

    plain types    text, then |                    NULL: |         their texts hold no |, and are never empty
    strings        length in bytes, :, text        NULL: :
    all others     ROW(column)::text               NULL: ()        quoted within brackets

Types are written by the same output functions in all three.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from psycopg import sql

PLAIN = frozenset(
    {
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "real",
        "double precision",
        "boolean",
        "uuid",
        "bytea",
        "date",
    }
    | {"timestamp without time zone", "timestamp with time zone"}
)
STRINGS = frozenset({"text", "character varying"})
MOST_ARGUMENTS = 100
"""Of one call in PostgreSQL."""

_MODIFIER = re.compile(r"\([0-9,-]+\)")


def row_text(columns: Sequence[tuple[sql.Identifier, str]]) -> sql.Composable:
    """The expression for columns and their types (as ``format_type`` prints them; empty: take it for any type)."""
    parts: list[sql.Composable] = []
    for column, type_sql in columns:
        kind = unmodified(type_sql)
        if kind in PLAIN:
            parts += [column, sql.SQL("'|'")]
        elif kind in STRINGS:
            parts += [sql.SQL("octet_length({})").format(column), sql.SQL("':'"), column]
        else:
            parts.append(sql.SQL("ROW({})::text").format(column))
    return _concatenated(parts)


def unmodified(type_sql: str) -> str:
    """``numeric(8,2)`` without what is in brackets."""
    return _MODIFIER.sub("", type_sql)


def _concatenated(parts: Sequence[sql.Composable]) -> sql.Composable:
    if len(parts) > MOST_ARGUMENTS:
        parts = [
            _concatenated(parts[start : start + MOST_ARGUMENTS])
            for start in range(0, len(parts), MOST_ARGUMENTS)
        ]
    return sql.SQL("concat({})").format(sql.SQL(", ").join(parts))
