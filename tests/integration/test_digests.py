"""Digests on two real servers that replicate to each other: every fault named, no false alarm under writers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from foreshard.errors import NotFound
from foreshard.postgres.connect import Connection, connect, with_password
from foreshard.postgres.digests import CheckedTable, TableComparison, compare_tables
from foreshard.postgres.pair import pinned_session
from foreshard.topology.keys import SLOTS, KeyType, slot

if TYPE_CHECKING:
    from tests.integration.conftest import ShardPair

TAILS = [f"N{number:03d}XY" for number in range(120)]
FLIGHTS = CheckedTable("b0007", "flights", "tailnum", KeyType.TEXT)
EVENTS = CheckedTable("b0007", "events", "tailnum", KeyType.TEXT)
TABLES = [FLIGHTS, EVENTS]

SCHEMA = """
CREATE SCHEMA b0007;
CREATE SCHEMA probe;
CREATE TYPE b0007.mood AS ENUM ('calm', 'late');
CREATE TABLE b0007.flights (
    tailnum text NOT NULL, departs timestamptz NOT NULL, seats int, fare numeric, load float8,
    mood b0007.mood, note text, raw bytea, price money, doc json, at point, wait interval,
    total numeric GENERATED ALWAYS AS (fare * seats) STORED,
    PRIMARY KEY (tailnum, departs));
CREATE TABLE b0007.events (id int PRIMARY KEY, tailnum text NOT NULL, counter int NOT NULL DEFAULT 0);
CREATE TABLE probe.marker (id uuid PRIMARY KEY);
"""
FILL = """
INSERT INTO b0007.flights (tailnum, departs, seats, fare, load, mood, note, raw, price, doc, at, wait)
SELECT tail, timestamptz '2013-11-27 12:00+00' + n * interval '1 day', n, 1.00 + n, 0.1 + n, 'calm',
       CASE WHEN mod(n, 2) = 0 THEN '' END, '\\x00ff', 12.5, '{"a": 1}', '(1,2)', '90 minutes'
  FROM unnest(%s::text[]) AS tail, generate_series(1, 5) AS n;
"""
FILL_EVENTS = (
    "INSERT INTO b0007.events SELECT n, (%s::text[])[1 + n %% 120], 0 FROM generate_series(1, 2000) n"
)


@dataclass(frozen=True)
class Replicated:
    """Two databases with the same tables, replicating both ways; owners are the test's to respect."""

    source: str
    target: str
    drain: Callable[[], None]

    def compare(self, *, bound: int = 0) -> list[TableComparison]:
        return compare_tables(
            self.source, self.target, TABLES, bound=lambda: bound, drain=self.drain, chunks=8
        )


@pytest.fixture
def replicated(shard_pair: ShardPair) -> Iterator[Replicated]:
    source, target = shard_pair.source.superuser_dsn, shard_pair.target.superuser_dsn
    for conninfo in (source, target):
        with connect(conninfo) as conn:
            conn.execute(SCHEMA)
            conn.execute("CREATE PUBLICATION probe FOR TABLE b0007.flights, b0007.events, probe.marker")
    with connect(source) as conn:
        conn.execute(FILL, (TAILS,))
        conn.execute(FILL_EVENTS, (TAILS,))
    with ExitStack() as stack:
        for name, subscriber, publisher, copy in (
            ("probe_fwd", target, source, "true"),
            ("probe_rev", source, target, "false"),
        ):
            conn = stack.enter_context(connect(subscriber))
            _subscribe(conn, name, publisher, copy)
            stack.callback(_unsubscribe, conn, name)
        yield Replicated(source, target, lambda: drain(source, target))


def _subscribe(conn: Connection, name: str, publisher: str, copy: str) -> None:
    conn.execute(
        f"CREATE SUBSCRIPTION {name} CONNECTION '{with_password(publisher)}' PUBLICATION probe"
        f" WITH (copy_data = {copy}, origin = none, slot_name = {name})"
    )
    ready = "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel"
    wait_until(lambda: conn.execute(ready).fetchone() == (True,))


def _unsubscribe(conn: Connection, name: str) -> None:
    conn.execute(f"DROP SUBSCRIPTION {name}")


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.001)


def drain(source: str, target: str) -> None:
    """A marker row each way, awaited on the other side."""
    with connect(source) as one, connect(target) as other:
        for sender, receiver in ((one, other), (other, one)):
            marker = uuid4()
            sender.execute("INSERT INTO probe.marker VALUES (%s)", (marker,))
            wait_until(
                lambda receiver=receiver, marker=marker: (
                    receiver.execute("SELECT FROM probe.marker WHERE id = %s", (marker,)).fetchone()
                    is not None
                )
            )


@contextmanager
def as_replication(conninfo: str) -> Iterator[Connection]:
    """A session whose writes do not flow to the other side: how a fault comes onto one copy only."""
    with connect(conninfo) as conn:
        conn.execute("SELECT pg_replication_origin_create('fault')")
        conn.execute("SELECT pg_replication_origin_session_setup('fault')")
        yield conn
        conn.execute("SELECT pg_replication_origin_session_reset()")
        conn.execute("SELECT pg_replication_origin_drop('fault')")


def test_equal_copies_are_equal(replicated: Replicated) -> None:
    for comparison in replicated.compare():
        assert comparison.differences == ()
        assert comparison.undecided == 0
        assert all(
            (chunk.source_rows, chunk.source_digest) == (chunk.target_rows, chunk.target_digest)
            for chunk in comparison.chunks
        )
    flights, events = replicated.compare()
    assert (flights.rows, events.rows) == (600, 2000)
    assert len(flights.chunks) == 8
    assert flights.bytes > 0


FAULTS = {
    "changed value": ("UPDATE b0007.events SET counter = 1 WHERE id = 77", "id=77", "changed"),
    "missing row": ("DELETE FROM b0007.events WHERE id = 78", "id=78", "missing"),
    "ghost row": ("INSERT INTO b0007.events VALUES (5001, 'N001XY', 0)", "id=5001", "ghost"),
    "NULL for an empty string": (
        "UPDATE b0007.flights SET note = NULL WHERE tailnum = 'N003XY' AND seats = 2",
        "tailnum=N003XY, departs=2013-11-29 12:00:00+00",
        "changed",
    ),
    "1.0 for 1.00": (
        "UPDATE b0007.flights SET fare = 2.0 WHERE tailnum = 'N003XY' AND seats = 1",
        "tailnum=N003XY, departs=2013-11-28 12:00:00+00",
        "changed",
    ),
    "a float's last bit": (
        "UPDATE b0007.flights SET load = 1.1000000000000003 WHERE tailnum = 'N003XY' AND seats = 1",
        "tailnum=N003XY, departs=2013-11-28 12:00:00+00",
        "changed",
    ),
    "another enum label": (
        "UPDATE b0007.flights SET mood = 'late' WHERE tailnum = 'N003XY' AND seats = 1",
        "tailnum=N003XY, departs=2013-11-28 12:00:00+00",
        "changed",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_on_the_target_is_found_and_named(replicated: Replicated, fault: str) -> None:
    statement, key, kind = FAULTS[fault]
    with as_replication(replicated.target) as conn:
        assert conn.execute(statement).rowcount == 1
    differences = [row for comparison in replicated.compare() for row in comparison.differences]
    assert [(row.key, row.kind) for row in differences] == [(key, kind)]


def test_kinds_are_seen_from_the_owner(replicated: Replicated) -> None:
    """With the target as owner of all keys, a row that only the target has is missing on the source."""
    with as_replication(replicated.target) as conn:
        conn.execute("INSERT INTO b0007.events VALUES (5001, 'N001XY', 0)")
        conn.execute("DELETE FROM b0007.events WHERE id = 78")
    _, events = replicated.compare(bound=SLOTS)
    assert {(row.key, row.kind) for row in events.differences} == {("id=5001", "missing"), ("id=78", "ghost")}
    bad = {row.chunk for row in events.differences}
    for chunk in events.chunks:
        equal = (chunk.source_rows, chunk.source_digest) == (chunk.target_rows, chunk.target_digest)
        assert equal == (chunk.chunk not in bad)


def test_settings_of_a_server_do_not_show_as_differences(replicated: Replicated) -> None:
    with connect(replicated.target) as conn:
        name = conn.info.dbname
        for setting in (
            "timezone = 'Asia/Tokyo'",
            "datestyle = 'German'",
            "intervalstyle = 'iso_8601'",
            "bytea_output = 'escape'",
            "extra_float_digits = 0",
            "search_path = 'b0007'",
        ):
            conn.execute(f'ALTER DATABASE "{name}" SET {setting}')
    assert [comparison.differences for comparison in replicated.compare()] == [(), ()]
    assert [comparison.rechecked for comparison in replicated.compare()] == [0, 0]


def test_a_table_that_the_target_lacks_is_told_apart_from_an_empty_one(replicated: Replicated) -> None:
    with connect(replicated.target) as conn:
        conn.execute("ALTER PUBLICATION probe DROP TABLE b0007.flights")
        conn.execute("ALTER SUBSCRIPTION probe_fwd DISABLE")
        conn.execute("DROP TABLE b0007.flights")
    untouched = CheckedTable("b0007", "nothing", "tailnum", KeyType.TEXT)
    arguments: dict[str, Any] = {"bound": lambda: 0, "drain": lambda: None}
    (flights,) = compare_tables(replicated.source, replicated.target, [FLIGHTS], **arguments)
    assert all(chunk.target_rows is None and chunk.target_digest is None for chunk in flights.chunks)
    with pytest.raises(NotFound, match="nothing"):
        compare_tables(replicated.source, replicated.target, [untouched], **arguments)


def test_a_policy_that_hides_rows_is_an_error(replicated: Replicated) -> None:
    with connect(replicated.source) as conn:
        conn.execute("CREATE TABLE b0007.hidden (id int PRIMARY KEY, tailnum text)")
        conn.execute("ALTER TABLE b0007.hidden ENABLE ROW LEVEL SECURITY")
        conn.execute("CREATE ROLE checks_reader")
        try:
            conn.execute("GRANT USAGE ON SCHEMA b0007 TO checks_reader")
            conn.execute("GRANT SELECT ON b0007.hidden TO checks_reader")
            with pinned_session(replicated.source) as session:
                session.execute("SET ROLE checks_reader")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute("SELECT * FROM b0007.hidden")
        finally:
            conn.execute("DROP OWNED BY checks_reader")
            conn.execute("DROP ROLE checks_reader")


@pytest.mark.parametrize(("bound", "seed"), [(0, 1), (300, 2), (300, 3), (SLOTS, 4)])
def test_writers_raise_no_false_alarm(replicated: Replicated, bound: int, seed: int) -> None:
    """Three writers, each key written at its owner only, among them values that flip there and back.

    Locks hold an apply worker back, so that a copy lags by tenths of a second.
    """
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        choose = random.Random(seed * 100 + number)
        with connect(replicated.source) as source, connect(replicated.target) as target:
            while not stop.wait(0.015):  # no faster than a replica that is held back can apply
                tail = choose.choice(TAILS)
                of_target = slot(tail, KeyType.TEXT) < bound
                conn = target if of_target else source
                action = choose.random()
                fresh = 10_000 + 2 * choose.randrange(500) + of_target  # ids of the two owners never meet
                if action < 0.5:  # there and back: only row versions tell such a row from one at rest
                    conn.execute("UPDATE b0007.events SET counter = 1 - counter WHERE tailnum = %s", (tail,))
                elif action < 0.8:
                    conn.execute(
                        "INSERT INTO b0007.events VALUES (%s, %s, 0) ON CONFLICT DO NOTHING", (fresh, tail)
                    )
                else:
                    conn.execute("DELETE FROM b0007.events WHERE id >= 10000 AND tailnum = %s", (tail,))

    def hold_back(conninfo: str) -> None:
        with connect(conninfo) as conn:
            while not stop.is_set():
                with conn.transaction():
                    conn.execute("LOCK TABLE b0007.events IN EXCLUSIVE MODE")  # reads pass
                    stop.wait(0.1)
                stop.wait(0.05)

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    replicas = [replicated.target] if bound < SLOTS else [replicated.source]
    work = [partial(write, number) for number in range(3)]
    work += [partial(hold_back, replica) for replica in replicas]
    writers = [threading.Thread(target=run, args=(task,)) for task in work]
    for writer in writers:
        writer.start()
    try:
        seen = []
        for times in range(60):  # until the writers were in the way, five times at least
            seen += replicated.compare(bound=bound)
            if times >= 4 and sum(comparison.rechecked for comparison in seen) > 0:
                break
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failures
    assert sum(comparison.rechecked for comparison in seen) > 0, "the writers never got in the way"
    assert [comparison.differences for comparison in seen if comparison.differences] == []
    assert [comparison.undecided for comparison in seen if comparison.undecided] == []


def test_a_fault_is_found_among_writers(replicated: Replicated) -> None:
    stop = threading.Event()

    def write() -> None:
        with connect(replicated.source) as conn:
            choose = random.Random(5)
            while not stop.is_set():
                conn.execute(
                    "UPDATE b0007.events SET counter = counter + 1 WHERE id = %s",
                    (choose.randrange(1, 1900),),
                )

    with as_replication(replicated.target) as conn:
        conn.execute("UPDATE b0007.events SET counter = -5 WHERE id = 1999")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        _, events = replicated.compare()
    finally:
        stop.set()
        writer.join()
    assert [(row.key, row.kind) for row in events.differences] == [("id=1999", "changed")]
