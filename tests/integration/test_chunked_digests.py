"""Tables of every shape on two real servers, without streams: chunks, pieces, re-checks name exactly what differs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from foreshard.postgres import chunks, digest_scan, recheck, table_shape
from foreshard.postgres.chunks import ByHash, ByRange
from foreshard.postgres.connect import Connection
from foreshard.postgres.digests import CheckedTable, TableComparison, TableProgress, compare_tables
from foreshard.postgres.pair import pinned_session
from foreshard.postgres.row_text import row_text
from foreshard.postgres.snapshot_pair import SnapshotPair
from foreshard.postgres.table_shape import read_shape
from foreshard.topology.keys import KeyType

if TYPE_CHECKING:
    from tests.integration.conftest import ShardPair

ROWS = 400
LOW, HIGH = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True)
class Bare:
    """Two databases that nothing connects."""

    source: str
    target: str

    def run(self, *statements: str, only: str | None = None) -> None:
        for conninfo in (self.source, self.target) if only is None else (only,):
            with psycopg.connect(conninfo, autocommit=True) as conn:
                for statement in statements:
                    conn.execute(statement.encode())

    def compare(
        self, bucket: str = "b0", table: str = "t", column: str = "k", **more: Any
    ) -> TableComparison:
        checked = CheckedTable(bucket, table, column, KeyType.INT8)
        (compared,) = compare_tables(
            self.source, self.target, [checked], bound=lambda: 0, drain=lambda: None, **more
        )
        return compared


@pytest.fixture
def bare(shard_pair: ShardPair) -> Bare:
    return Bare(shard_pair.source.superuser_dsn, shard_pair.target.superuser_dsn)


@pytest.fixture(autouse=True)
def small_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a table of some hundred rows has many chunks and pieces."""
    monkeypatch.setattr(chunks, "ROWS_PER_CHUNK", 10)
    monkeypatch.setattr(chunks, "PIECE_BYTES", 8192)


@dataclass(frozen=True)
class Shape:
    """A table: columns, key, SQL of the columns for n = 1..ROWS, how key n is named, ghosts (SQL, name)."""

    columns: str
    key: str
    row: str
    named: Callable[[int], str]
    ghosts: tuple[tuple[str, str], ...]


SHAPES = {
    "int8": Shape("k int8", "k", "n", "k={}".format, (("-5", "k=-5"), (f"{10**18}", f"k={10**18}"))),
    "int8 over its whole range": Shape(
        "k int8",
        "k",
        f"CASE n WHEN 1 THEN {LOW} WHEN 2 THEN {HIGH} ELSE n - 200 END",
        lambda n: f"k={ {1: LOW, 2: HIGH}.get(n, n - 200) }",
        ((f"{LOW + 1}", f"k={LOW + 1}"), (f"{HIGH - 1}", f"k={HIGH - 1}"), ("-200000", "k=-200000")),
    ),
    "int2": Shape("k int2", "k", "-n", "k=-{}".format, (("-32768", "k=-32768"), ("32767", "k=32767"))),
    "few leading values": Shape(
        "k int4, part text",
        "k, part",
        "mod(n, 3) - 1, 'p' || n",
        lambda n: f"k={n % 3 - 1}, part=p{n}",
        (("0, ''", "k=0, part="), ("77, 'p1'", "k=77, part=p1")),
    ),
    "text and numeric": Shape(
        "part text, price numeric, k int8 DEFAULT 1",
        "part, price",
        "'p' || mod(n, 7), round(n / 10.0, 1)",
        lambda n: f"part=p{n % 7}, price={n // 10}.{n % 10}",
        (("'ü'' \"%', -1.50", "part=ü' \"%, price=-1.50"),),
    ),
    "uuid": Shape(
        "id uuid, k int8 DEFAULT 1",
        "id",
        "md5(n::text)::uuid",
        lambda n: f"id={UUID(hashlib.md5(str(n).encode()).hexdigest())}",
        (
            (f"'{UUID(int=0)}'", f"id={UUID(int=0)}"),
            (f"'{UUID(int=2**128 - 1)}'", f"id={UUID(int=2**128 - 1)}"),
        ),
    ),
}


def fill(bare: Bare, shape: Shape, partitions: tuple[str, str] = ("", "")) -> None:
    for conninfo, by in zip((bare.source, bare.target), partitions, strict=True):
        bare.run(
            "CREATE SCHEMA b0",
            f"CREATE TABLE b0.t ({shape.columns}, note text DEFAULT repeat('x', 200), PRIMARY KEY ({shape.key}))"
            + (f" PARTITION BY {by}" if by else ""),
            *PARTITIONS.get(by, ()),
            f"INSERT INTO b0.t ({shape.key}) SELECT {shape.row} FROM generate_series(1, {ROWS}) AS n",
            "ANALYZE b0.t",
            only=conninfo,
        )


PARTITIONS = {
    "HASH (k)": [
        f"CREATE TABLE b0.h{n} PARTITION OF b0.t FOR VALUES WITH (MODULUS 3, REMAINDER {n})" for n in range(3)
    ],
    "RANGE (k)": [
        "CREATE TABLE b0.some PARTITION OF b0.t FOR VALUES FROM (0) TO (1000)",
        "CREATE TABLE b0.others PARTITION OF b0.t DEFAULT PARTITION BY RANGE (k)",
        "CREATE TABLE b0.below PARTITION OF b0.others FOR VALUES FROM (MINVALUE) TO (0)",
        "CREATE TABLE b0.rest PARTITION OF b0.others DEFAULT",
    ],
}


def assert_names_every_fault(bare: Bare, shape: Shape) -> None:
    equal = bare.compare()
    assert (equal.rows, equal.rechecked, equal.differences) == (ROWS, 0, ())
    change, lose = 3, 177
    with psycopg.connect(bare.target, autocommit=True) as conn:
        keys = conn.execute(f"SELECT {shape.row} FROM generate_series(1, {ROWS}) AS n".encode()).fetchall()
        where = " AND ".join(f"{name} = %s" for name in shape.key.split(", "))
        conn.execute(f"UPDATE b0.t SET note = note || 'y' WHERE {where}".encode(), keys[change - 1])
        conn.execute(f"DELETE FROM b0.t WHERE {where}".encode(), keys[lose - 1])
        for values, _ in shape.ghosts:
            conn.execute(f"INSERT INTO b0.t ({shape.key}) VALUES ({values})".encode())
    compared = bare.compare()
    assert {(row.key, str(row.kind)) for row in compared.differences} == {
        (shape.named(change), "changed"),
        (shape.named(lose), "missing"),
        *((name, "ghost") for _, name in shape.ghosts),
    }
    assert compared.undecided == 0
    bad = {row.chunk for row in compared.differences}
    for chunk in compared.chunks:
        same = (chunk.source_rows, chunk.source_digest) == (chunk.target_rows, chunk.target_digest)
        assert same == (chunk.chunk not in bad)


@pytest.mark.parametrize("name", SHAPES)
def test_every_fault_is_named_whatever_the_key(bare: Bare, name: str) -> None:
    fill(bare, SHAPES[name])
    assert_names_every_fault(bare, SHAPES[name])


def test_every_fault_is_named_in_partitions_that_differ(bare: Bare) -> None:
    fill(bare, SHAPES["int8"], ("HASH (k)", "RANGE (k)"))
    assert_names_every_fault(bare, SHAPES["int8"])


def test_several_sessions_find_what_one_finds(bare: Bare) -> None:
    fill(bare, SHAPES["int8"])
    bare.run("DELETE FROM b0.t WHERE k = 9", only=bare.target)
    told: list[TableProgress] = []
    alone, together = bare.compare(), bare.compare(workers=3, progress=told.append)
    assert alone == together
    assert (told[0].done, told[-1].done, told[-1].rows) == (0, told[-1].total, ROWS)
    assert len(told) > 10  # pieces
    assert [step.done for step in told] == sorted(step.done for step in told)


def test_empty_tables_and_a_ghost_in_one(bare: Bare) -> None:
    bare.run("CREATE SCHEMA b0", "CREATE TABLE b0.t (k int8 PRIMARY KEY)")
    assert bare.compare().rows == 0
    bare.run(f"INSERT INTO b0.t VALUES ({LOW})", only=bare.target)
    (ghost,) = bare.compare().differences
    assert (ghost.key, ghost.kind) == (f"k={LOW}", "ghost")


def test_names_with_quotes_and_percent_signs(bare: Bare) -> None:
    names = {"bucket": 'b"0%s', "table": "T% 'x", "key": 'k%"\n', "other": "100%%(d)s"}
    quoted = {name: sql.Identifier(value).as_string(None) for name, value in names.items()}
    bare.run(
        "CREATE SCHEMA {bucket}".format(**quoted),
        "CREATE TABLE {bucket}.{table} ({key} int8 PRIMARY KEY, {other} text)".format(**quoted),
        "INSERT INTO {bucket}.{table} SELECT n, '%s' FROM generate_series(1, 300) n".format(**quoted),
        "ANALYZE",
    )
    bare.run("UPDATE {bucket}.{table} SET {other} = '%d' WHERE {key} = 7".format(**quoted), only=bare.target)
    (changed,) = bare.compare(names["bucket"], names["table"], names["key"]).differences
    assert (changed.key, changed.kind) == ('k%"\n=7', "changed")


def test_rows_that_swapped_their_values_are_noticed(bare: Bare) -> None:
    """Both in one chunk: a digest that is linear in the columns, as hash_record is, adds up to the same."""
    bare.run("CREATE SCHEMA b0", "CREATE TABLE b0.t (k int8 PRIMARY KEY, n int4)")
    bare.run("INSERT INTO b0.t VALUES (1, 10), (2, 20)", only=bare.source)
    bare.run("INSERT INTO b0.t VALUES (1, 20), (2, 10)", only=bare.target)
    assert {row.key for row in bare.compare().differences} == {"k=1", "k=2"}
    sums = []
    for conninfo in (bare.source, bare.target):
        with psycopg.connect(conninfo) as conn:
            sums.append(conn.execute("SELECT sum(hash_record_extended(ROW(k, n), 0)) FROM b0.t").fetchone())
    assert sums[0] == sums[1], "this is why a row's hash is not that of the record"


def test_different_rows_have_different_texts(bare: Bare) -> None:
    """Of columns side by side, with values that look like what stands between columns."""
    strings = ["", "1", ":", "1:", "|", "0:", "()", '("")', "12", "2", "\\", ",", "NULL", "é"]
    columns = {
        "text": "text",
        "n": "integer",
        "short": "character varying(9)",
        "list": "text[]",
        "price": "numeric",
        "more": "text",
    }
    values = [f"({literal})" for literal in ["NULL", *(f"'{text}'" for text in strings)]]
    query = sql.SQL("""
        WITH s (v) AS (VALUES {strings}),
             t AS (SELECT a.v::text AS text, n::int4 AS n, b.v::varchar(9) AS short, ARRAY[a.v, b.v] AS list,
                          p::numeric AS price, c.v::text AS more
                     FROM s AS a, (VALUES (NULL), (0), (1), (12)) AS n (n), s AS b,
                          (VALUES (NULL), (1.0), (1.00), ('NaN')) AS p (p), s AS c)
        SELECT count(*), count(DISTINCT ROW(t.*)::text), count(DISTINCT {text} COLLATE "C") FROM t
    """).format(
        strings=sql.SQL(", ".join(values)),  # type: ignore[arg-type]
        text=row_text([(sql.Identifier("t", name), kind) for name, kind in columns.items()]),
    )
    with pinned_session(bare.source) as session:
        row = session.execute(query).fetchone()
    assert row is not None
    count, by_row, by_ours = row
    assert count == by_row == by_ours > 50_000


def test_a_table_of_very_many_columns(bare: Bare) -> None:
    bare.run(
        "CREATE SCHEMA b0",
        f"CREATE TABLE b0.t (k int8 PRIMARY KEY, {', '.join(f'c{n} text' for n in range(400))})",
        "INSERT INTO b0.t (k, c399) SELECT n, 'x' FROM generate_series(1, 50) n",
    )
    assert bare.compare().rechecked == 0
    bare.run("UPDATE b0.t SET c398 = 'x', c399 = NULL WHERE k = 9", only=bare.target)
    assert [row.key for row in bare.compare().differences] == ["k=9"]


def test_a_digest_that_ignores_a_column_would_be_noticed(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: the tests above fail if the digest leaves something out."""
    fill(bare, SHAPES["int8"])
    monkeypatch.setattr(table_shape, "row_text", lambda columns: row_text(columns[:-1]))
    with pytest.raises(AssertionError):
        assert_names_every_fault(bare, SHAPES["int8"])


def _move_rows_meanwhile(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first piece of the source its rows get new versions, in blocks that are yet to be read."""
    read, moved, alone = digest_scan.read_sums, [], Lock()
    port = int(str(conninfo_to_dict(bare.source)["port"]))

    def move(session: Connection, *arguments: Any) -> Any:
        if session.info.port == port:
            with alone:
                if not moved:
                    sums = read(session, *arguments)
                    bare.run("UPDATE b0.t SET k = k", only=bare.source)
                    moved.append(True)
                    return sums
        return read(session, *arguments)

    monkeypatch.setattr(digest_scan, "read_sums", move)


def test_rows_that_move_between_blocks_are_counted_once(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bare, SHAPES["int8"])
    _move_rows_meanwhile(bare, monkeypatch)
    compared = bare.compare(workers=2)
    assert (compared.rows, compared.rechecked) == (ROWS, 0)


def test_without_a_snapshot_they_would_be_counted_twice(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control: the test above fails without the snapshot pair."""
    fill(bare, SHAPES["int8"])
    _move_rows_meanwhile(bare, monkeypatch)
    monkeypatch.setattr(SnapshotPair, "at_one_moment", lambda _: nullcontext())
    compared = bare.compare(workers=2)
    assert compared.rechecked > 0
    assert compared.differences == ()  # the re-check knows better


def test_an_error_of_one_side_does_not_wait_for_the_other_sides_scan(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bare, SHAPES["int8"])
    source_port = int(str(conninfo_to_dict(bare.source)["port"]))

    def read(session: Connection, *_: Any) -> Any:
        if session.info.port != source_port:
            session.execute("SELECT pg_sleep(60)")
        raise RuntimeError("no more")

    monkeypatch.setattr(digest_scan, "read_sums", read)
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="no more"):
        bare.compare()
    assert time.monotonic() - started < 20


def test_a_large_chunk_is_read_in_parts(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows but one have the same leading value: no range divides them."""
    bare.run(
        "CREATE SCHEMA b0",
        "CREATE TABLE b0.t (k int4, n int4, note text, PRIMARY KEY (k, n))",
        "INSERT INTO b0.t SELECT 1, n, 'x' FROM generate_series(1, 5000) n",
        "INSERT INTO b0.t VALUES (2000000000, 1, 'x')",
        "ANALYZE b0.t",
    )
    bare.run("UPDATE b0.t SET note = '' WHERE n = 2500", only=bare.target)
    monkeypatch.setattr(recheck, "ROWS_AT_ONCE", 100)
    compared = bare.compare()
    assert [row.key for row in compared.differences] == ["k=1, n=2500"]
    assert (compared.rechecked, compared.rechecked_rows < 100) == (1, True)


@pytest.mark.parametrize("leading", ["int8", "text"])
def test_very_many_differences_are_not_all_named_and_none_is_passed_over(
    bare: Bare, monkeypatch: pytest.MonkeyPatch, leading: str
) -> None:
    monkeypatch.setattr(recheck, "ROWS_AT_ONCE", 50)
    monkeypatch.setattr(recheck, "MOST_NAMED", 100)
    bare.run("CREATE SCHEMA b0", f"CREATE TABLE b0.t (id {leading} PRIMARY KEY, k int8 DEFAULT 1)")
    bare.run(
        f"INSERT INTO b0.t SELECT n::{leading} FROM generate_series(1, 2000) n; ANALYZE", only=bare.source
    )
    compared = bare.compare()
    assert 100 <= len(compared.differences) < 200
    assert len(compared.differences) + compared.undecided == 2000
    assert all(chunk.source_digest != chunk.target_digest for chunk in compared.chunks)


def test_a_key_that_is_an_integer_here_and_text_there(bare: Bare) -> None:
    bare.run("CREATE SCHEMA b0")
    for conninfo, kind in ((bare.source, "int8"), (bare.target, "int4")):
        bare.run(
            f"CREATE TABLE b0.t (k {kind} PRIMARY KEY)",
            "INSERT INTO b0.t SELECT generate_series(-200, 200); ANALYZE b0.t",
            only=conninfo,
        )
    assert bare.compare().rechecked == 0
    bare.run("DELETE FROM b0.t WHERE k = -3", only=bare.target)
    assert [row.key for row in bare.compare().differences] == ["k=-3"]


def test_the_index_leads_to_a_chunks_rows_and_few_groups_are_not_sorted(bare: Bare) -> None:
    bare.run(
        "CREATE SCHEMA b0",
        "CREATE TABLE b0.t (k int8, n int4, note text, PRIMARY KEY (k, n))",
        "INSERT INTO b0.t SELECT n, 1, 'x' FROM generate_series(1, 20000) n",  # no ANALYZE: the planner knows nothing
    )
    with pinned_session(bare.source) as session:
        shape = read_shape(session, "b0", "t")
        assert shape is not None
        by = ByRange(4)
        for within in (None, (ByHash(3, 101), [1])):
            among = shape.among_chunks(by, [*range(0, 1000, 7)], within)
            assert among.by_index
            session.execute("SET enable_seqscan = off")
            plan = session.execute(
                sql.SQL("EXPLAIN ") + shape.rows_query("k", KeyType.INT8, by, among), among.parameters
            ).fetchall()
            text = "\n".join(line for (line,) in plan)
            assert "Index" in text, text
            assert "Seq Scan" not in text, text
        session.execute("SET enable_seqscan = on; SET enable_sort = off")
        plan = session.execute(sql.SQL("EXPLAIN ") + shape.chunks_query(by), {}).fetchall()
        assert "HashAggregate" in plan[0][0]
