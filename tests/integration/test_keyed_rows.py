"""Rows are written anew exactly as they are on the other server, whatever their columns and names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from foreshard.fleet.throwaway import ShardPair
from foreshard.postgres.connect import Connection
from foreshard.postgres.keyed_rows import KeyedRows, keyed_rows
from foreshard.postgres.pair import Sides, pinned_session
from foreshard.topology.keys import KeyType, slot

BUCKET, TABLE = "100% b", 'of "many" %s'
SCHEMA = """
CREATE SCHEMA "100% b";
CREATE TYPE "100% b".mood AS ENUM ('sad', 'ha|ppy');
CREATE DOMAIN "100% b"."a % share" AS numeric(5, 2) CHECK (VALUE >= 0);
CREATE TABLE "100% b"."of ""many"" %s" (
    "ke%y"   text NOT NULL,
    number   bigint GENERATED ALWAYS AS IDENTITY,
    at       timestamptz NOT NULL,
    "null %" text,
    price    numeric,
    bits     double precision,
    mood     "100% b".mood,
    share    "100% b"."a % share",
    raw      bytea,
    tags     text[],
    doc      json,
    padded   char(5),
    address  inet,
    twice    numeric GENERATED ALWAYS AS (price * 2) STORED,
    PRIMARY KEY ("ke%y", number, at)
) PARTITION BY RANGE (at);
CREATE TABLE "100% b".early PARTITION OF "100% b"."of ""many"" %s" FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE "100% b".late PARTITION OF "100% b"."of ""many"" %s" DEFAULT;
"""
INSERT = """
INSERT INTO "100% b"."of ""many"" %s" ("ke%y", at, "null %", price, bits, mood, share, raw, tags, doc, padded, address)
VALUES ('a''b', '2025-05-05 05:05+02', NULL, 1.00, 0.1::float8 + 0.2::float8, 'ha|ppy', 1.5, '\\x00ff5c',
        '{NULL,"a,\\"b",""}', '{"b":  1, "a": null}', 'x', '10.0.0.1'),
       ('tab\there', '2026-06-06 06:06Z', '', 'NaN', '-Infinity', NULL, NULL, '', '{}', 'null', '', '::1/64')
"""


@pytest.fixture
def sessions(shard_pair: ShardPair) -> Iterator[Sides[Connection]]:
    for shard in (shard_pair.source, shard_pair.target):
        with shard.connect() as conn:
            conn.execute(SCHEMA.encode())
    with shard_pair.source.connect() as conn:
        conn.execute(INSERT.encode())
    with (
        pinned_session(shard_pair.source.superuser_dsn) as source,
        pinned_session(shard_pair.target.superuser_dsn) as target,
    ):
        target.execute("SET default_transaction_read_only = off")
        yield Sides(source, target)


def rows_of(sessions: Sides[Connection]) -> KeyedRows:
    return keyed_rows(sessions, BUCKET, TABLE, "ke%y", KeyType.TEXT)


def keys_of(session: Connection) -> list[tuple[str, ...]]:
    rows = session.execute(b'SELECT "ke%y", number::text, at::text FROM "100% b"."of ""many"" %s" ORDER BY 1')
    return [tuple(row) for row in rows]


def test_rows_are_the_same_afterwards(sessions: Sides[Connection]) -> None:
    rows, keys = rows_of(sessions), keys_of(sessions.source)
    assert len(keys) == 2
    assert "twice" not in rows.columns
    theirs = rows.read(sessions.source, keys)
    assert {key: row.slot for key, row in theirs.items()} == {key: slot(key[0], KeyType.TEXT) for key in keys}
    assert rows.read(sessions.target, keys) == {}
    assert rows.read(sessions.target, []) == {}
    for _ in range(2):  # missing, then there already
        with sessions.target.transaction():
            rows.lock(sessions.target)
            rows.rewrite(sessions.source, sessions.target, keys)
        assert rows.read(sessions.target, keys) == theirs
    everything = b'SELECT t::text, tableoid::regclass::text FROM "100% b"."of ""many"" %s" t ORDER BY 1'
    copies = [session.execute(everything).fetchall() for session in (sessions.source, sessions.target)]
    assert copies[0] == copies[1]  # generated columns and partitions, too
    sessions.target.execute(b'UPDATE "100% b"."of ""many"" %s" SET "null %" = \'\' WHERE "null %" IS NULL')
    changed = rows.read(sessions.target, keys, cut=3)
    wrong = {
        name
        for key in keys
        for name, one, other in zip(rows.columns, theirs[key].digests, changed[key].digests, strict=True)
        if one != other
    }
    assert wrong == {"null %"}
    values = changed[keys[0]].values
    assert values is not None
    assert dict(zip(rows.columns, values, strict=True))["mood"] == "ha|"  # cut


def test_a_ghost_goes(sessions: Sides[Connection]) -> None:
    rows, keys = rows_of(sessions), keys_of(sessions.source)
    with sessions.target.transaction():
        rows.rewrite(sessions.source, sessions.target, keys)
        sessions.target.execute(b'UPDATE "100% b"."of ""many"" %s" SET "ke%y" = \'ghost\' WHERE mood IS NULL')
    (ghost,) = set(keys_of(sessions.target)) - set(keys)
    with sessions.target.transaction():
        rows.rewrite(sessions.source, sessions.target, [ghost])
    assert rows.read(sessions.target, [ghost]) == {}
    assert len(keys_of(sessions.target)) == 1  # nothing else was touched
