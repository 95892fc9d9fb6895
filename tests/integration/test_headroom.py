"""Room on real servers: WAL that a held-back subscription makes its publisher keep, and free disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foreshard.control.topology_store import DISK_BYTES
from foreshard.errors import OutOfHeadroom, PreflightFailed, StreamBroken
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.headroom import HeadroomWatch, Verdict
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Progress
from foreshard.migration.stages import preflight, read_shadow
from foreshard.migration.work import Work
from foreshard.postgres import publications, room, subscriptions
from foreshard.postgres.connect import connect
from foreshard.postgres.guard import Side
from tests.integration.conftest import drop_pair
from tests.integration.moving_fleet import MovingFleet, ignore

pytestmark = pytest.mark.slow

MB = 10**6


@pytest.fixture
def tight_fleet(servers: ThrowawayServers, control_dsn: str, tmp_path: Path) -> Iterator[MovingFleet]:
    """A migration in verify on servers of its own, whose settings the test may change."""
    pair = ShardPair(servers.new_shard("tight_source"), servers.new_shard("target"))
    moving = MovingFleet(pair, control_dsn, tmp_path)
    moving.run_until(Stage.VERIFY)
    yield moving
    moving.close()
    drop_pair(servers, pair)


def write_wal(shard: ShardDatabase, megabytes: int) -> None:
    """Flushed WAL that touches no table, as other databases of the server write it."""
    with shard.connect() as conn:
        for _ in range(megabytes):
            conn.execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', 1000000))")


def write_until_refused(shard: ShardDatabase, work: Work) -> None:
    for _ in range(60):
        write_wal(shard, 2)
        HeadroomWatch(work).look(ignore)


@contextmanager
def held_back(work: Work) -> Iterator[None]:
    """The target's subscription reads nothing while the block runs."""
    with work.connection(Side.TARGET) as target, subscriptions.paused(target, work.names.forward):
        yield


def budget(work: Work, wal_budget_bytes: int) -> HeadroomWatch:
    work.settings = work.settings.model_copy(update={"wal_budget_bytes": wal_budget_bytes})
    return HeadroomWatch(work)


def retained(work: Work) -> int:
    with work.connection(Side.SOURCE) as source:
        (slot,) = room.slots(source, [work.names.forward])
    assert slot.retained_bytes is not None
    return slot.retained_bytes


def test_kept_wal_is_warned_of_then_throttles_then_stops(copied_fleet: MovingFleet) -> None:
    said: list[Progress] = []
    with copied_fleet.runner() as runner, held_back(runner.work):
        work = runner.work
        assert budget(work, 16 * 2**30).look(said.append) is Verdict.FINE
        assert said == []
        write_wal(copied_fleet.pair.source, 4)
        kept = retained(work)
        assert kept > 4 * MB
        assert budget(work, int(kept / 0.6)).look(said.append) is Verdict.WARN
        assert work.names.forward in said[-1].text
        assert budget(work, int(kept / 0.8)).look(said.append) is Verdict.THROTTLE
        with pytest.raises(OutOfHeadroom, match="given up before harm is done") as out:
            budget(work, int(kept * 0.9)).look(said.append)
        assert out.value.details["limit_bytes"] == int(kept * 0.9)


def test_a_throttled_stage_goes_on_when_the_stream_has_caught_up(copied_fleet: MovingFleet) -> None:
    with copied_fleet.runner() as runner:
        work = runner.work
        asked = 0
        with held_back(work):
            write_wal(copied_fleet.pair.source, 4)
            watch = budget(work, int(retained(work) / 0.8))
            assert watch.look(ignore) is Verdict.THROTTLE

        def alive() -> None:
            nonlocal asked
            asked += 1
            with copied_fleet.pair.source.connect() as conn:
                conn.execute("CHECKPOINT")  # where the slot may begin anew; else one comes every 15 s
            with work.marker_line(Side.SOURCE) as markers:
                markers.drain(5)

        watch.await_room(ignore, alive)
        assert asked
        assert watch.look(ignore) < Verdict.THROTTLE


def test_a_dead_stream_is_not_waited_for(copied_fleet: MovingFleet) -> None:
    with copied_fleet.runner() as runner, held_back(runner.work):
        write_wal(copied_fleet.pair.source, 4)
        watch = budget(runner.work, int(retained(runner.work) / 0.8))

        def dead() -> None:
            raise StreamBroken("dead")

        with pytest.raises(StreamBroken, match="dead"):
            watch.await_room(ignore, dead)


def test_a_throttled_backfill_publishes_no_further_table(
    fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.configure(backfill="subscription")
    fleet.run_until(Stage.BACKFILL)
    published: list[int] = []

    def throttled_at_first(watch: HeadroomWatch, _: object) -> Verdict:
        if len(published) == 3:
            return Verdict.FINE
        with watch._work.connection(Side.SOURCE) as source:
            published.append(len(publications.published(source, watch._work.names)))
        return Verdict.THROTTLE

    monkeypatch.setattr(HeadroomWatch, "look", throttled_at_first)
    fleet.run_until(Stage.CATCH_UP)
    assert published == [1, 1, 1]  # the marker alone


def test_a_server_with_a_limit_is_left_before_the_slot_is_lost(tight_fleet: MovingFleet) -> None:
    source = tight_fleet.pair.source
    with source.connect() as conn:
        conn.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
        conn.execute("SELECT pg_reload_conf()")
    with tight_fleet.runner() as runner:
        work = runner.work
        with held_back(work):
            with pytest.raises(OutOfHeadroom):
                write_until_refused(source, work)
            with work.connection(Side.SOURCE) as conn:
                (slot,) = room.slots(conn, [work.names.forward])
            assert slot.wal_status in ("reserved", "extended")
            assert slot.retained_bytes is not None
            assert slot.retained_bytes < work.settings.wal_budget_bytes / 100

            with source.connect() as admin:  # nobody acted on it
                for _ in range(3):
                    write_wal(source, 20)
                    admin.execute("SELECT pg_switch_wal()")
                    admin.execute("CHECKPOINT")
            with pytest.raises(StreamBroken, match="is lost") as lost:
                HeadroomWatch(work).look(ignore)
            assert "foreshard abort" in (lost.value.remedy or "")
        runner.abort(ignore)
    assert tight_fleet.store.get(tight_fleet.migration).stage is Stage.ABORTED
    assert tight_fleet.leftovers() == []
    assert tight_fleet.schemas(tight_fleet.pair.target) == []


def test_a_stage_without_headroom_is_given_up_and_nothing_is_left(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.READ_SHADOW)
    with fleet.runner() as runner:
        work = runner.work
        with held_back(work):
            write_wal(fleet.pair.source, 3)
            budget(work, 1 * MB)
            with pytest.raises(
                OutOfHeadroom
            ):  # before the disabled subscription is noticed: this one ends cleanly
                read_shadow.run(work, ignore)
        runner.abort(ignore)
    assert fleet.leftovers() == []
    assert fleet.schemas(fleet.pair.target) == []


def test_the_runner_gives_the_migration_up_by_itself(fleet: MovingFleet) -> None:
    fleet.run_until(Stage.READ_SHADOW)
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        with runner.work.connection(Side.TARGET) as target:
            subscriptions.disable(target, runner.work.names.forward)
        write_wal(fleet.pair.source, 3)
        budget(runner.work, 1 * MB)
        runner.perform(step, ignore)
        assert runner.next_step() is None
    assert fleet.store.get(fleet.migration).stage is Stage.ABORTED
    outcomes = [(run.stage, run.outcome) for run in fleet.store.stage_runs(fleet.migration)][-2:]
    assert outcomes == [("read_shadow", "failed"), ("aborting", "finished")]
    assert fleet.leftovers() == []


def test_after_the_cutover_a_person_is_told_what_can_be_done(
    copied_fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copied_fleet.runner() as runner:
        work = runner.work
        record = work.record
        changed = type(record)(**{**record.__dict__, "stage": Stage.SOAK})
        monkeypatch.setattr(type(work), "record", property(lambda _: changed))
        work.settings = work.settings.model_copy(update={"free_disk_bytes": 10**18})
        with pytest.raises(OutOfHeadroom, match="reverse it") as out:
            HeadroomWatch(work).look(ignore)
        assert "finalise" in str(out.value)


def test_the_disk_of_a_server_on_this_machine_is_measured(copied_fleet: MovingFleet) -> None:
    server = copied_fleet.pair.source.server
    with connect(copied_fleet.pair.source.operator_dsn) as conn:
        disk = room.free_disk(conn, None)
    there = os.statvfs(server.data_dir)
    assert disk.how == "measured"
    assert disk.free_bytes is not None
    assert abs(disk.free_bytes - there.f_bavail * there.f_frsize) < 10**9


def test_a_disk_that_cannot_be_seen_is_what_was_declared_or_unknown(
    copied_fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_on_this_host", lambda _: False)
    with connect(copied_fleet.pair.source.operator_dsn) as conn:
        assert room.free_disk(conn, None) == room.Disk(None, "unknown")
        declared = room.free_disk(conn, 100e9)
    assert declared.how == "declared"
    assert declared.free_bytes is not None
    assert 50e9 < declared.free_bytes < 100e9 - 20 * MB  # three databases and some WAL are there


def test_preflight_refuses_a_copy_that_does_not_fit_and_warns_of_an_unknown_disk(
    copied_fleet: MovingFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copied_fleet.runner() as runner:
        work = runner.work
        monkeypatch.setattr(room, "_on_this_host", lambda _: False)
        findings = preflight.run(work, ignore)["findings"]
        unseen = [finding for finding in findings if "disk" in finding["subject"]]
        assert [finding["blocking"] for finding in unseen] == [False, False]
        assert DISK_BYTES in unseen[0]["remedy"]

        work.target = type(work.target)(
            work.target.name, work.target.dsn, work.target.application_dsn, {DISK_BYTES: 100.0 * MB}
        )
        with pytest.raises(PreflightFailed) as refused:
            preflight.run(work, ignore)
        (small,) = [f for f in refused.value.details["findings"] if f["blocking"]]
        assert small["subject"] == f"{work.target.name}: disk"
        assert "declared" in small["why"]
