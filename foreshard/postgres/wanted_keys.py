"""Rows ``t`` of certain keys: the keys as a relation that a query joins, and as its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from foreshard.postgres.column import Column, doubled
from foreshard.postgres.last_word import Key


@dataclass(frozen=True)
class WantedKeys:
    """``columns`` of the key. The query takes one list of text values for each of them (`parameters`)."""

    columns: tuple[Column, ...]

    @property
    def relation(self) -> sql.Composed:
        """What stands in FROM."""
        return sql.SQL("unnest({}) AS wanted ({})").format(
            sql.SQL(", ").join([sql.SQL("%s::text[]")] * len(self.columns)),
            sql.SQL(", ").join(map(sql.Identifier, self._names)),
        )

    @property
    def same(self) -> sql.Composed:
        """That the row is one of them."""
        return sql.SQL(" AND ").join(
            # The type's text comes from the server's own format_type, which quotes what needs it.
            sql.SQL("{} = {}::{}").format(
                column.of_row, sql.Identifier("wanted", name), sql.SQL(doubled(column.type_sql))
            )
            for column, name in zip(self.columns, self._names, strict=True)
        )

    @property
    def as_text(self) -> sql.Composed:
        """The row's key as `parameters` has it: a list of text expressions."""
        return sql.SQL(", ").join(sql.SQL("{}::text").format(column.of_row) for column in self.columns)

    @property
    def _names(self) -> list[str]:
        return [f"k{number}" for number in range(len(self.columns))]


def parameters(keys: Sequence[Key]) -> list[list[str]]:
    """The keys, column by column. There must be one at least."""
    return [list(column) for column in zip(*keys, strict=True)]
