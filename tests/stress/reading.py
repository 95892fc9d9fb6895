"""Reads both servers when nobody writes: what the owners hold, and where the two differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.topology.keys import SLOT_SEED, slot_sql
from tests.stress.bucket import BUCKETS, KEY_TYPE, TABLES, family_keys, hot_keys, many_keys, tokens
from tests.stress.checker import Contents
from tests.stress.history import Kind, Subject

Connection = psycopg.Connection[tuple[Any, ...]]

_OWNED = sql.SQL(" WHERE ({} & 1023) BETWEEN %s AND %s").format(
    sql.SQL(slot_sql(KEY_TYPE)).format(key=sql.Identifier("key"), seed=sql.Literal(SLOT_SEED))
)


def starts() -> dict[Subject, int]:
    """Where every subject stands in a new fleet."""
    counters = [Subject(Kind.COUNTER, key) for key in (*hot_keys(), *many_keys(), *family_keys())]
    families = [Subject(Kind.FAMILY, key) for key in family_keys()]
    return dict.fromkeys([*counters, *families, *(Subject(Kind.TOKEN, number) for number, _ in tokens())], 0)


def owned(pair: ShardPair, bound: int) -> Contents:
    """What each key's owner holds: the target the slots below ``bound``, the source the rest."""
    counters: dict[int, int] = {}
    events: Counter[UUID] = Counter()
    parents: dict[int, int] = {}
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)
    standing: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for shard, slots in ((pair.target, (0, bound - 1)), (pair.source, (bound, 1023))):
        with psycopg.connect(shard.superuser_dsn, autocommit=True) as conn:
            for bucket in _present(conn):
                counters.update(_rows(conn, "SELECT key, value FROM {}.counter", bucket, slots))
                events.update(
                    dict(_rows(conn, "SELECT op, count(*) FROM {}.event", bucket, slots, " GROUP BY op"))
                )
                parents.update(_rows(conn, "SELECT key, version FROM {}.parent", bucket, slots))
                for key, number, version in _rows(
                    conn, "SELECT key, number, version FROM {}.child", bucket, slots
                ):
                    children[key].append((number, version))
                for number, key, moves in _rows(conn, "SELECT id, key, moves FROM {}.token", bucket, slots):
                    standing[number].append((key, moves))
    return Contents(counters, events, parents, children, standing)


def differences(pair: ShardPair) -> list[str]:
    """Every table whose rows are not the same on both servers, with the number of rows that differ."""
    found = []
    with (
        psycopg.connect(pair.source.superuser_dsn, autocommit=True) as source,
        psycopg.connect(pair.target.superuser_dsn, autocommit=True) as target,
    ):
        for bucket in BUCKETS:
            for table in TABLES:
                name = sql.Identifier(bucket, table)
                if _digest(source, name) != _digest(target, name):
                    differing = len(_all(source, name) ^ _all(target, name))
                    found.append(f"{bucket}.{table}: {differing} row versions stand on one side only")
    return found


def schemas(shard: ShardDatabase) -> list[str]:
    """The buckets that stand on this shard."""
    with psycopg.connect(shard.superuser_dsn, autocommit=True) as conn:
        return _present(conn)


def _present(conn: Connection) -> list[str]:
    rows = conn.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s) ORDER BY 1", (list(BUCKETS),)
    )
    return [str(name) for (name,) in rows]


def _rows(
    conn: Connection, query: LiteralString, bucket: str, slots: tuple[int, int], after: LiteralString = ""
) -> list[tuple[Any, ...]]:
    statement = sql.SQL(query).format(sql.Identifier(bucket)) + _OWNED + sql.SQL(after)
    return conn.execute(statement, slots).fetchall()


def _digest(conn: Connection, table: sql.Identifier) -> tuple[Any, ...] | None:
    query = "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {} t"
    return conn.execute(sql.SQL(query).format(table)).fetchone()


def _all(conn: Connection, table: sql.Identifier) -> set[str]:
    return {str(row) for (row,) in conn.execute(sql.SQL("SELECT t::text FROM {} t").format(table))}
