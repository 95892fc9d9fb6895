"""The fence: one owner at every bound, refusals by SQLSTATE, and a checker that sees a broken one.

The broken controls take one safeguard away and show that the history checker finds what is lost. Source and target
are equal in each of these cases: no comparison of the two could have found it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from foreshard.errors import FlipFailed
from foreshard.fleet.grants import APPLICATION
from foreshard.fleet.ledger import Kind, Ledger, State
from foreshard.migration import serving
from foreshard.migration.flip import finish_interrupted, flip
from foreshard.migration.runner import Runner
from foreshard.postgres import guard
from foreshard.postgres.connect import connect
from foreshard.topology.keys import SLOTS, KeyType, slot
from tests.integration.moving_fleet import BUCKETS, MovingFleet, wait_until

BUCKET = BUCKETS[0]
AIRCRAFT = sql.Identifier(BUCKET, "aircraft")
COUNT = sql.SQL("UPDATE {} SET cycles = cycles + 1 WHERE tailnum = %s RETURNING cycles").format(AIRCRAFT)


@pytest.fixture
def fleet(copied_fleet: MovingFleet) -> MovingFleet:
    return copied_fleet


@pytest.fixture
def runner(fleet: MovingFleet) -> Iterator[Runner]:
    with fleet.runner() as held:
        yield held
        flip(held.work, 0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as history:
        yield history


def tailnums(fleet: MovingFleet) -> list[str]:
    return [start.tailnum for start in fleet.starts() if start.bucket == BUCKET]


def accepts(dsn: str, tailnum: str) -> bool:
    """Whether the shard lets an application write this key."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        try:
            conn.execute(COUNT, (tailnum,))
        except psycopg.Error as error:
            if error.sqlstate != "FS001":
                raise
            return False
    return True


@pytest.mark.parametrize("bound", [0, 1, 300, 700, SLOTS - 1])
def test_every_key_is_owned_by_exactly_one_server(fleet: MovingFleet, runner: Runner, bound: int) -> None:
    flip(runner.work, bound)
    for tailnum in tailnums(fleet):
        on_target = slot(tailnum, KeyType.TEXT) < bound
        # As superuser, whom the guard binds too: a copy that owns nothing is closed to the application as a whole.
        assert accepts(fleet.pair.source.superuser_dsn, tailnum) == (not on_target)
        assert accepts(fleet.pair.target.superuser_dsn, tailnum) == on_target
        owner = fleet.pair.target if on_target else fleet.pair.source
        assert accepts(owner.application_dsn, tailnum)


def test_a_stale_client_is_told_where_to_go(fleet: MovingFleet, runner: Runner) -> None:
    flip(runner.work, 512)
    tailnum = next(t for t in tailnums(fleet) if slot(t, KeyType.TEXT) < 512)
    with psycopg.connect(fleet.pair.source.application_dsn, autocommit=True) as conn:
        with pytest.raises(psycopg.Error) as by_guard:
            conn.execute(COUNT, (tailnum,))
        with pytest.raises(psycopg.Error) as by_assertion:
            conn.execute("SELECT foreshard.assert_owner(%s, %s::text)", (BUCKET, tailnum))
        for refusal in (by_guard, by_assertion):
            assert refusal.value.sqlstate == "FS001"
            assert '"bound" : 512' in (refusal.value.diag.message_detail or "")
            assert '"peer" : "target"' in (refusal.value.diag.message_detail or "")


def test_what_would_get_around_the_row_guard_is_refused(fleet: MovingFleet, runner: Runner) -> None:
    flip(runner.work, 512)
    mine, yours = (
        next(t for t in tailnums(fleet) if (slot(t, KeyType.TEXT) < 512) == on_target)
        for on_target in (True, False)
    )
    with psycopg.connect(fleet.pair.source.superuser_dsn, autocommit=True) as conn:
        for statement, sqlstate in (
            ("TRUNCATE {} CASCADE", "FS003"),
            ("UPDATE {} SET seats = 1", "FS001"),
            ("INSERT INTO {} (tailnum) VALUES (NULL)", "FS001"),
        ):
            with pytest.raises(psycopg.Error) as refused:
                conn.execute(sql.SQL(statement).format(AIRCRAFT))
            assert refused.value.sqlstate == sqlstate, statement
        with pytest.raises(psycopg.Error) as spans:
            conn.execute(
                sql.SQL("UPDATE {} SET tailnum = %s WHERE tailnum = %s").format(AIRCRAFT), (mine, yours)
            )
        assert spans.value.sqlstate == "FS002"


def test_an_old_snapshot_cannot_write_on_the_side_that_opened(fleet: MovingFleet, runner: Runner) -> None:
    tailnum = tailnums(fleet)[0]
    with psycopg.connect(fleet.pair.target.application_dsn) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT 1")  # the snapshot is taken here
        flip(runner.work, SLOTS - 1)
        with pytest.raises(psycopg.errors.SerializationFailure):
            conn.execute(COUNT, (tailnum,))


def test_a_delayed_open_or_close_is_refused(runner: Runner) -> None:
    done = flip(runner.work, 100)
    assert done is not None
    flip(runner.work, 50)
    names = runner.work.names
    with runner.work.connections() as (source, target):
        for late in (
            lambda: guard.open_(target, names, done.flip_no, 100),
            lambda: guard.close(source, names, done.flip_no, 100, uuid.uuid4()),
            lambda: guard.drop_copy(source, names, SLOTS),
            lambda: guard.drop_copy(target, names, 0),
        ):
            with pytest.raises(psycopg.Error) as stale:
                late()
            assert stale.value.sqlstate == guard.STALE_FLIP
    assert (runner.work.bounds().source, runner.work.bounds().target) == (50, 50)


def test_a_flip_whose_marker_does_not_come_leaves_ownership_as_it_was(
    fleet: MovingFleet, runner: Runner
) -> None:
    names = runner.work.names
    flip(runner.work, 100)
    with fleet.pair.target.connect() as target, fleet.pair.source.connect() as source:
        marker_in_the_pause = sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(names.forward))
        original = guard.close

        def close_and_cut(*arguments: object, opens: bool = False) -> None:
            if not opens:  # it is rehearsed
                original(*arguments)  # type: ignore[arg-type]
                return
            target.execute(marker_in_the_pause)
            wait_until(lambda: not _applies(target), "the apply worker stops")
            original(*arguments, opens=opens)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(guard, "close", close_and_cut)
            with pytest.raises(FlipFailed):
                flip(runner.work, 600)
        assert (runner.work.bounds().source, runner.work.bounds().target) == (100, 100)
        assert accepts(fleet.pair.source.application_dsn, _between(fleet, 100, 600))
        target.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(names.forward)))
        del source
    flip(runner.work, 600)
    assert runner.work.bounds().target == 600


@pytest.mark.parametrize(("before", "after"), [(0, 400), (400, 0)])
def test_the_marker_opens_although_the_runner_is_dead(fleet: MovingFleet, before: int, after: int) -> None:
    """Nobody has to come for the keys that a runner closed before it died: replication opens them."""
    with fleet.runner("first") as first:
        work = first.work
        flip(work, before)
        serving.open_to_applications(work, guard.Side.TARGET if after > before else guard.Side.SOURCE)
        intent = work.flips.intend(work.lease, before, after)
        opening = fleet.pair.target if after > before else fleet.pair.source
        with work.connections() as (source, target):
            closing = source if after > before else target
            guard.close(closing, work.names, intent.flip_no, after, uuid.uuid4(), opens=True)
        tailnum = _between(fleet, 0, 400)
        wait_until(lambda: accepts(opening.application_dsn, tailnum), "the marker opens")
    with fleet.runner("second") as second:
        assert second.work.flips.unfinished(fleet.migration) is None
        assert (second.work.bounds().source, second.work.bounds().target, second.record.bound) == (after,) * 3
        flip(second.work, 0)


def test_a_late_marker_does_not_open_a_cancelled_flip(runner: Runner) -> None:
    """The apply worker skips it and goes on: an error there would repeat for ever."""
    work = runner.work
    intent = work.flips.intend(work.lease, 0, 400)
    with work.connections() as (source, target), work.marker_line(guard.Side.SOURCE) as markers:
        assert guard.cancel(target, work.names, intent.flip_no)
        marker = uuid.uuid4()
        guard.close(source, work.names, intent.flip_no, 400, marker, opens=True)
        assert markers.applied(marker, 10)
        assert work.bounds().target == 0
    with pytest.raises(FlipFailed):
        finish_interrupted(work)
    assert (work.bounds().source, work.bounds().target) == (0, 0)


@pytest.mark.parametrize(("before", "after"), [(0, 400), (400, 0)])
@pytest.mark.parametrize(
    "died",
    [
        "before the close",
        "between close and open",
        "after the open",
        "after a cancel",
        "after a cancel in the journal",
    ],
)
def test_an_interrupted_flip_is_settled_by_the_next_runner(
    fleet: MovingFleet, died: str, before: int, after: int
) -> None:
    sender = guard.Side.SOURCE if after > before else guard.Side.TARGET
    with fleet.runner("first") as first:
        work = first.work
        flip(work, before)
        serving.open_to_applications(work, guard.Side.TARGET if after > before else guard.Side.SOURCE)
        intent = work.flips.intend(work.lease, before, after)
        with work.connections() as (source, target):
            closing, opening = (source, target) if sender is guard.Side.SOURCE else (target, source)
            if died != "before the close":
                guard.close(closing, work.names, intent.flip_no, after, uuid.uuid4())
            if died == "after the open":
                with work.marker_line(sender) as markers:
                    markers.drain(5)
                guard.open_(opening, work.names, intent.flip_no, after)
            if died.startswith("after a cancel"):
                assert guard.cancel(opening, work.names, intent.flip_no)
            if died == "after a cancel in the journal":
                work.flips.record(work.lease, intent.flip_no, "cancelled")
    if died == "after a cancel":
        with pytest.raises(FlipFailed), fleet.runner("second"):
            pass
    with fleet.runner("third") as third:
        bounds = third.work.bounds()
        expected = after if died in ("between close and open", "after the open") else before
        assert (bounds.source, bounds.target, third.record.bound) == (expected, expected, expected)
        assert third.work.flips.unfinished(fleet.migration) is None
        flip(third.work, 0)


# -- broken controls ----------------------------------------------------------------------------------------


@pytest.fixture
def guard_without_lock(fleet: MovingFleet) -> Iterator[None]:
    """The guard reads the bound without waiting for a flip that is closing."""
    locking = "PERFORM pg_advisory_xact_lock_shared(1179862852, here.migration_no);"
    for shard in (fleet.pair.source, fleet.pair.target):
        with shard.connect() as conn:
            row = conn.execute("SELECT pg_get_functiondef('foreshard.require_owner'::regproc)").fetchone()
            assert row is not None
            assert locking in str(row[0])
            conn.execute(str(row[0]).replace(locking, "").encode())
    yield
    for shard in (fleet.pair.source, fleet.pair.target):
        with connect(shard.operator_dsn) as conn:
            guard.install(conn)


@pytest.mark.usefixtures("guard_without_lock")
def test_the_checker_finds_what_a_guard_without_its_lock_loses(
    fleet: MovingFleet, runner: Runner, ledger: Ledger
) -> None:
    tailnum = tailnums(fleet)[0]
    ledger.note_starts(start for start in fleet.starts() if start.tailnum == tailnum)
    operation = ledger.intend(Kind.CYCLE, tailnum, BUCKET)
    with psycopg.connect(fleet.pair.source.application_dsn) as early:
        row = early.execute(COUNT, (tailnum,)).fetchone()
        assert row is not None
        flip(runner.work, SLOTS - 1)  # does not wait for the writer
        _increment(ledger, fleet.pair.target.application_dsn, tailnum)
        early.commit()
        ledger.settle(operation, State.ACKNOWLEDGED, shard="source", value=int(row[0]))
    _drain(runner)
    result = fleet.checked(ledger, fleet.pair.target)
    assert result.lost, "the checker must see the increment that the flip swallowed"
    assert not result.passed


def test_with_its_lock_the_same_writes_are_all_there(
    fleet: MovingFleet, runner: Runner, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshard.migration.flip.CLOSE_ATTEMPTS", 3)
    tailnum = tailnums(fleet)[0]
    ledger.note_starts(start for start in fleet.starts() if start.tailnum == tailnum)
    operation = ledger.intend(Kind.CYCLE, tailnum, BUCKET)
    with psycopg.connect(fleet.pair.source.application_dsn) as early:
        row = early.execute(COUNT, (tailnum,)).fetchone()
        assert row is not None
        with pytest.raises(FlipFailed) as waited:
            flip(runner.work, SLOTS - 1)
        assert [holder["pid"] for holder in waited.value.details["holders"]] == [early.info.backend_pid]
        early.commit()
        ledger.settle(operation, State.ACKNOWLEDGED, shard="source", value=int(row[0]))
    flip(runner.work, SLOTS - 1)
    _increment(ledger, fleet.pair.target.application_dsn, tailnum)
    _drain(runner)
    result = fleet.checked(ledger, fleet.pair.target)
    assert result.passed, result


def test_the_checker_finds_what_a_flip_without_the_marker_loses(
    fleet: MovingFleet, runner: Runner, ledger: Ledger
) -> None:
    """The target opens although the last writes of the source were not applied there yet."""
    tailnum = tailnums(fleet)[0]
    work = runner.work
    forward = sql.Identifier(work.names.forward)
    ledger.note_starts(start for start in fleet.starts() if start.tailnum == tailnum)
    with fleet.pair.target.connect() as admin:
        admin.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(forward))  # the target falls behind
        _increment(ledger, fleet.pair.source.application_dsn, tailnum)
        serving.open_to_applications(work, guard.Side.TARGET)
        intent = work.flips.intend(work.lease, 0, SLOTS - 1)
        with work.connections() as (source, target):
            guard.close(source, work.names, intent.flip_no, SLOTS - 1, uuid.uuid4())
            guard.open_(target, work.names, intent.flip_no, SLOTS - 1)  # the broken step: nobody waited
        _increment(ledger, fleet.pair.target.application_dsn, tailnum)
        admin.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(forward))
    finish_interrupted(work)
    _drain(runner)
    result = fleet.checked(ledger, fleet.pair.target)
    assert result.lost, "the checker must see the increment that the target did not know of"


def test_the_checker_finds_what_is_applied_twice(fleet: MovingFleet, ledger: Ledger) -> None:
    """A blind retry of a write that had been committed: what UnknownCommitOutcome is for."""
    start = next(each for each in fleet.starts() if each.bucket == BUCKET)
    insert = sql.SQL(
        "INSERT INTO {} (tailnum, flight_id, op_id, kind, passenger, at, detail)"
        " VALUES (%s, %s, %s, 'boarded', 'twice', now(), '')"
    ).format(sql.Identifier(BUCKET, "passenger_events"))
    ledger.note_starts([start])
    operation = ledger.intend(Kind.EVENT, start.tailnum, BUCKET)
    with psycopg.connect(fleet.pair.source.application_dsn, autocommit=True) as conn:
        for _ in range(2):
            conn.execute(insert, (start.tailnum, start.flight_id, operation))
    ledger.settle(operation, State.ACKNOWLEDGED, shard="source")
    result = fleet.checked(ledger, fleet.pair.source)
    assert [finding.count for finding in result.doubled] == [1]


def _increment(ledger: Ledger, dsn: str, tailnum: str) -> None:
    operation = ledger.intend(Kind.CYCLE, tailnum, BUCKET)
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute(COUNT, (tailnum,)).fetchone()
    assert row is not None
    ledger.settle(operation, State.ACKNOWLEDGED, shard="any", value=int(row[0]))


def _drain(runner: Runner) -> None:
    with runner.work.marker_line(guard.Side.SOURCE) as markers:
        markers.drain(20)


def _between(fleet: MovingFleet, low: int, high: int) -> str:
    return next(t for t in tailnums(fleet) if low <= slot(t, KeyType.TEXT) < high)


def _applies(target: psycopg.Connection[tuple[object, ...]]) -> bool:
    return target.execute("SELECT 1 FROM pg_stat_subscription WHERE pid IS NOT NULL").fetchone() is not None


def test_the_application_may_not_touch_the_fence(fleet: MovingFleet, runner: Runner) -> None:
    names = runner.work.names.schema
    with fleet.pair.source.connect(APPLICATION) as conn:
        for statement in (
            f"SELECT foreshard.open('{names}', 9, 0)",
            f"SELECT foreshard.close('{names}', 9, 0, gen_random_uuid(), true)",
            f"SELECT foreshard.adopt_timeline('{names}', 0, '1')",
            f"SELECT foreshard.retire('{names}')",
            f"SELECT foreshard.drop_copy('{names}', 1024)",
            f"SELECT setval('{names}.bound', 5)",
            "DELETE FROM foreshard.moving",
            "SELECT foreshard.require_owner('b0000', 1, 1, false)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement.encode())
