"""Flips that died at an awkward point, and runners that were late: ownership settles, and nobody serves stale rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
from psycopg import sql

from foreshard.errors import FlipFailed
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.migration.flip import finish_interrupted, flip
from foreshard.migration.unattended import give_owners
from foreshard.migration.work import Work
from foreshard.postgres import guard
from foreshard.postgres.connect import connect
from foreshard.topology.keys import KeyType, slot
from tests.integration.moving_fleet import BUCKETS, MovingFleet, wait_until
from tests.integration.test_fence import COUNT, accepts, tailnums


@pytest.fixture
def fleet(copied_fleet: MovingFleet) -> MovingFleet:
    return copied_fleet


@contextmanager
def streams_cut(fleet: MovingFleet, work: Work) -> Iterator[None]:
    """Neither shard applies what the other one sends, as if the network between the two were cut."""
    names = work.names
    ends = ((fleet.pair.target, names.forward), (fleet.pair.source, names.reverse))

    def alter(change: str) -> None:
        for shard, subscription in ends:
            with shard.connect() as conn:
                conn.execute(
                    sql.SQL("ALTER SUBSCRIPTION {} {}").format(sql.Identifier(subscription), sql.SQL(change))
                )

    def applies() -> bool:
        return any(
            shard.connect().execute("SELECT 1 FROM pg_stat_subscription WHERE pid IS NOT NULL").fetchone()
            for shard, _ in ends
        )

    alter("DISABLE")
    wait_until(lambda: not applies(), "the apply workers stop")
    try:
        yield
    finally:
        alter("ENABLE")


@pytest.mark.parametrize(("before", "after"), [(0, 400), (400, 0)])
@pytest.mark.parametrize("died", ["before the flip back was intended", "before the flip back"])
def test_keys_are_taken_back_without_any_stream(
    fleet: MovingFleet, died: str, before: int, after: int
) -> None:
    """The marker did not come, so the closing side takes its keys back. The other side never saw its last writes."""
    raised = after > before
    with fleet.runner() as first:
        work = first.work
        flip(work, before)
        with streams_cut(fleet, work):
            intent = work.flips.intend(work.lease, before, after)
            with work.connections() as (source, target):
                closing, opening = (source, target) if raised else (target, source)
                guard.close(closing, work.names, intent.flip_no, after, uuid.uuid4())
                assert guard.cancel(opening, work.names, intent.flip_no)
            work.flips.record(work.lease, intent.flip_no, "cancelled")
            if died == "before the flip back":
                work.flips.intend(work.lease, after, before)
            work.settings = work.settings.model_copy(update={"marker_timeout_s": 0.5})
            with suppress(FlipFailed):
                finish_interrupted(work)
            bounds = work.bounds()
            assert (bounds.source, bounds.target, first.record.bound) == (before, before, before)
            tailnum = tailnums(fleet)[0]
            owner = fleet.pair.target if _slot(tailnum) < before else fleet.pair.source
            assert accepts(owner.application_dsn, tailnum)
        flip(work, 0)


def test_an_open_that_rolled_back_is_opened_again(fleet: MovingFleet) -> None:
    """The sequence has moved, the row that mirrors it has not: every writer would be refused for ever."""
    with fleet.runner() as first:
        work = first.work
        intent = work.flips.intend(work.lease, 0, 400)
        with work.connections() as (source, target), work.marker_line(guard.Side.SOURCE) as markers:
            guard.close(source, work.names, intent.flip_no, 400, uuid.uuid4())
            markers.drain(5)
            with target.transaction(force_rollback=True):
                guard.open_(target, work.names, intent.flip_no, 400)
    with fleet.runner("second") as second:
        assert second.record.bound == 400
        tailnum = next(t for t in tailnums(fleet) if _slot(t) < 400)
        assert accepts(fleet.pair.target.application_dsn, tailnum)
        flip(second.work, 0)


def test_a_cancelled_flip_cannot_be_closed_by_a_late_runner(fleet: MovingFleet) -> None:
    with fleet.runner("late") as late:
        intent = late.work.flips.intend(late.work.lease, 0, 400)
    with fleet.runner("second") as second:
        with second.work.connection(guard.Side.SOURCE) as source, pytest.raises(psycopg.Error) as refused:
            guard.close(source, second.work.names, intent.flip_no, 400, uuid.uuid4())
        assert refused.value.sqlstate == guard.STALE_FLIP
        assert (second.work.bounds().source, second.work.bounds().target) == (0, 0)
        flip(second.work, 400)
        flip(second.work, 0)


@pytest.mark.parametrize("reached", ["close", "open"])
def test_a_late_runner_that_goes_on_while_it_is_cancelled(fleet: MovingFleet, reached: str) -> None:
    """It closes, or opens too, after the next runner has looked and before that one's cancel."""
    original = guard.cancel
    with fleet.runner("late") as late:
        intent = late.work.flips.intend(late.work.lease, 0, 400)

    def overtaken(conn: object, names: object, flip_no: int) -> bool:
        work = late.work
        patch.setattr(guard, "cancel", original)
        with work.connections() as (source, target), work.marker_line(guard.Side.SOURCE) as markers:
            guard.close(source, work.names, intent.flip_no, 400, uuid.uuid4())
            markers.drain(5)
            if reached == "open":
                guard.open_(target, work.names, intent.flip_no, 400)
        return original(conn, names, flip_no)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "cancel", overtaken)
        try:
            with fleet.runner("second"):
                pass
        except FlipFailed:
            assert reached == "close"
    with fleet.runner("third") as third:
        bounds = third.work.bounds()
        assert bounds.source == bounds.target == third.record.bound
        assert third.work.flips.unfinished(fleet.migration) is None
        flip(third.work, 0)
        assert third.work.bounds().target == 0


def test_a_flip_that_failed_in_the_middle_is_settled_before_its_runner_goes(fleet: MovingFleet) -> None:
    original = guard.open_

    def cut_off(*arguments: object) -> None:
        del arguments
        patch.setattr(guard, "open_", original)
        raise psycopg.OperationalError("the server closed the connection")

    with fleet.runner() as runner, pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "open_", cut_off)
        with pytest.raises(psycopg.OperationalError):
            flip(runner.work, 400)
        assert (runner.work.bounds().source, runner.work.bounds().target) == (400, 400)
        flip(runner.work, 0)


@pytest.mark.parametrize(("before", "after"), [(0, 400), (400, 0)])
def test_keys_are_taken_back_although_their_side_was_failed_over(
    fleet: MovingFleet, before: int, after: int
) -> None:
    """Settling the failover cancels the newest flip on both sides: here that is the flip back itself."""
    raised = after > before
    closing = fleet.pair.source if raised else fleet.pair.target
    with fleet.runner("first") as first:
        work = first.work
        flip(work, before)
        intent = work.flips.intend(work.lease, before, after)
        with work.connections() as (source, target):
            ends = (source, target) if raised else (target, source)
            guard.close(ends[0], work.names, intent.flip_no, after, uuid.uuid4())
            assert guard.cancel(ends[1], work.names, intent.flip_no)
        work.flips.replace(work.lease, intent, after, before)
    fail_over(closing)
    with fleet.runner("second") as second:
        bounds = second.work.bounds()
        assert (bounds.source, bounds.target, second.record.bound) == (before, before, before)
        assert accepts(closing.application_dsn, next(each for each in tailnums(fleet) if _slot(each) < 400))
        flip(second.work, 0)


def test_keys_without_an_owner_are_looked_after_when_nobody_drives(
    fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close that is repeated after a crash waits for the fence; failing at that, it must not be called cancelled."""
    monkeypatch.setattr("foreshard.migration.flip.CLOSE_ATTEMPTS", 2)
    with fleet.runner("first") as first:
        work = first.work
        intent = work.flips.intend(work.lease, 0, 400)
        with work.connection(guard.Side.SOURCE) as source:
            guard.close(source, work.names, intent.flip_no, 400, uuid.uuid4())
    kept = next(tailnum for tailnum in tailnums(fleet) if _slot(tailnum) >= 400)
    with psycopg.connect(fleet.pair.source.application_dsn) as long:
        long.execute(COUNT, (kept,))  # a key that the source still owns: the whole fence is held
        with pytest.raises(FlipFailed), fleet.runner("second"):
            pass
        assert give_owners(fleet.control, fleet.settings) == []
        long.rollback()
    assert give_owners(fleet.control, fleet.settings) == [fleet.migration]
    moved = next(tailnum for tailnum in tailnums(fleet) if _slot(tailnum) < 400)
    assert accepts(fleet.pair.target.application_dsn, moved)
    with fleet.runner("third") as third:
        assert third.record.bound == 400
        flip(third.work, 0)


def test_a_late_runner_does_not_close_again_what_another_one_has_adopted(fleet: MovingFleet) -> None:
    with fleet.runner() as runner:
        work = runner.work
        fail_over(fleet.pair.target)
        with work.connection(guard.Side.TARGET) as target:
            seen = guard.state(target, work.names)
            assert seen is not None
            assert not seen.same_timeline
            with pytest.raises(psycopg.Error) as yet_another:
                guard.adopt_timeline(target, work.names, 0, "another")
            assert yet_another.value.sqlstate == guard.OTHER_TIMELINE
            flip(work, 400)
            assert guard.adopt_timeline(target, work.names, 0, seen.timeline) == 400
        flip(work, 0)


def fail_over(shard: ShardDatabase) -> None:
    """As if it were another server than the one on which the bound was written."""
    with shard.connect() as conn:
        conn.execute("UPDATE foreshard.sides SET timeline = 'before'")


def test_a_close_is_on_disk_when_it_returns(fleet: MovingFleet) -> None:
    """A server or role may have synchronous_commit off: a close or a promise must not be lost in a crash."""
    with fleet.pair.source.connect() as admin:
        admin.execute(
            sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(
                sql.Identifier(fleet.pair.source.database)
            )
        )
    try:
        with connect(fleet.pair.source.operator_dsn) as conn:
            assert conn.execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        with fleet.pair.source.connect() as admin:
            admin.execute(
                sql.SQL("ALTER DATABASE {} RESET synchronous_commit").format(
                    sql.Identifier(fleet.pair.source.database)
                )
            )


def test_a_bucket_of_another_migration_is_not_taken_over(fleet: MovingFleet) -> None:
    """Its guard would go on asking the other migration's bound, and let writes through that the new one fenced."""
    with fleet.runner() as runner:
        names = runner.work.names
    other = type(names)(names.plane, names.number + 1)
    with connect(fleet.pair.source.operator_dsn) as conn:
        with pytest.raises(Exception, match="moves in"):
            guard.create_side(conn, other, guard.Side.SOURCE, "target", BUCKETS)
        assert guard.state(conn, other) is None


def _slot(tailnum: str) -> int:
    return slot(tailnum, KeyType.TEXT)
