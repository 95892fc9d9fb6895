"""`foreshard check diff` and `repair` on real servers: rows come from their owner, and nothing flows back to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from foreshard.control.repair_store import RepairStore
from foreshard.errors import ForeshardError, IllegalTransition, InvalidInput, LeaseLost
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.migration import repair
from foreshard.migration.bystander import Bystander
from foreshard.migration.difference import Difference, find, owner_of
from foreshard.migration.flip import flip
from foreshard.migration.lifecycle import Stage
from foreshard.migration.repair import Repair, RowOutcome
from foreshard.postgres import repair_session
from foreshard.postgres.guard import Side
from foreshard.postgres.last_word import Word
from foreshard.topology.keys import KeyType, slot
from tests.integration.moving_fleet import BUCKETS, MovingFleet, assert_whole, wait_until, writers
from tests.unseen_session import unseen

BUCKET = BUCKETS[0]
BOUND = 512
GHOST = "N-GHOST"
SEATS = 7777


@pytest.fixture
def work(copied_fleet: MovingFleet) -> Iterator[Bystander]:
    """A migration whose copies are equal; the bound is 0 again afterwards."""
    yield Bystander(copied_fleet.control, copied_fleet.settings, copied_fleet.migration)
    with copied_fleet.runner() as runner:
        flip(runner.work, 0)


def table(name: str) -> sql.Identifier:
    return sql.Identifier(BUCKET, name)


def tailnums(fleet: MovingFleet, owner: Side) -> list[str]:
    """Of the bucket's aircraft those that ``owner`` owns at bound 512."""
    names = [start.tailnum for start in fleet.starts() if start.bucket == BUCKET]
    return [name for name in names if (slot(name, KeyType.TEXT) < BOUND) == (owner is Side.TARGET)]


def spoil(shard: ShardDatabase, names: Sequence[str], ghost: str) -> None:
    """One row changed, one missing with its flights, one ghost: on this side alone."""
    changed, missing = names[:2]
    with unseen(shard) as conn:
        conn.execute(
            sql.SQL("UPDATE {} SET seats = %s, model = NULL WHERE tailnum = %s").format(table("aircraft")),
            (SEATS, changed),
        )
        for name in ("passenger_events", "flights", "aircraft"):
            conn.execute(sql.SQL("DELETE FROM {} WHERE tailnum = %s").format(table(name)), (missing,))
        conn.execute(
            sql.SQL("INSERT INTO {} (tailnum, seats) VALUES (%s, 1)").format(table("aircraft")), (ghost,)
        )


def ghost_of(owner: Side) -> str:
    """A key that no aircraft has, owned by that side at bound 512."""
    names = (f"{GHOST}{number}" for number in range(100))
    return next(name for name in names if (slot(name, KeyType.TEXT) < BOUND) == (owner is Side.TARGET))


def contents(shard: ShardDatabase) -> list[list[tuple[Any, ...]]]:
    with shard.connect() as conn:
        return [
            conn.execute(
                sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(bucket, name))
            ).fetchall()
            for bucket in BUCKETS
            for name in ("aircraft", "flights", "passenger_events")
        ]


def told(rows: Sequence[Difference]) -> set[tuple[str, str, str, str | None]]:
    return {(row.table, row.key, row.kind.value, row.owner and row.owner.value) for row in rows}


def mend(fleet: MovingFleet, work: Bystander, rows: Sequence[Difference]) -> dict[str, int]:
    outcomes = Repair(work, RepairStore(fleet.control), "Ada").run(rows)
    assert len(outcomes) == len(rows)
    counts: dict[str, int] = {}
    for one in outcomes:
        counts[one.what] = counts.get(one.what, 0) + 1
    return counts


@pytest.mark.parametrize(
    ("bound", "owner"), [(0, Side.SOURCE), (BOUND, Side.SOURCE), (BOUND, Side.TARGET), (1024, Side.TARGET)]
)
def test_what_differs_is_shown_and_comes_from_its_owner(
    copied_fleet: MovingFleet, work: Bystander, bound: int, owner: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = copied_fleet
    monkeypatch.setattr("foreshard.migration.flip.authorise", lambda *_: None)
    with fleet.runner() as runner:
        flip(runner.work, bound)
    spoilt = fleet.pair.target if owner is Side.SOURCE else fleet.pair.source
    owning = fleet.pair.source if owner is Side.SOURCE else fleet.pair.target
    names, ghost = tailnums(fleet, owner), ghost_of(owner)
    before = contents(owning)
    spoil(spoilt, names, ghost)
    found = find(work, values=True)
    shown = told(found.rows)
    assert {
        ("aircraft", f"tailnum={names[0]}", "changed", owner.value),
        ("aircraft", f"tailnum={names[1]}", "missing", owner.value),
        ("aircraft", f"tailnum={ghost}", "ghost", owner.value),
    } <= shown
    (changed,) = [row for row in found.rows if row.kind == "changed"]
    assert changed.columns == ("model", "seats")
    assert changed.values is not None
    here = changed.values.target if owner is Side.SOURCE else changed.values.source
    assert here is not None
    assert (here["seats"], here["model"]) == (str(SEATS), None)
    assert all(row.values is None for row in find(work).rows)
    counts = mend(fleet, work, found.rows)
    assert counts == {"inserted": len(found.rows) - 2, "updated": 1, "deleted": 1}
    assert len(found.rows) > 4  # flights and events of the missing aircraft, too
    assert find(work).equal
    assert contents(owning) == before == contents(spoilt)
    notes = [note for note in RepairStore(fleet.control).of(fleet.migration) if note.shard == spoilt.name]
    assert {note.said_by for note in notes} == {"Ada"}
    done = {key: note.what for note in notes for key in note.keys if note.table == "aircraft"}
    assert done[f"tailnum={ghost}"] == "deleted"
    assert_nothing_left(fleet)


def assert_nothing_left(fleet: MovingFleet) -> None:
    for shard in (fleet.pair.source, fleet.pair.target):
        with shard.connect() as conn:
            origins = conn.execute("SELECT roname FROM pg_replication_origin WHERE roname LIKE '%repair'")
            assert origins.fetchall() == []
            locks = conn.execute(
                "SELECT count(*) FROM pg_locks WHERE mode IN ('ExclusiveLock', 'ShareRowExclusiveLock')"
                " AND locktype IN ('advisory', 'relation')"
            )
            assert locks.fetchone() == (0,)


@pytest.mark.parametrize("with_origin", [True, False])
def test_without_an_origin_the_owner_would_lose_the_row(
    copied_fleet: MovingFleet, work: Bystander, monkeypatch: pytest.MonkeyPatch, with_origin: bool
) -> None:
    """The control of hole 1. A ghost is deleted on the target; before that arrives at the source, an application makes
    that very row there. What the repair wrote must not reach it.
    """
    fleet, ghost = copied_fleet, ghost_of(Side.SOURCE)
    if not with_origin:
        monkeypatch.setattr(repair_session, "_take_origin", lambda *_: None)
        monkeypatch.setattr(repair_session, "_give_origin_back", lambda *_: None)
    with unseen(fleet.pair.target) as conn:
        conn.execute(
            sql.SQL("INSERT INTO {} (tailnum, seats) VALUES (%s, 1)").format(table("aircraft")), (ghost,)
        )
    rows = find(work).rows
    assert told(rows) == {("aircraft", f"tailnum={ghost}", "ghost", "source")}
    reverse = sql.Identifier(work.names.reverse)
    with fleet.pair.source.connect() as source:
        monkeypatch.setattr(repair, "require_comparable", lambda _: None)  # was asked a moment ago
        source.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(reverse))
        assert mend(fleet, work, rows) == {"deleted": 1}
        with fleet.pair.source.connect("airline_app") as application:
            application.execute(
                sql.SQL("INSERT INTO {} (tailnum, seats) VALUES (%s, 9)").format(table("aircraft")), (ghost,)
            )
        source.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(reverse))
        with work.marker_line(Side.TARGET) as markers:
            markers.drain(20)
        kept = source.execute(
            sql.SQL("SELECT seats FROM {} WHERE tailnum = %s").format(table("aircraft")), (ghost,)
        ).fetchall()
        assert kept == ([(9,)] if with_origin else [])  # lost, by a repair of the other side
        source.execute(sql.SQL("DELETE FROM {} WHERE tailnum = %s").format(table("aircraft")), (ghost,))
    monkeypatch.undo()
    with unseen(fleet.pair.target) as conn:
        conn.execute(sql.SQL("DELETE FROM {} WHERE tailnum = %s").format(table("aircraft")), (ghost,))
    assert find(work).equal


def test_writers_lose_nothing_while_rows_are_mended(
    copied_fleet: MovingFleet, work: Bystander, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the cutover, at a canary bound and after it; the very rows that are written are spoilt and mended."""
    fleet = copied_fleet
    monkeypatch.setattr("foreshard.migration.flip.authorise", lambda *_: None)
    monkeypatch.setattr(repair, "ROWS_AT_ONCE", 7)
    change = sql.SQL("UPDATE {} SET cycles = -1 WHERE tailnum = ANY (%s)").format(table("aircraft"))
    with writers(fleet) as writing:
        for bound, owner in (
            (0, Side.SOURCE),
            (BOUND, Side.SOURCE),
            (BOUND, Side.TARGET),
            (1024, Side.TARGET),
        ):
            with fleet.runner() as runner:
                flip(runner.work, bound)
            writing.wait_for_more(50)
            spoilt = fleet.pair.target if owner is Side.SOURCE else fleet.pair.source
            names = (
                tailnums(fleet, owner)
                if bound == BOUND
                else [start.tailnum for start in fleet.starts() if start.bucket == BUCKET]
            )
            with unseen(spoilt) as conn:
                conn.execute(change, (names,))
            rows = [
                Difference(BUCKET, "aircraft", 0, f"tailnum={name}", Word.CHANGED, (name,), owner)
                for name in names
            ]
            counts = mend(
                fleet, work, rows
            )  # those that were written meanwhile are equal again by themselves
            assert counts.keys() <= {"updated", "equal"}
            assert find(work).equal
            writing.wait_for_more(50)
        writing.stop()
        result = fleet.checked(writing.ledger, fleet.pair.target)
    assert_whole(result, redirected=True)


def test_a_flip_in_between_leaves_the_rows(copied_fleet: MovingFleet, work: Bystander) -> None:
    """They were found at bound 0; by the time they are mended the target owns them."""
    fleet, name = copied_fleet, tailnums(copied_fleet, Side.TARGET)[0]
    spoil(fleet.pair.target, [name, tailnums(fleet, Side.SOURCE)[0]], ghost_of(Side.SOURCE))
    rows = find(work).rows
    with fleet.runner() as runner:
        flip(runner.work, BOUND)
    before = contents(fleet.pair.target)
    outcomes = Repair(work, RepairStore(fleet.control), "Ada").run([row for row in rows if name in row.key])
    assert {(one.what, one.why) for one in outcomes} == {("left", "it has another owner by now")}
    assert contents(fleet.pair.target) == before
    assert mend(fleet, work, find(work).rows).keys() <= {"inserted", "updated", "deleted"}
    assert find(work).equal


def test_values_of_a_unique_column_may_have_changed_places(
    copied_fleet: MovingFleet, work: Bystander, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows of a batch are deleted before the first is written; one that is in the way of a later batch waits."""
    fleet = copied_fleet
    one, two, three = tailnums(fleet, Side.SOURCE)[:3]
    index = sql.SQL("CREATE UNIQUE INDEX one_of_a_kind ON {} (seats) WHERE seats > 100000").format(
        table("aircraft")
    )
    seat = sql.SQL("UPDATE {} SET seats = %s WHERE tailnum = %s").format(table("aircraft"))
    with fleet.pair.target.connect() as conn:
        conn.execute(index)
    try:
        with fleet.pair.source.connect("airline_app") as application:
            for number, name in enumerate((one, two, three), 100001):
                application.execute(seat, (number, name))
        with work.marker_line(Side.SOURCE) as markers:
            markers.drain(20)
        with unseen(fleet.pair.target) as conn:
            for name, seats in ((one, 0), (two, 100001), (three, 100002), (one, 100003)):
                conn.execute(seat, (seats, name))
        assert mend(fleet, work, find(work).rows) == {"updated": 3}
        assert find(work).equal
        with unseen(fleet.pair.target) as conn:
            for name, seats in ((three, 0), (two, 100003), (one, 100002)):
                conn.execute(seat, (seats, name))
        monkeypatch.setattr(repair, "ROWS_AT_ONCE", 1)
        assert mend(fleet, work, find(work).rows) == {"updated": 3}
        assert find(work).equal
    finally:
        with fleet.pair.target.connect() as conn:
            conn.execute(sql.SQL("DROP INDEX {}").format(table("one_of_a_kind")))


def test_a_look_changes_nothing_and_does_not_disturb_the_runner(
    copied_fleet: MovingFleet, work: Bystander
) -> None:
    with copied_fleet.runner() as runner:
        assert find(work).equal
        with pytest.raises(LeaseLost):
            work.store.put_facts(work.lease, mine=True)
        flip(runner.work, BOUND)
        assert find(work).equal
    with pytest.raises(InvalidInput, match="--table: 'planes' is not"):
        find(work, tables=["planes"])


def test_nobody_mends_without_a_name(copied_fleet: MovingFleet, work: Bystander) -> None:
    with pytest.raises(InvalidInput, match="--as"):
        Repair(work, RepairStore(copied_fleet.control), " ")


def test_notes_of_repairs_are_final(copied_fleet: MovingFleet) -> None:
    for statement in (
        "UPDATE repairs SET said_by = 'x'",
        "DELETE FROM repaired_rows",
        "TRUNCATE repaired_rows",
    ):
        with (
            copied_fleet.control.connect() as conn,
            pytest.raises(psycopg.errors.RaiseException, match="neither changed nor deleted"),
        ):
            conn.execute(statement.encode())


def test_one_repair_at_a_time(copied_fleet: MovingFleet, work: Bystander) -> None:
    shard = copied_fleet.pair.target
    with (
        repair_session.repair_session(shard.operator_dsn, work.names),
        pytest.raises(ForeshardError, match="Another repair"),
        repair_session.repair_session(shard.operator_dsn, work.names),
    ):
        pass


RIGHTS = (
    "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_drop(text) FROM foreshard",
    "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_session_setup(text) FROM foreshard",
    "REVOKE SET ON PARAMETER session_replication_role FROM foreshard",
)


@pytest.mark.parametrize("taken", RIGHTS)
def test_without_its_rights_it_writes_nothing(copied_fleet: MovingFleet, work: Bystander, taken: str) -> None:
    from foreshard.fleet.grants import grants_sql

    shard = copied_fleet.pair.target
    try:
        with shard.connect() as admin:
            admin.execute(taken.encode())
        with pytest.raises(ForeshardError, match="needs rights that our role lacks") as refused:
            Repair(work, RepairStore(copied_fleet.control), "Ada").require_rights()
        assert "foreshard grants" in str(refused.value.remedy)
        with shard.connect("foreshard") as conn:  # a fleet that never ran that script can end its migrations
            repair_session.drop_origin(conn, work.names)
        with (
            pytest.raises(ForeshardError, match="needs rights"),
            repair_session.repair_session(shard.operator_dsn, work.names),
        ):
            pass
    finally:
        with shard.connect() as admin:
            admin.execute(grants_sql(database=shard.database).encode())


@pytest.mark.slow
def test_only_while_there_are_two_copies(fleet: MovingFleet) -> None:
    work = Bystander(fleet.control, fleet.settings, fleet.migration)
    with pytest.raises(IllegalTransition, match="is in preflight"):
        find(work)
    fleet.run_until(Stage.SOAK)
    # One that stands still has its origin: the end of the migration takes both away.
    with repair_session.repair_session(fleet.pair.source.operator_dsn, work.names) as still:
        fleet.run_until(None)
        with pytest.raises(psycopg.OperationalError):
            still.execute("SELECT 1")
    with pytest.raises(IllegalTransition, match="is in done") as over:
        find(work)
    assert "foreshard verify --bucket" in str(over.value.remedy)
    assert_nothing_left(fleet)


def rewrites_all(self: Any, row: Difference, owned: Any, copied: Any, bound: int) -> RowOutcome:
    """A repair that takes every row of the owner's for different, so that it writes all the time."""
    if owned is None or copied is None:
        return RowOutcome(row, repair.LEFT, "away")
    if owner_of([owned.slot, copied.slot], bound) is not self._into.other:
        return RowOutcome(row, repair.LEFT, "it has another owner by now")
    return RowOutcome(row, repair.UPDATED)


@contextmanager
def mender(fleet: MovingFleet, work: Bystander) -> Iterator[list[int]]:
    """A thread that mends the aircraft on both sides without a pause; the list holds rows written."""
    stop, written, failures = threading.Event(), [0], list[BaseException]()
    names = [start.tailnum for start in fleet.starts()[:40] if start.bucket == BUCKET]

    def go_on() -> None:
        try:
            while not stop.is_set():
                for owner in Side:
                    rows = [
                        Difference(BUCKET, "aircraft", 0, name, Word.CHANGED, (name,), owner)
                        for name in names
                    ]
                    outcomes = Repair(work, RepairStore(fleet.control), "Ada").run(rows)
                    written[0] += sum(one.what == repair.UPDATED for one in outcomes)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield written
    finally:
        stop.set()
        thread.join()
    assert failures == []


@pytest.mark.slow
def test_neither_writes_nor_flips_come_in_between(
    copied_fleet: MovingFleet, work: Bystander, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are mended all the time on both sides, while they are written and the bound goes up and down."""
    fleet = copied_fleet
    monkeypatch.setattr("foreshard.migration.flip.authorise", lambda *_: None)
    monkeypatch.setattr(repair._Ends, "_outcome", rewrites_all)
    monkeypatch.setattr(repair, "ROWS_AT_ONCE", 5)
    with writers(fleet) as writing:
        with mender(fleet, work) as written:
            for bound in (300, 700, 200, 900, 1024):
                before = written[0]
                with fleet.runner() as runner:
                    flip(runner.work, bound)
                writing.wait_for_more(30)
                wait_until(lambda before=before: written[0] > before + 10, "rows mended")  # type: ignore[misc]
        writing.stop()
        result = fleet.checked(writing.ledger, fleet.pair.target)
    assert_whole(result, redirected=True)
    monkeypatch.undo()
    assert find(work).equal


@pytest.mark.slow
def test_without_its_fence_they_would(
    copied_fleet: MovingFleet, work: Bystander, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what was read at the owner is written to the copy later, while others go on writing: old values."""
    fleet = copied_fleet
    names = [start.tailnum for start in fleet.starts()[:40] if start.bucket == BUCKET]

    def unfenced(self: Any, rows: dict[Any, Difference]) -> list[RowOutcome]:
        with self._reader.transaction():
            self._reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._table.read(self._reader, list(rows))
            writing.wait_for_more(100)
            with self._writer.transaction():
                self._table.rewrite(self._reader, self._writer, list(rows))
        return [RowOutcome(row, repair.UPDATED) for row in rows.values()]

    monkeypatch.setattr(repair._Ends, "mend", unfenced)
    with writers(fleet) as writing:
        rows = [Difference(BUCKET, "aircraft", 0, name, Word.CHANGED, (name,), Side.SOURCE) for name in names]
        assert mend(fleet, work, rows) == {"updated": len(names)}
        writing.stop()
    monkeypatch.undo()
    found = find(work)
    assert {row.kind for row in found.rows} == {Word.CHANGED}
    assert mend(fleet, work, found.rows) == {"updated": len(found.rows)}
    assert find(work).equal
