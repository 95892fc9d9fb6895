"""Evidence: one SQLite file for each gate run, with what was read on both sides, and what it is about.

Every table has ``bucket`` and ``item``, so that a failed expectation can name what failed. Digests, counts and
definitions are text: nothing between here and the verdict may round them.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from types import TracebackType

from data_checks.scope import Scope
from data_checks.suites import WHOLE_MIGRATION, suites_for
from foreshard.errors import InvalidInput
from foreshard.postgres.catalog import Section

FORMAT = "1"
ABSENT = "absent"
"""Stands where one side does not have the object: never equal to a count, a digest or a definition."""

CLOCK_SLACK_S = 5
"""How far the clock may have been set back since the evidence was complete."""

_ROWS = (
    "chunk INTEGER, source_rows TEXT, source_digest TEXT, target_rows TEXT, target_digest TEXT,"
    " rechecked INTEGER, undecided INTEGER"
)
_SCHEMA = "source_definition TEXT, target_definition TEXT"
_COLUMNS: Mapping[str, str] = {
    "collected": "found INTEGER",
    "differences": "chunk INTEGER, kind TEXT",
    **{f"schema_{section}": _SCHEMA for section in Section},
    "sessions": "setting TEXT, wanted TEXT, source_value TEXT, target_value TEXT",
    "databases": "source_value TEXT, target_value TEXT",
    "sequences": "source_position INTEGER, target_position INTEGER",
    "replication": (
        "enabled INTEGER, running INTEGER, tables INTEGER, tables_not_ready INTEGER, apply_errors INTEGER,"
        " sync_errors INTEGER, slot_active INTEGER, wal_status TEXT, lag_bytes INTEGER"
    ),
    "shadow_reads": "reads INTEGER, matches INTEGER, lags INTEGER, mismatches INTEGER, failures INTEGER",
    "source_tables": (
        "kind TEXT, persistence TEXT, forced_row_security INTEGER, has_replica_identity INTEGER"
    ),
    "target_leftovers": "relations INTEGER",
    "own_suites": (
        "evaluated INTEGER NOT NULL, critical TEXT NOT NULL, warning TEXT NOT NULL,"
        " CHECK ((critical = '-') <> (warning = '-'))"
    ),
}


class EvidenceWriter:
    """Writes the file at ``path``. Used as a context manager; until it is left without an error nothing stands.

    ``begun_at`` (UTC) is when reading began. How old the evidence is counts from when it was complete: what a scan of
    large tables takes cannot be too long, and definitions, sequences and streams are read after the rows. Both times
    stand in it.
    """

    def __init__(self, path: Path, scope: Scope, begun_at: datetime) -> None:
        if path.exists():
            raise InvalidInput("path", f"{path} exists; evidence is never written over")
        self._path = path
        self._scope = scope
        self._begun_at = begun_at
        self._half = path.with_name(path.name + ".part")
        self._half.unlink(missing_ok=True)
        self._database = sqlite3.connect(self._half)
        self._tables = [suite.table for suite in suites_for(scope)]
        for table in self._tables:
            columns = _ROWS if table.startswith("rows_") else _COLUMNS[table]
            self._database.execute(f"CREATE TABLE {_quoted(table)} (bucket TEXT, item TEXT, {columns})")

    def add(self, table: str, rows: Iterable[Sequence[object]]) -> None:
        """Rows of one table: bucket, item, then its columns in order."""
        left = iter(rows)
        for first in left:
            places = ", ".join("?" * len(first))
            self._database.executemany(
                f"INSERT INTO {_quoted(table)} VALUES ({places})", chain([first], left)
            )

    def __enter__(self) -> EvidenceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with closing(self._database):
            if error is None:
                self._write_collected()
                self._write_meta()
                self._database.commit()
        if error is None:
            self._half.rename(self._path)
        else:
            self._half.unlink(missing_ok=True)

    def _write_collected(self) -> None:
        for table in self._tables:
            if table not in WHOLE_MIGRATION and table != "collected":
                found = _found(self._database, table)
                self.add("collected", [(bucket, table, found[bucket]) for bucket in self._scope.buckets])

    def _write_meta(self) -> None:
        facts = {
            **_identity(self._scope),
            "begun_at": self._begun_at.isoformat(),
            "made_at": datetime.now(UTC).isoformat(),
        }
        self._database.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        self._database.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())


@dataclass(frozen=True)
class Times:
    """When reading the evidence began, and when it was complete. UTC."""

    begun_at: datetime
    made_at: datetime


def times(path: Path) -> Times | None:
    """When the evidence was made; None if it does not say."""
    try:
        with closing(_open(path)) as database:
            return _times(_meta(database))
    except sqlite3.Error:
        return None


def age(made_at: str) -> timedelta:
    """How long ago evidence was complete. Raises `ValueError` for what is no time of a zone."""
    moment = datetime.fromisoformat(made_at)
    if moment.tzinfo is None:
        raise ValueError(f"{made_at} is in no time zone")
    return datetime.now(UTC) - moment


def problems(path: Path, scope: Scope, time_to_live: timedelta, now: datetime | None = None) -> list[str]:
    """Why this file is no evidence for this scope at ``now`` (default: the real time); empty if it is."""
    if not path.is_file():
        return [f"there is no file {path.name}"]
    try:
        with closing(_open(path)) as database:
            (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                return [f"it cannot be read: {sound}"]
            made = _times(_meta(database))
            return [
                *_identity_problems(database, scope),
                *_table_problems(database, scope),
                *_age_problems(made, time_to_live, now or datetime.now(UTC)),
            ]
    except sqlite3.Error as error:
        return [f"it cannot be read: {error}"]


def sha256(path: Path) -> str:
    """Hash of the file, by which a verdict names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identity(scope: Scope) -> dict[str, str]:
    return {
        "format": FORMAT,
        "migration": str(scope.migration),
        "flip": str(scope.flip),
        "marker": scope.marker,
        "checkpoint": scope.checkpoint.value,
        "own_suites": "; ".join(map(str, scope.own)) or "none",
    }


def _identity_problems(database: sqlite3.Connection, scope: Scope) -> list[str]:
    have = _meta(database)
    return [
        f"its {key} is {have.get(key, 'missing')}, not {wanted}"
        for key, wanted in _identity(scope).items()
        if have.get(key) != wanted
    ]


def _table_problems(database: sqlite3.Connection, scope: Scope) -> list[str]:
    """Missing tables, and tables that lost or won rows since they were written."""
    there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    tables = [suite.table for suite in suites_for(scope)]
    missing = [f"it has no table {table}" for table in tables if table not in there]
    if missing:
        return missing
    found = []
    for table in tables:
        written = Counter(
            dict(database.execute("SELECT bucket, found FROM collected WHERE item = ?", [table]).fetchall())
        )
        if table != "collected" and table not in WHOLE_MIGRATION and +written != _found(database, table):
            found.append(f"{table} does not hold the rows that were collected")
    return found


def _age_problems(made: Times | None, time_to_live: timedelta, now: datetime) -> list[str]:
    if made is None:
        return ["it does not say when it was made"]
    old = now - made.made_at
    if old > time_to_live:
        return [
            f"it is {old.total_seconds():.0f} s old and may be {time_to_live.total_seconds():.0f} s"
            " (migration.gate_ttl_s)"
        ]
    if made.made_at < made.begun_at:
        return ["it was complete before it was begun"]
    # A clock that went back must not make evidence last longer.
    return ["it was made in the future"] if old < timedelta(seconds=-CLOCK_SLACK_S) else []


def _times(meta: Mapping[str, str]) -> Times | None:
    try:
        times = Times(*(datetime.fromisoformat(meta.get(key, "")) for key in ("begun_at", "made_at")))
    except ValueError:
        return None
    return times if times.begun_at.tzinfo and times.made_at.tzinfo else None


def _meta(database: sqlite3.Connection) -> dict[str, str]:
    return dict(database.execute("SELECT key, value FROM meta").fetchall())


def _found(database: sqlite3.Connection, table: str) -> Counter[str]:
    return Counter(
        dict(database.execute(f"SELECT bucket, count(*) FROM {_quoted(table)} GROUP BY 1").fetchall())
    )


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _quoted(table: str) -> str:
    return '"' + table.replace('"', '""') + '"'
