"""Failover of a shard with a real standby: flips wait for it; after it nobody owns keys there until it is closed."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from foreshard.control.migration_models import Migration
from foreshard.errors import FailedOver, FlipFailed, ForeshardError
from foreshard.fleet.grants import APPLICATION
from foreshard.fleet.server import SUPERUSER
from foreshard.fleet.throwaway import ShardDatabase, ThrowawayServers
from foreshard.migration import failover, way_back
from foreshard.migration.flip import flip
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner
from foreshard.migration.unattended import give_owners
from foreshard.migration.work import Work
from foreshard.postgres import guard, standbys
from foreshard.postgres.guard import Side
from foreshard.topology.keys import SLOTS, KeyType, slot
from tests.integration.failover_fleet import FailoverFleet, failover_fleet
from tests.integration.moving_fleet import BUCKETS, QUICK, assert_whole, ignore, wait_until, writers
from tests.integration.standby import FailoverShard

pytestmark = pytest.mark.slow

PATIENT = QUICK.model_copy(update={"standby_timeout_s": 1.0, "lease_s": 20.0})
CLOSE = "foreshard.migration.flip._close"  # not guard.close: that is rehearsed first
flip_module = importlib.import_module("foreshard.migration.flip")
COUNT = sql.SQL("UPDATE {} SET cycles = cycles + 1 WHERE tailnum = %s").format(
    sql.Identifier(BUCKETS[0], "aircraft")
)


def answer(shard: ShardDatabase, tailnum: str, role: str = SUPERUSER) -> str | None:
    """What one who writes this key there is told: None if it was let through, else the SQLSTATE.

    The superuser is bound by the guard too; to the application a copy that owns nothing is closed as a whole.
    """
    with psycopg.connect(shard.dsn(role), connect_timeout=10) as conn:
        try:
            conn.execute(COUNT, (tailnum,))
        except psycopg.Error as refusal:
            return refusal.sqlstate or str(refusal)
        finally:
            conn.rollback()  # the history knows nothing of it
    return None


def tailnums(fleet: FailoverFleet) -> list[str]:
    return [start.tailnum for start in fleet.starts() if start.bucket == BUCKETS[0]]


def assert_owners(fleet: FailoverFleet, bound: int, keys: Sequence[str] = ()) -> None:
    """Every key is owned by exactly the one side that the bound says."""
    for tailnum in keys or tailnums(fleet):
        on_target = slot(tailnum, KeyType.TEXT) < bound
        owner, other = (Side.TARGET, Side.SOURCE) if on_target else (Side.SOURCE, Side.TARGET)
        assert answer(fleet.shard(other), tailnum) == "FS001", (tailnum, bound)
        assert answer(fleet.shard(owner), tailnum, APPLICATION) is None, (tailnum, bound)


# -- flips wait for standbys ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailoverFleet]:
    """Complete copies, a standby with a slot on either side. The tests share it and leave the bound at 0."""
    directory = tmp_path_factory.mktemp("copied")
    with failover_fleet(servers, list(Side), directory, PATIENT, slot=True) as fleet:
        fleet.run_until(Stage.VERIFY)
        yield fleet


@pytest.fixture
def runner(copied: FailoverFleet) -> Iterator[Runner]:
    with copied.runner() as held:
        yield held
        for side in Side:
            copied.failover(side).standby.release_receive()
            copied.failover(side).standby.start()
            copied.failover(side).standby.wait_until_level()
        flip(held.work, 0)


@contextmanager
def held_at_the_close(shard: FailoverShard) -> Iterator[None]:
    """The standby is level until the flip closes; from then on it gets nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLOSE, _before(shard.standby.hold_receive, flip_module._close))
        yield


def _before(first: Callable[[], object], then: Callable[..., Any]) -> Callable[..., Any]:
    def both(*arguments: Any) -> Any:
        first()
        return then(*arguments)

    return both


@pytest.mark.parametrize(
    ("lagging", "before", "after"),
    [
        (Side.SOURCE, 0, 400),
        (Side.SOURCE, 200, 600),
        (Side.TARGET, 400, 0),
        (Side.TARGET, 0, 400),
        (Side.SOURCE, 400, 0),
    ],
)
def test_a_flip_that_a_standby_did_not_get_is_undone(
    copied: FailoverFleet, runner: Runner, lagging: Side, before: int, after: int
) -> None:
    flip(runner.work, before)
    shard = copied.failover(lagging)
    with held_at_the_close(shard), pytest.raises(FlipFailed, match=f"standby {lagging}-standby of the"):
        flip(runner.work, after)
    assert (runner.work.bounds().source, runner.work.bounds().target) == (before, before)
    assert_owners(copied, before)
    shard.standby.release_receive()
    flip(runner.work, after)
    assert_owners(copied, after)


@pytest.mark.parametrize("lagging", list(Side))
def test_a_standby_that_is_behind_refuses_the_flip_before_anything_is_closed(
    copied: FailoverFleet, runner: Runner, monkeypatch: pytest.MonkeyPatch, lagging: Side
) -> None:
    closed: list[object] = []
    monkeypatch.setattr(CLOSE, lambda *_: closed.append("closed"))
    copied.failover(lagging).standby.hold_receive()
    with pytest.raises(FlipFailed, match=f"{lagging}-standby is behind") as refused:
        flip(runner.work, 400)
    assert refused.value.details["standbys"] == [f"{lagging}-standby"]
    assert closed == []


def test_a_standby_that_went_away_refuses_flips_until_it_is_back(
    copied: FailoverFleet, runner: Runner
) -> None:
    shard = copied.failover(Side.SOURCE)
    flip(runner.work, 100)
    shard.standby.kill9()
    wait_until(lambda: not shard.standby.is_streaming, "the standby is gone")
    with pytest.raises(FlipFailed, match=r"source-standby.* is behind or away"):
        flip(runner.work, 400)
    assert_owners(copied, 100)
    shard.standby.start()
    shard.standby.wait_until_level()
    flip(runner.work, 400)
    assert_owners(copied, 400)


def test_only_the_standbys_that_are_named_are_waited_for(
    copied: FailoverFleet, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(**standbys: tuple[str, ...]) -> None:
        monkeypatch.setattr(
            runner.work, "settings", runner.work.settings.model_copy(update={"standbys": standbys})
        )

    name(source=("source-standby", "the-other-one"))
    with pytest.raises(FlipFailed, match="Standby the-other-one is behind or away"):
        flip(runner.work, 100)
    copied.failover(Side.SOURCE).standby.hold_receive()
    name(source=())
    flip(runner.work, 100)
    assert_owners(copied, 100)


def test_a_restart_on_the_same_disk_changes_nothing(copied: FailoverFleet, runner: Runner) -> None:
    flip(runner.work, 300)
    for side in Side:
        server = copied.failover(side).server
        server.kill9()
        server.start()
    assert_owners(copied, 300)
    assert failover.UNPROVEN not in runner.work.facts()
    for side in Side:
        copied.failover(side).standby.wait_until_level()
    wait_until(lambda: _flips(runner, 500), "streams and standbys are back")
    assert_owners(copied, 500)


def _flips(runner: Runner, bound: int) -> bool:
    try:
        flip(runner.work, bound)
    except ForeshardError:
        return False
    return True


def test_a_base_backup_is_no_standby(copied: FailoverFleet) -> None:
    """It streams too, by a temporary slot; remembered, it would refuse every flip after it has ended."""
    standby = copied.failover(Side.SOURCE).standby
    server = standby.primary

    def back_up() -> None:
        with pytest.raises(ForeshardError, match="terminat"):
            standby.back_up(standby.directory / "backup", "--max-rate=32")

    backup = threading.Thread(target=back_up)
    backup.start()
    streaming = "SELECT pid FROM pg_stat_replication WHERE application_name = 'pg_basebackup'"
    try:
        with server.connect() as conn:
            wait_until(
                lambda: len(conn.execute(streaming).fetchall()) == 2, "the backup streams WAL beside it"
            )
            assert standbys.seen(conn) == {"source-standby"}
            assert standbys.unwatched(conn) == []
    finally:
        with server.connect() as conn:
            conn.execute(f"SELECT pg_terminate_backend(pid) FROM ({streaming}) AS running".encode())
        backup.join()


@pytest.mark.parametrize(("before", "after"), [(0, 400), (400, 0)])
def test_when_a_flip_is_done_the_standby_of_the_opening_side_has_all_that_was_written_before_it(
    copied: FailoverFleet, runner: Runner, before: int, after: int
) -> None:
    """The apply worker commits asynchronously: what it applied must be on disk before a standby can be asked for it."""
    flip(runner.work, before)
    opening = Side.TARGET if after > before else Side.SOURCE
    shard = copied.failover(opening)
    with shard.server.connect() as admin:
        admin.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        admin.execute("SELECT pg_reload_conf()")
    markers: list[Any] = []

    def close(*arguments: Any) -> Any:
        markers.append(done := original(*arguments))
        return done

    original = flip_module._close
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CLOSE, close)
            patch.setattr(guard, "open_", _before(shard.standby.hold_receive, guard.open_))
            flip(runner.work, after)
        with shard.standby.connect(shard.database) as standby:
            table = sql.Identifier(runner.work.names.schema, "marker")
            wait_until(lambda: _replayed(standby), "the standby has replayed what it has", 5)
            found = standby.execute(sql.SQL("SELECT 1 FROM {} WHERE id = %s").format(table), markers[0][:1])
            assert found.fetchone() is not None
    finally:
        shard.standby.release_receive()
        with shard.server.connect() as admin:
            admin.execute("ALTER SYSTEM RESET wal_writer_delay")
            admin.execute("SELECT pg_reload_conf()")


def _replayed(standby: psycopg.Connection[Any]) -> bool:
    row = standby.execute("SELECT pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn()").fetchone()
    return row == (True,)


# -- after a failover -------------------------------------------------------------------------------------------

MOMENTS = {"bound 0": Stage.WRITE_REDIRECT, "canary": Stage.CUTOVER, "soak": Stage.SOAK}


@contextmanager
def failed_over(
    servers: ThrowawayServers, directory: Path, side: Side, moment: str
) -> Iterator[FailoverFleet]:
    """A fleet with a history of writes whose ``side`` was failed over at that moment to a standby that was level."""
    unhurried = PATIENT.model_copy(update={"standby_timeout_s": 20.0})  # nothing is held back here
    with failover_fleet(servers, [side], directory, unhurried, slot=True) as fleet:
        with writers(fleet) as writing:
            fleet.run_until(MOMENTS[moment])
            writing.wait_for_more(30)
            writing.stop()
        with fleet.runner() as runner:
            for sender in Side:
                with runner.work.marker_line(sender) as line:
                    line.drain(20)
        fleet.failover(side).standby.wait_until_level()
        fleet.failover(side).fail_over()
        yield fleet


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "moment"),
    [
        (Side.SOURCE, "bound 0"),
        (Side.SOURCE, "canary"),
        (Side.SOURCE, "soak"),
        (Side.TARGET, "bound 0"),
        (Side.TARGET, "canary"),
        (Side.TARGET, "soak"),
    ],
)
def test_after_a_failover_a_key_has_one_owner_and_the_way_back_is_open(
    servers: ThrowawayServers, tmp_path: Path, side: Side, moment: str
) -> None:
    with failed_over(servers, tmp_path, side, moment) as fleet:
        bound = fleet.store.get(fleet.migration).bound
        keys = tailnums(fleet)
        assert {answer(fleet.failover(side), tailnum) for tailnum in keys} == {"FS005"}
        with writers(fleet) as writing:  # writes of keys that nobody owns now are retried, not refused
            with fleet.runner() as runner:
                assert (runner.work.bounds().source, runner.work.bounds().target) == (bound, bound)
                assert_owners(fleet, bound, keys)
                writing.wait_for_more(30)
                back = runner.reverse if moment == "soak" else runner.abort
                back(ignore)
            writing.wait_for_more(30)
            writing.stop()
            assert_whole(fleet.checked(writing.ledger, fleet.pair.source), redirected=moment != "bound 0")
        assert fleet.store.get(fleet.migration).stage in (Stage.ABORTED, Stage.REVERSED)
        assert fleet.leftovers() == []
        assert fleet.schemas(fleet.pair.target) == []


@pytest.mark.slow
@pytest.mark.parametrize("side", list(Side))
def test_a_stream_that_begins_anew_is_proven_before_keys_go_on(
    servers: ThrowawayServers, tmp_path: Path, side: Side
) -> None:
    """The standby had no logical slot. What the lost stream had not brought yet, only a comparison can find."""
    with failed_over(servers, tmp_path, side, "canary") as fleet:
        other = fleet.shard(side.other)
        with fleet.runner() as runner:
            before = runner.work.bounds()
            tailnum = next(
                t for t in tailnums(fleet) if (_slot(t) < (before.target or 0)) == (side is Side.TARGET)
            )
            row = _take_a_row(other, tailnum)
            with pytest.raises(FailedOver, match=f"{side.other} lacks rows") as refused:
                flip(runner.work, SLOTS - 1)
            assert str(row[0]) in str(refused.value.details["tables"])
            assert runner.work.bounds() == before
            _give_it_back(other, row)
            flip(runner.work, SLOTS - 1)
            flip(runner.work, 0)


def test_a_soak_that_sees_a_failover_settles_it_before_it_asks_for_the_way_back(
    servers: ThrowawayServers, tmp_path: Path
) -> None:
    """The standby had no slot for the reverse stream: gone for a moment is not gone for good."""
    with failed_over(servers, tmp_path, Side.TARGET, "soak") as fleet:
        lease = fleet.store.acquire(fleet.migration, "soaking", None, 60)
        assert way_back.check(Work(fleet.control, fleet.settings, lease)) >= 0
        assert_owners(fleet, SLOTS)
        fleet.store.release(lease)


def test_a_failover_does_not_wait_for_the_person_who_is_asked(
    servers: ThrowawayServers, tmp_path: Path
) -> None:
    """Nobody drives a migration that waits for approval: the janitor gives the keys their owner again."""
    with failed_over(servers, tmp_path, Side.SOURCE, "bound 0") as fleet:
        with fleet.control.transaction() as session:
            session.query(Migration).update({"waiting_for": "approval of flip 1"})
        keys = tailnums(fleet)
        assert {answer(fleet.failover(Side.SOURCE), tailnum) for tailnum in keys} == {"FS005"}
        assert give_owners(fleet.control, fleet.settings) == [fleet.migration]
        assert_owners(fleet, 0, keys)
        assert fleet.store.get(fleet.migration).waiting_for == "approval of flip 1"
        assert give_owners(fleet.control, fleet.settings) == []


EVENTS = sql.Identifier(BUCKETS[0], "passenger_events")


def _take_a_row(shard: FailoverShard | ShardDatabase, tailnum: str) -> tuple[object, ...]:
    """Delete an event there as a stream that lost it: neither refused by the guard nor sent on."""
    taken = sql.SQL(
        "DELETE FROM {0} WHERE ctid = (SELECT ctid FROM {0} WHERE tailnum = %s LIMIT 1) RETURNING *"
    )
    with _as_a_stream(shard) as conn:
        row = conn.execute(taken.format(EVENTS), (tailnum,)).fetchone()
    assert row is not None
    return row


def _give_it_back(shard: FailoverShard | ShardDatabase, row: tuple[object, ...]) -> None:
    places = sql.SQL(", ").join([sql.Placeholder()] * len(row))
    with _as_a_stream(shard) as conn:
        conn.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(EVENTS, places), row)


@contextmanager
def _as_a_stream(shard: FailoverShard | ShardDatabase) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with shard.connect() as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute(
            "SELECT pg_replication_origin_create('test') WHERE pg_replication_origin_oid('test') IS NULL"
        )
        conn.execute("SELECT pg_replication_origin_session_setup('test')")
        yield conn
        conn.execute("SELECT pg_replication_origin_session_reset()")


def _slot(tailnum: str) -> int:
    return slot(tailnum, KeyType.TEXT)
