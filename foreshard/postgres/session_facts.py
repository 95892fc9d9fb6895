"""How the sessions of a comparison really print values, and how their databases order text, for the evidence.

A session is pinned when it is opened. A pooler may forget that, and a role's or a database's own settings may come
in between: so what holds is read from the very sessions that have read the rows, when they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foreshard.postgres.connect import Connection, sql_file
from foreshard.postgres.pair import PINNED_SETTINGS, Pair

SERVER_FACTS = ("client_encoding", "integer_datetimes", "server_encoding")
"""What a session cannot choose or leaves alone, and what decides about bytes all the same: both sides' are the same."""

SESSION_FACTS: Sequence[str] = (*PINNED_SETTINGS, *SERVER_FACTS)

DATABASE_FACTS = ("collation provider", "collation", "character type", "locale", "collation version")
"""How a database orders text where a column names no collation. Digests do not depend on it; indexes, ranges of
partitions and CHECKs do."""


@dataclass(frozen=True)
class SessionFact:
    """One setting of one pair of sessions. ``wanted``: the pinned value, else the source's. None: not known there."""

    session: int
    setting: str
    wanted: str | None
    source: str | None
    target: str | None


@dataclass(frozen=True)
class DatabaseFact:
    """One fact of both databases; '' where there is none."""

    name: str
    source: str
    target: str


def session_facts(sources: Sequence[Connection], targets: Sequence[Connection]) -> list[SessionFact]:
    """Every setting of every pair of sessions; a side that has fewer has no values."""
    read = [[_settings(session) for session in side] for side in (sources, targets)]
    found = []
    for number in range(max(map(len, read))):
        source, target = (side[number] if number < len(side) else {} for side in read)
        for setting in SESSION_FACTS:
            wanted = PINNED_SETTINGS.get(setting, source.get(setting))
            found.append(SessionFact(number, setting, wanted, source.get(setting), target.get(setting)))
    return found


def database_facts(pair: Pair) -> list[DatabaseFact]:
    """How both databases order text."""

    def read(session: Connection) -> Mapping[str, str]:
        row = session.execute(sql_file("catalog_database.sql")).fetchone()
        assert row is not None  # a session has a database
        return dict(zip(DATABASE_FACTS, row, strict=True))

    found = pair.both(read)
    return [DatabaseFact(name, found.source[name], found.target[name]) for name in DATABASE_FACTS]


def _settings(session: Connection) -> dict[str, str]:
    rows = session.execute(
        "SELECT name, current_setting(name, true) FROM unnest(%s::text[]) AS s (name)", [list(SESSION_FACTS)]
    )
    return dict(rows.fetchall())
