"""A word on a table that the description does not name: which column could be its distribution column, if any."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from foreshard.postgres.bucket_tables import Column, Table
from foreshard.postgres.key_types import fits
from foreshard.topology.keys import KeyType

MOST = 3
"""Columns that are suggested, best first."""


@dataclass(frozen=True)
class Suggestion:
    """What is said of one table. ``columns``: names that could be its distribution column, best first."""

    columns: tuple[str, ...]
    why: str
    remedy: str


@dataclass(frozen=True)
class _Candidate:
    column: Column
    distributes: tuple[str, ...]
    """Described tables whose distribution column has this name."""
    shared: int
    """Other tables that have a column of this name."""
    leads: bool
    in_key: bool

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, int]:
        return bool(self.distributes), self.column.not_null, self.leads, self.in_key, self.shared

    @property
    def known_elsewhere(self) -> bool:
        return bool(self.distributes) or self.shared > 0

    def words(self) -> str:
        """Why this column."""
        place = "leads the primary key" if self.leads else "is in the primary key" if self.in_key else ""
        if self.distributes:
            elsewhere = f"distributes {' and '.join(self.distributes[:2])}"
        elif self.shared:
            elsewhere = f"is in {self.shared} other table{'s' if self.shared > 1 else ''}, too"
        else:
            elsewhere = ""
        null = "is NOT NULL" if self.column.not_null else "may be NULL"
        return f"{self.column.name} ({', '.join(part for part in (null, place, elsewhere) if part)})"


def suggest(
    table: Table, described: Mapping[str, str], neighbours: Mapping[str, Collection[str]], key_type: KeyType
) -> Suggestion:
    """``described``: distribution column by table. ``neighbours``: the columns of the bucket's other tables."""
    candidates = sorted(
        (
            _Candidate(
                column,
                tuple(sorted(name for name, by in described.items() if by == column.name)),
                sum(column.name in columns for columns in neighbours.values()),
                table.primary_key[:1] == (column.name,),
                column.name in table.primary_key,
            )
            for column in table.columns
            if fits(column.type, key_type) and not column.generated
        ),
        key=lambda one: one.rank,
        reverse=True,
    )
    good = [one for one in candidates if one.known_elsewhere or one.leads]
    if not any(one.known_elsewhere for one in good):
        return _reference(table, good, described, key_type)
    good = [one for one in good if one.known_elsewhere][:MOST]
    why = f"is not in [tables]; its distribution column could be {_or([one.words() for one in good])}"
    return Suggestion(tuple(one.column.name for one in good), why, _steps(table, good[0]))


def _steps(table: Table, best: _Candidate) -> str:
    name = best.column.name
    steps = []
    if not best.column.not_null:
        by_key = "" if table.primary_key else " (the primary key that it lacks does that)"
        steps.append(f"ALTER TABLE … ALTER {name} SET NOT NULL{by_key}")
    steps.append(f'add {table.name} = "{name}" to [tables] if its rows belong to that key')
    text = ", then ".join(steps)
    if table.primary_key and not best.in_key:
        text += f"; it will move only as a whole, for its primary key does not hold {name}"
    return f"{text[0].upper()}{text[1:]}."


def _reference(
    table: Table, leading: list[_Candidate], described: Mapping[str, str], key_type: KeyType
) -> Suggestion:
    columns = sorted(set(described.values()))
    why = (
        f"is not in [tables] and looks like a reference table: no column of it is called {_or(columns)},"
        f" or is shared with another table and fits {key_type}"
    )
    remedy = (
        f"Move it out of the buckets (a schema of its own on every shard, same rows everywhere), or add"
        f" {columns[0]} to it and to [tables]."
    )
    if leading:
        name = leading[0].column.name
        remedy += (
            f' Only if {name}, which leads its primary key, is itself such a key: {table.name} = "{name}".'
        )
    return Suggestion(tuple(one.column.name for one in leading), why, remedy)


def _or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
