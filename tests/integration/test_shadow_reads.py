"""Shadow reads on real shards: a difference is found by name, and lag is never taken for one."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from foreshard.cli import app
from foreshard.control.shadow_store import ShadowStore, ShadowTotals
from foreshard.control.topology_store import TopologyStore
from foreshard.errors import DataMismatch, ForeshardError, InvalidInput, NotFound
from foreshard.fleet.grants import APPLICATION, SHADOW
from foreshard.fleet.ledger import Start
from foreshard.fleet.throwaway import ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.migration.stages import read_shadow
from foreshard.postgres.names import MigrationNames
from foreshard.router import Router, shadow, shadow_sides
from foreshard.router.fleet_router import fleet_router
from foreshard.topology.keys import KeyType, slot
from tests.integration.moving_fleet import MovingFleet, allow, drop_pair, ignore, wait_until
from tests.unseen_session import unseen

CYCLES = "SELECT cycles, updated_at FROM {aircraft} WHERE tailnum = %s"
CYCLE = "UPDATE {aircraft} SET cycles = cycles + 1, updated_at = clock_timestamp() WHERE tailnum = %s"


@pytest.fixture(scope="module")
def redirecting(servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MovingFleet]:
    """A migration after its first canary flip: a tenth of the keys is owned by the target. The tests share it."""
    pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    fleet = MovingFleet(pair, servers.new_control_database(), tmp_path_factory.mktemp("redirecting"))
    with fleet.runner() as runner:
        fleet.run_until(Stage.WRITE_REDIRECT, runner)
        step = runner.next_step()
        assert step is not None
        allow(runner, step)
        runner.perform(step, ignore)
    yield fleet
    fleet.close()
    drop_pair(servers, pair)


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "_FLUSH_S", 0.1)


@pytest.fixture
def router(redirecting: MovingFleet) -> Iterator[Router]:
    ShadowStore(redirecting.control).choose(redirecting.migration, 100)
    with closing(fleet_router(redirecting.control, "test")) as made:
        yield made


def names(fleet: MovingFleet) -> MigrationNames:
    return MigrationNames(TopologyStore(fleet.control).control_plane_id(), fleet.migration)


def keys(fleet: MovingFleet, *, redirected: bool) -> list[Start]:
    """Aircraft that the target owns already, or those that it does not."""
    bound = fleet.store.get(fleet.migration).bound
    return [one for one in fleet.starts() if (slot(one.tailnum, KeyType.TEXT) < bound) == redirected]


class Since:
    """What was counted since now."""

    def __init__(self, fleet: MovingFleet) -> None:
        self._fleet = fleet
        self._before = self._now()

    def _now(self) -> ShadowTotals:
        return ShadowStore(self._fleet.control).totals(self._fleet.migration)

    def totals(self) -> ShadowTotals:
        now = self._now()
        return ShadowTotals(**{name: getattr(now, name) - was for name, was in vars(self._before).items()})

    def wait(self, reads: int, timeout_s: float = 20) -> ShadowTotals:
        wait_until(lambda: self.totals().reads >= reads, f"{reads} shadow reads", timeout_s)
        return self.totals()


def forget(fleet: MovingFleet) -> None:
    """Mismatches that a test made are nobody's evidence."""
    with psycopg.connect(fleet.settings.control.dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM shadow_reads")


@pytest.mark.parametrize("redirected", [False, True])
def test_a_difference_is_a_mismatch_and_is_told_without_values(
    redirected: bool, redirecting: MovingFleet, router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    since = Since(redirecting)
    one = keys(redirecting, redirected=redirected)[0]
    other = "source" if redirected else "target"
    change = sql.SQL("UPDATE {} SET cycles = cycles + %s WHERE tailnum = %s").format(
        sql.Identifier(one.bucket, "aircraft")
    )
    with unseen(getattr(redirecting.pair, other)) as conn:
        conn.execute(change, (4711, one.tailnum))
    try:
        with caplog.at_level(logging.WARNING, "foreshard.router.shadow"):
            ((served, _),) = router.query(one.tailnum, CYCLES, (one.tailnum,))
            assert served < 4711
            totals = since.wait(1)
        assert totals == ShadowTotals(reads=1, mismatches=1)
        for told in (ShadowStore(redirecting.control).differences(redirecting.migration)[-1], caplog.text):
            assert f"{one.bucket}, owner" in told
            assert "1 of 1 rows differ, in columns 1" in told
            assert one.tailnum not in told
            assert "4711" not in told
        with redirecting.runner() as runner, pytest.raises(DataMismatch, match=f"(?s)1 of 1 .*{one.bucket}"):
            read_shadow.refuse_mismatch(runner.work)
    finally:
        with unseen(getattr(redirecting.pair, other)) as conn:
            conn.execute(change, (-4711, one.tailnum))
        forget(redirecting)


@contextmanager
def busy(fleet: MovingFleet, router: Router) -> Iterator[Callable[[], None]]:
    """Two threads that write the same few keys of both owners over and over; the yielded call reads one of them."""
    pause = threading.Event()
    few = [one.tailnum for redirected in (False, True) for one in keys(fleet, redirected=redirected)[:20]]
    stop = threading.Event()
    failed: list[Exception] = []

    def write(number: int) -> None:
        draw = random.Random(number)
        try:
            while not stop.is_set():
                key = draw.choice(few)
                router.execute(key, CYCLE, (key,))
                pause.wait(0.005)  # more than 100 writes a second: else only those would have the processor
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    draw = random.Random(7)

    def read() -> None:
        assert not failed
        pause.wait(0.001)
        key = draw.choice(few)
        assert router.query(key, CYCLES, (key,))

    try:
        yield read
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def paused(fleet: MovingFleet) -> Iterator[None]:
    """Nothing is applied on the target meanwhile."""
    alter = sql.SQL("ALTER SUBSCRIPTION {} {}")
    subscription = sql.Identifier(names(fleet).forward)
    with fleet.pair.target.connect() as conn:
        conn.execute(alter.format(subscription, sql.SQL("DISABLE")))
        try:
            yield
        finally:
            conn.execute(alter.format(subscription, sql.SQL("ENABLE")))


def late_reads(more: int, read: Callable[[], None], since: Since) -> None:
    begun = since.totals().lags

    def enough() -> bool:
        read()
        return since.totals().lags >= begun + more

    wait_until(enough, f"{more} reads that are late")


@pytest.mark.slow
def test_pure_lag_is_never_a_mismatch(
    redirecting: MovingFleet, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "_MARKER_S", 1.0)
    since = Since(redirecting)
    wanted = 10_000
    with busy(redirecting, router) as read:
        for number in count(1):
            read()
            if number % 500 == 0 and since.totals().reads >= wanted:
                break
            if number in (1000, 8000):
                with paused(redirecting):
                    late_reads(20, read, since)
    totals = since.totals()
    assert totals.reads >= wanted
    assert (totals.mismatches, totals.failures) == (0, 0)
    assert totals.lags > 100
    assert totals.matches > 1000
    assert totals.unsettled < totals.reads / 100


@pytest.mark.slow
def test_without_markers_lag_would_be_taken_for_a_mismatch(
    redirecting: MovingFleet, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the test above can fail."""
    monkeypatch.setattr(shadow_sides.ShadowSides, "has_marker", lambda *_: True)
    since = Since(redirecting)
    key = keys(redirecting, redirected=False)[0].tailnum
    try:
        with paused(redirecting):
            router.execute(key, CYCLE, (key,))
            router.query(key, CYCLES, (key,))
            assert since.wait(1) == ShadowTotals(reads=1, mismatches=1)
    finally:
        forget(redirecting)


ANSWERS = [
    # What one side gives, what the other, whether the order counts, and what it is.
    ("SELECT 'NaN'::float8, 'NaN'::numeric", None, True, "matches"),
    ("SELECT 1.0::numeric", "SELECT 1.00::numeric", True, "mismatches"),
    ("SELECT '{\"a\": [1, 2]}'::jsonb", None, True, "matches"),
    ("SELECT '{\"a\": 1}'::jsonb", "SELECT '{\"a\": 1.0}'::jsonb", True, "mismatches"),
    ("VALUES (1), (2)", "VALUES (2), (1)", False, "matches"),
    ("VALUES (1), (2)", "VALUES (2), (1)", True, "mismatches"),
    ("SELECT '2026-01-01 12:00+01'::timestamptz", None, True, "matches"),
]


@pytest.mark.parametrize(("here", "there", "ordered", "expected"), ANSWERS)
def test_values_are_compared_as_they_are(
    here: str, there: str | None, ordered: bool, expected: str, redirecting: MovingFleet, router: Router
) -> None:
    """A view that is not the same on both shards stands for a table that is not."""
    since = Since(redirecting)
    one = keys(redirecting, redirected=False)[0]
    view = sql.Identifier(one.bucket, "answer")
    sides = ((redirecting.pair.source, here), (redirecting.pair.target, there or here))
    try:
        for shard, query in sides:
            with shard.connect() as conn:
                conn.execute(sql.SQL("CREATE VIEW {} AS ").format(view) + sql.SQL(query))  # type: ignore[arg-type]
                conn.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(view, sql.Identifier(APPLICATION)))
        router.query(one.tailnum, "SELECT * FROM {answer}", ordered=ordered)
        assert since.wait(1) == ShadowTotals(**{"reads": 1, expected: 1})
    finally:
        for shard, _ in sides:
            with shard.connect() as conn:
                conn.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
        forget(redirecting)


def test_the_percentage_is_changed_while_reads_are_made(
    redirecting: MovingFleet, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", redirecting.settings.control.dsn)
    run = CliRunner()
    number = str(redirecting.migration)

    def percent() -> float:
        moving = router.map.redirection_of(redirecting.buckets[0])
        assert moving is not None
        return moving.shadow_percent

    for wanted in ("0", "12.5"):
        result = run.invoke(app, ["migration", "shadow", number, "--percent", wanted, "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["shadow_percent"] == float(wanted)
        wait_until(lambda wanted=wanted: percent() == float(wanted), "the new percentage")  # type: ignore[misc]
    assert "12.5 % of reads" in run.invoke(app, ["migration", "shadow", number]).stdout


def test_a_percentage_is_refused_where_it_means_nothing(redirecting: MovingFleet) -> None:
    shadows = ShadowStore(redirecting.control)
    with pytest.raises(InvalidInput, match="101"):
        shadows.choose(redirecting.migration, 101)
    with pytest.raises(NotFound):
        shadows.choose(4711, 5)


def test_only_the_shadow_role_places_markers_and_old_ones_go(redirecting: MovingFleet) -> None:
    bucket, source = redirecting.buckets[0], redirecting.pair.source
    place = "SELECT foreshard.place_marker(%s, %s) FROM generate_series(1, %s)"
    with source.connect(APPLICATION) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(place, (bucket, redirecting.migration, 1))
    marker = sql.Identifier(names(redirecting).schema, "marker")
    with source.connect(SHADOW) as conn:
        assert conn.execute(place, (bucket, redirecting.migration + 1, 1)).fetchone() == (None,)
        assert conn.execute(place, ("elsewhere", redirecting.migration, 1)).fetchone() == (None,)
        conn.execute(place, (bucket, redirecting.migration, 5))
    with source.connect() as conn:
        conn.execute(sql.SQL("UPDATE {} SET sent_at = sent_at - interval '1 h'").format(marker))
        kept = sql.SQL("SELECT count(*) FROM {} WHERE opens_flip IS NULL").format(marker)
        old = sql.SQL(
            "SELECT count(*) FROM {} WHERE opens_flip IS NULL AND sent_at < now() - interval '30 min'"
        ).format(marker)
        assert conn.execute(old).fetchone() != (0,)
        with source.connect(SHADOW) as placing:
            placing.execute(place, (bucket, redirecting.migration, 2000))
        assert conn.execute(old).fetchone() == (0,)
        here = conn.execute(kept).fetchone()
    with redirecting.pair.target.connect() as conn:
        wait_until(lambda: conn.execute(kept).fetchone() == here, "the same markers on both sides")


def test_a_fleet_without_a_shadow_role_waits_for_no_reads(fleet: MovingFleet) -> None:
    TopologyStore(fleet.control).describe_fleet(fleet.key_type, fleet.tables)
    fleet.configure(shadow_min_reads=10, shadow_timeout_s=600)
    with pytest.raises(ForeshardError, match="is in preflight; reads are repeated in read_shadow"):
        ShadowStore(fleet.control).choose(fleet.migration, 5)
    fleet.run_until(Stage.WRITE_REDIRECT)
    assert fleet.store.get(fleet.migration).shadow_percent == 0
    (run,) = [run for run in fleet.store.stage_runs(fleet.migration) if run.stage == Stage.READ_SHADOW]
    assert run.detail["note"] == "no shadow role: no reads were repeated"
    with closing(fleet_router(fleet.control, "test")) as router:
        key = fleet.starts()[0].tailnum
        assert router.query(key, CYCLES, (key,))


def test_a_persons_choice_outlives_a_resumption_and_a_target_that_is_down_harms_no_read(
    fleet: MovingFleet,
) -> None:
    shadows = ShadowStore(fleet.control)
    fleet.run_until(Stage.READ_SHADOW)
    with fleet.runner() as runner:
        step = runner.next_step()
        assert step is not None
        shadows.choose(fleet.migration, 100)
        runner.perform(step, ignore)
    assert fleet.store.get(fleet.migration).shadow_percent == 100
    since = Since(fleet)
    key = fleet.starts()[0].tailnum
    with closing(fleet_router(fleet.control, "test")) as router:
        router.query(key, CYCLES, (key,))
        assert since.wait(1) == ShadowTotals(reads=1, matches=1)
        server = fleet.pair.target.server
        server.stop()
        try:
            for _ in range(20):
                assert router.query(key, CYCLES, (key,))
            totals = since.wait(21)
        finally:
            server.start()
        assert (totals.matches, totals.failures) == (1, 20)

        def back() -> bool:
            router.query(key, CYCLES, (key,))
            return since.totals().matches > 1

        wait_until(back, "shadow reads of a target that is back")
