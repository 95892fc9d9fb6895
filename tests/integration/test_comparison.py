"""The comparison in a real migration: its progress, and its fence: writers wait, none is refused, it never stays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from foreshard.errors import FlipFailed
from foreshard.migration.comparison import compare_all, fence_of
from foreshard.migration.flip import flip
from foreshard.migration.progress import Progress
from foreshard.migration.runner import Runner
from foreshard.migration.stages import verify
from foreshard.postgres import fence, guard, recheck
from foreshard.postgres.fence import Fence
from foreshard.postgres.guard import Side
from foreshard.postgres.names import FENCE_CLASS
from foreshard.topology.keys import KeyType, slot
from tests.integration.moving_fleet import BUCKETS, MovingFleet, wait_until
from tests.unseen_session import unseen

AIRCRAFT = sql.Identifier(BUCKETS[0], "aircraft")
COUNT = sql.SQL("UPDATE {} SET cycles = cycles + 1 WHERE tailnum = %s").format(AIRCRAFT)
BOUND = 512


@pytest.fixture
def fleet(copied_fleet: MovingFleet) -> MovingFleet:
    return copied_fleet


@pytest.fixture
def runner(fleet: MovingFleet) -> Iterator[Runner]:
    with fleet.runner() as held:
        yield held
        flip(held.work, 0)


@contextmanager
def fence_on(runner: Runner) -> Iterator[Fence]:
    work = runner.work
    with work.marker_line(Side.SOURCE) as there, work.marker_line(Side.TARGET) as back:
        yield fence_of(work, {Side.SOURCE: there, Side.TARGET: back})


def tailnums(fleet: MovingFleet, *, of_target: bool) -> list[str]:
    names = [start.tailnum for start in fleet.starts() if start.bucket == BUCKETS[0]]
    return [name for name in names if (slot(name, KeyType.TEXT) < BOUND) == of_target]


@contextmanager
def hot_rows(fleet: MovingFleet) -> Iterator[list[None]]:
    """A source's and a target's row each written without a pause; the list holds the writes, in the end all."""
    stop = threading.Event()
    written: list[None] = []
    failures: list[BaseException] = []

    def write(dsn: str, tailnum: str) -> None:
        try:
            with psycopg.connect(dsn, autocommit=True) as conn:
                while not stop.is_set():
                    conn.execute(COUNT, (tailnum,))
                    written.append(None)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=write, args=(shard.application_dsn, tailnums(fleet, of_target=of_target)[0]))
        for shard, of_target in ((fleet.pair.source, False), (fleet.pair.target, True))
    ]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(written) > 50, "writers at work")
        yield written
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []  # nobody was refused


@contextmanager
def fault(fleet: MovingFleet, tailnum: str) -> Iterator[None]:
    """A row of the source's, changed in the target's copy alone."""
    change = sql.SQL("UPDATE {} SET seats = coalesce(seats, 0) + %s WHERE tailnum = %s").format(AIRCRAFT)
    with unseen(fleet.pair.target) as conn:
        conn.execute(change, (1, tailnum))
        try:
            yield
        finally:
            conn.execute(change, (-1, tailnum))


def held_exclusively(fleet: MovingFleet) -> int:
    """Fences on both servers."""
    count = 0
    for shard in (fleet.pair.source, fleet.pair.target):
        with shard.connect() as conn:
            row = conn.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND mode = 'ExclusiveLock'",
                (FENCE_CLASS,),
            ).fetchone()
            assert row is not None
            count += int(str(row[0]))
    return count


def test_the_stage_reports_bytes_and_a_part_for_each_table(
    fleet: MovingFleet, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "REPORT_EVERY_S", 0.0)
    reports: list[Progress] = []
    detail = verify.run(runner.work, reports.append)
    tables = {f"{bucket}.{table}" for bucket in fleet.buckets for table in fleet.tables}
    last = reports[-1]
    assert (last.unit, last.done, last.fraction) == ("bytes", last.total, 1.0)
    assert last.total == detail["bytes"] > 0
    assert {part.name for part in last.parts} == tables
    assert sum(part.rows or 0 for part in last.parts) == detail["rows"] > 0
    assert all(part.finished for part in last.parts)
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert {len(report.parts) for report in reports[len(tables) :]} == {len(tables)}
    assert last.per_s
    assert detail.keys() == {
        *(
            "tables",
            "rows",
            "bytes",
            "seconds",
            "bytes_per_s",
            "rechecked_chunks",
            "rechecked_rows",
            "fence_ms",
        )
    }
    assert (detail["tables"], detail["fence_ms"]) == (len(tables), 0.0)


def test_what_is_written_all_the_time_is_judged_by_a_fence(
    fleet: MovingFleet, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hot rows on both sides are equal, a fault among them is named, and all wait for some milliseconds only."""
    monkeypatch.setattr(recheck, "ROUNDS", 0)  # leaves everything that differs to the fence
    flip(runner.work, BOUND)
    wrong = tailnums(fleet, of_target=False)[1]
    with fault(fleet, wrong), hot_rows(fleet) as written:
        for _ in range(5):
            compared = compare_all(runner.work)
            differences = [row for one in compared for row in one.differences if one.bucket == BUCKETS[0]]
            assert [(row.key, str(row.kind)) for row in differences] == [(f"tailnum={wrong}", "changed")]
            assert sum(one.undecided for one in compared) == 0
            assert 0 < sum(one.fence_ms for one in compared) < 5000
            assert held_exclusively(fleet) == 0
            before = len(written)
            wait_until(lambda before=before: len(written) > before + 50, "they go on")


def test_without_a_fence_it_would_be_undecided(
    fleet: MovingFleet, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control: it is the fence that judges, and a fence that cannot be had judges nothing."""
    monkeypatch.setattr(recheck, "ROUNDS", 0)
    monkeypatch.setattr(fence, "ATTEMPTS", 2)
    wrong = tailnums(fleet, of_target=False)[1]
    with fault(fleet, wrong), psycopg.connect(fleet.pair.source.application_dsn) as busy:
        busy.execute(COUNT, (tailnums(fleet, of_target=False)[0],))  # a transaction that holds the fence
        compared = compare_all(runner.work)
        assert sum(one.undecided for one in compared) == 1
        assert sum(one.fence_ms for one in compared) >= 2 * runner.work.settings.lock_timeout_ms
        busy.rollback()
    assert held_exclusively(fleet) == 0


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a look, or a marker, may last longer than a fence is worth; it would be taken again."""
    monkeypatch.setattr(fence, "LONGEST_SILENCE_MS", 20_000)
    monkeypatch.setattr(fence, "MARKER_PATIENCE_S", 10.0)


@pytest.mark.usefixtures("unhurried")
def test_writers_wait_while_it_is_held(fleet: MovingFleet, runner: Runner) -> None:
    """And what they had written before is on both sides."""
    tailnum = tailnums(fleet, of_target=False)[0]
    seen: list[list[Any]] = []

    def look() -> None:
        writer.start()
        with fleet.pair.source.connect() as conn:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            wait_until(lambda: conn.execute(waiting).fetchone() == (1,), "the writer waits")
        query = sql.SQL("SELECT cycles FROM {} WHERE tailnum = %s").format(AIRCRAFT)
        for shard in (fleet.pair.source, fleet.pair.target):
            with shard.connect() as conn:
                seen.append(conn.execute(query, (tailnum,)).fetchall())

    def write() -> None:
        with psycopg.connect(fleet.pair.source.application_dsn, autocommit=True) as conn:
            conn.execute(COUNT, (tailnum,))

    write()
    writer = threading.Thread(target=write)
    with fence_on(runner) as take:
        paused = take(look)
    writer.join()
    assert paused.held
    assert (paused.attempts, len(seen)) == (1, 2)
    assert seen[0] == seen[1]


def _fails(*_: object) -> None:
    raise FlipFailed("the stream stands", remedy="none")


def _stays_away(*_: object) -> bool:
    return False


@pytest.mark.parametrize("what", ["drain", "look", "marker"])
def test_it_is_released_when_something_fails(
    fleet: MovingFleet, runner: Runner, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    look: Callable[[], None] = lambda: None  # noqa: E731
    monkeypatch.setattr(fence, "ATTEMPTS", 2)
    with fence_on(runner) as take:
        if what == "marker":
            monkeypatch.setattr("foreshard.postgres.marker.MarkerLine.drain", lambda *_: 0.0)
            monkeypatch.setattr("foreshard.postgres.marker.MarkerLine.applied", _stays_away)
            assert not take(look).held
        else:
            if what == "drain":
                monkeypatch.setattr("foreshard.postgres.marker.MarkerLine.applied", _stays_away)
            with pytest.raises(FlipFailed):
                take(_fails if what == "look" else look)
        assert held_exclusively(fleet) == 0
        with psycopg.connect(fleet.pair.source.application_dsn, autocommit=True) as conn:
            conn.execute(COUNT, (tailnums(fleet, of_target=False)[0],))


@pytest.mark.usefixtures("unhurried")
def test_the_server_ends_the_fence_of_a_runner_that_stands_still(
    fleet: MovingFleet, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked at then does not count, and is looked at again."""
    monkeypatch.setattr(fence, "LONGEST_SILENCE_MS", 50)
    looks: list[None] = []

    def look() -> None:
        looks.append(None)
        if len(looks) == 1:  # a writer gets through although nobody has released the fence
            with psycopg.connect(fleet.pair.source.application_dsn, autocommit=True) as conn:
                conn.execute(COUNT, (tailnums(fleet, of_target=False)[0],))
            monkeypatch.setattr(fence, "LONGEST_SILENCE_MS", 20_000)

    with fence_on(runner) as take:
        paused = take(look)
    assert paused.held
    assert len(looks) == paused.attempts == 2
    assert held_exclusively(fleet) == 0


@pytest.mark.usefixtures("unhurried")
def test_the_fence_is_that_of_this_migration(fleet: MovingFleet, runner: Runner) -> None:
    """The lock that guards and flips take, on both sides."""
    holders: list[int] = []

    def look() -> None:
        for shard in (fleet.pair.source, fleet.pair.target):
            with shard.connect() as conn:
                holders.append(len(guard.fence_holders(conn, runner.work.names, 0)))  # type: ignore[arg-type]

    with fence_on(runner) as take:
        take(look)
    assert holders == [1, 1]
