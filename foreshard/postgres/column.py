"""A column of a table that is compared, and how queries name it.

All of those queries are executed with parameters, be they none: a percent sign in a name is doubled.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from foreshard.postgres.row_text import unmodified

INTEGERS = frozenset({"smallint", "integer", "bigint"})


@dataclass(frozen=True)
class Column:
    """A column; ``type_sql`` as PostgreSQL's ``format_type`` prints it; ``alike``: the other side's is the same."""

    name: str
    type_sql: str
    alike: bool = True

    @property
    def common_type(self) -> str:
        """The type without its modifier, empty where the sides disagree."""
        return unmodified(self.type_sql) if self.alike else ""

    @property
    def of_row(self) -> sql.Identifier:
        """The column of the row ``t``."""
        return of_row(self.name)


def of_row(column: str) -> sql.Identifier:
    """The column of that name of the row ``t``."""
    return sql.Identifier("t", doubled(column))


def doubled(name: str) -> str:
    """For a query that is executed with parameters."""
    return name.replace("%", "%%")
