"""What tells the rows of a table apart, where two copies of it are compared: their key or, without one, their contents.

Rows without a key are a multiset. Those that print alike are one group, named by the digest of their text, and both
sides must have as many. A changed row is then one that is missing and another that should not be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from psycopg import sql

from foreshard.postgres.column import INTEGERS, Column
from foreshard.postgres.connect import sql_file
from foreshard.postgres.last_word import (
    Key,
    Reading,
    Readings,
    Seen,
    Word,
    last_word,
    last_word_on_group,
    word_at_one_moment,
    word_on_group_at_one_moment,
)
from foreshard.postgres.pair import Sides
from foreshard.postgres.row_text import STRINGS
from foreshard.postgres.wanted_keys import WantedKeys


@dataclass(frozen=True)
class RowParts:
    """SQL of a row ``t`` of ``table``: slot of its distribution key, its text, the chunk that it is in."""

    table: sql.Identifier
    slot: sql.Composable
    text: sql.Composable
    chunk: sql.Composable


class RowIdentity(Protocol):
    """How rows are told apart. Queries give what `Seen` holds, after the name: an array of text."""

    @property
    def leading(self) -> Column | None:
        """The column whose ranges an index serves, if it is an integer."""

    def hashed(self, seed: int) -> sql.Composable:
        """An int8 of what tells a row ``t`` apart, alike on both servers; independent for each seed."""

    def rows_query(self, parts: RowParts, among: sql.Composable) -> sql.Composed:
        """All of ``among`` (what follows ``FROM table AS t``)."""

    def named_query(self, parts: RowParts) -> sql.Composed:
        """Those of some names; takes one list of text values for each part of the name."""

    def last_word(self, key: Key, readings: Readings) -> Word:
        """What a round under writers says of ``key``."""

    def word_at_one_moment(self, key: Key, seen: Sides[Reading], bound: int) -> Word:
        """What two snapshots say of ``key`` between which nothing was under way."""

    def described(self, key: Key, seen: Sides[Seen | None]) -> str:
        """For people, without values other than the key's."""


@dataclass(frozen=True)
class ByKey:
    """Rows have a primary key or a replica identity index, of these columns."""

    columns: tuple[Column, ...]

    @property
    def leading(self) -> Column | None:
        return self.columns[0] if self.columns[0].common_type in INTEGERS else None

    def hashed(self, seed: int) -> sql.Composable:
        return sql.SQL(" # ").join(_column_hash(column, s) for s, column in enumerate(self.columns, seed))

    def rows_query(self, parts: RowParts, among: sql.Composable) -> sql.Composed:
        return sql_file("digests_rows.sql").format(
            key=WantedKeys(self.columns).as_text, among=among, **vars(parts)
        )

    def named_query(self, parts: RowParts) -> sql.Composed:
        wanted = WantedKeys(self.columns)
        return sql_file("digests_keys.sql").format(
            key=wanted.as_text, wanted=wanted.relation, same_key=wanted.same, **vars(parts)
        )

    def last_word(self, key: Key, readings: Readings) -> Word:
        return last_word(key, readings)

    def word_at_one_moment(self, key: Key, seen: Sides[Reading], bound: int) -> Word:
        return word_at_one_moment(key, seen, bound)

    def described(self, key: Key, seen: Sides[Seen | None]) -> str:
        """``flight_id=12``."""
        del seen
        return ", ".join(f"{column.name}={value}" for column, value in zip(self.columns, key, strict=True))


@dataclass(frozen=True)
class ByContents:
    """Rows have no key. ``text`` is theirs; no index leads to it: each look at some of them reads the whole table."""

    text: sql.Composable
    leading: Column | None = None

    def hashed(self, seed: int) -> sql.Composable:
        return sql.SQL('hashtextextended({} COLLATE "C", {})').format(self.text, sql.Literal(seed))

    def rows_query(self, parts: RowParts, among: sql.Composable) -> sql.Composed:
        return sql_file("digests_groups.sql").format(among=among, **vars(parts))

    def named_query(self, parts: RowParts) -> sql.Composed:
        named = sql.SQL(" WHERE {} = ANY (%s::int8[])").format(self.hashed(0))
        return self.rows_query(parts, named)

    def last_word(self, key: Key, readings: Readings) -> Word:
        return last_word_on_group(key, readings)

    def word_at_one_moment(self, key: Key, seen: Sides[Reading], bound: int) -> Word:
        return word_on_group_at_one_moment(key, seen, bound)

    def described(self, key: Key, seen: Sides[Seen | None]) -> str:
        """``row of digest 1234 (one at ctid (0,7) of the target): 2 on the source, 3 on the target``."""
        here, there = (0 if side is None else side.digest for side in (seen.source, seen.target))
        side, most = ("source", seen.source) if here > there else ("target", seen.target)
        at = f" (one at ctid {most.version.rpartition(' ')[2]} of the {side})" if most else ""
        return f"row of digest {key[0]}{at}: {here} on the source, {there} on the target"


def identity_of(key: Sequence[Column], text: sql.Composable) -> RowIdentity:
    """By ``key``, or by the rows' ``text`` where it is empty."""
    return ByKey(tuple(key)) if key else ByContents(text)


def _column_hash(column: Column, seed: int) -> sql.Composed:
    """As cheap as the type allows. Not by the type's own function for all: enums hash differently on each server."""
    if column.common_type in INTEGERS:
        expression = sql.SQL("hashint8extended({name}, {seed})")
    elif column.common_type in STRINGS:
        expression = sql.SQL('hashtextextended({name} COLLATE "C", {seed})')
    elif column.common_type == "uuid":
        expression = sql.SQL("uuid_hash_extended({name}, {seed})")
    else:
        expression = sql.SQL('hashtextextended(ROW({name})::text COLLATE "C", {seed})')
    return expression.format(name=column.of_row, seed=sql.Literal(seed))
