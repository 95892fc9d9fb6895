"""Rows of the tables of load, from and into arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import psycopg

from foreshard.control.load_levels import Level, moment_of
from foreshard.control.load_sql import statement
from foreshard.load.rollup import Rows, RowsByShard

_SIGNATURE = 19
"""Bytes before the first row of a binary COPY: signature, flags, length of the extension (0)."""

_FIXED = 54
"""Bytes of a row before its first element: count of columns, three columns with their lengths, the array's header."""

_AT_ONCE = 2000
"""Rows of one INSERT."""


ALL = 2**31 - 1
"""Columns: as many as there are."""


@dataclass(frozen=True)
class Row:
    """One row to write; NaN in ``amounts`` is refused by the table, None is a gap."""

    metric: int
    ts: datetime
    shard: int
    live: int
    amounts: Sequence[float | None]


def read(
    conn: psycopg.Connection,
    level: Level,
    metric: int,
    since: datetime,
    until: datetime,
    shards: Sequence[int] | None = None,
    columns: int = ALL,
) -> dict[int, Rows]:
    """The stored rows with ``since`` <= ts < ``until``, by shard: of these shards, the first columns."""
    query = statement("load_rows").format(table=level.table)
    groups: dict[tuple[bytes, int], list[bytes]] = {}
    given: dict[str, object] = {"metric": metric, "since": since, "until": until}
    given |= {"shards": None if shards is None else list(shards), "columns": columns}
    with conn.cursor() as cursor, cursor.copy(query, given) as copy:
        skip = _SIGNATURE
        for message in copy:
            row = bytes(message[skip:])
            skip = 0
            if len(row) > _FIXED:  # not the end
                groups.setdefault((row[6:10], len(row)), []).append(row)
    found: dict[int, list[Rows]] = {}
    while groups:  # each is let go once it is decoded: together they are the larger part
        (number, size), rows = groups.popitem()
        found.setdefault(int.from_bytes(number), []).append(_decode(b"".join(rows), size))
    return {number: _joined(parts) for number, parts in found.items()}


def write(conn: psycopg.Connection, level: Level, metric: int, rows: RowsByShard) -> None:
    """Put means of windows in the place of those that are there."""
    query = statement("load_replace").format(table=level.table)
    for batch in batches(
        [
            Row(metric, moment_of(int(ts)), shard, int(live), amounts)
            for shard, one in sorted(rows.items())
            for ts, live, amounts in zip(one.ts, one.live, _gaps_as_none(one), strict=True)
        ]
    ):
        conn.execute(query, columns(batch))


def batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Parts of ``rows`` that go into one statement each."""
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]


def columns(rows: Sequence[Row]) -> dict[str, list[object]]:
    """Rows as the arrays that the statements unnest."""
    return {
        "metric": [one.metric for one in rows],
        "ts": [one.ts for one in rows],
        "shard": [one.shard for one in rows],
        "live": [one.live for one in rows],
        "amounts": [_literal(one.amounts) for one in rows],
    }


def _literal(amounts: Sequence[float | None]) -> str:
    # An array of arrays of unequal length does not exist in SQL: each goes as the text of one.
    return "{" + ",".join(["NULL" if value is None else repr(value) for value in amounts]) + "}"


def _gaps_as_none(one: Rows) -> Iterator[list[float | None]]:
    for row, gaps in zip(one.values, np.isnan(one.values), strict=True):
        values: list[float | None] = row.tolist()
        for at in np.flatnonzero(gaps):
            values[at] = None
        yield values


def _decode(joined: bytes, size: int) -> Rows:
    width = (size - _FIXED) // 8
    layout = np.dtype(
        {
            "names": ["ts", "live", "elements"],
            "formats": [">i8", ">i4", ([("length", ">i4"), ("value", ">f4")], (width,))],
            "offsets": [14, 26, _FIXED],
            "itemsize": size,
        }
    )
    rows = np.frombuffer(joined, layout)
    values = rows["elements"]["value"].astype(np.float32)
    return Rows(rows["ts"].astype(np.int64), values, rows["live"].astype(np.int64))


def _joined(parts: list[Rows]) -> Rows:
    """One for all, in order of time; an array was longer once the shard knew more buckets."""
    width = max(one.width for one in parts)
    values = [
        np.pad(one.values, ((0, 0), (0, width - one.width)), constant_values=np.float32(np.nan))
        for one in parts
    ]
    ts = np.concatenate([one.ts for one in parts])
    order = np.argsort(ts, kind="stable")
    live = np.concatenate([one.live for one in parts])
    return Rows(ts[order], np.concatenate(values)[order], live[order])
