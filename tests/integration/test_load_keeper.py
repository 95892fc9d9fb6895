"""Keeping the load store: what is dropped, what is never, and who may do it at the same time or be killed at it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import psycopg
import pytest
from pydantic import ValidationError

from foreshard.control import load_keeper
from foreshard.control.engine import ControlDatabase
from foreshard.control.load_import import undropped
from foreshard.control.load_keeper import GRACE, LoadKeeper
from foreshard.control.load_levels import FIVE_MINUTES, HOURS, LEVELS, RAW, Level
from foreshard.control.load_partitions import existing
from foreshard.control.load_sql import transaction
from foreshard.control.load_store import LoadStore
from foreshard.load.keeping_settings import LoadKeeping
from foreshard.load.sample import Sample
from tests.integration.load_reference import FIVE, HOUR, MINUTE, five_minutes_of, hours_of
from tests.integration.moving_fleet import wait_until
from tests.integration.test_load_store import DAY, RATE, START, assert_same, life, samples, stored

KEEPING = LoadKeeping(raw_days=1, five_minute_days=7, hour_days=60)


@pytest.fixture
def store(control: ControlDatabase) -> LoadStore:
    return LoadStore(control)


@pytest.fixture
def keeper(control: ControlDatabase) -> LoadKeeper:
    return LoadKeeper(control, KEEPING)


def partitions(control: ControlDatabase, level: Level) -> list[datetime]:
    with transaction(control) as conn:
        return [one.start for one in existing(conn, level)]


def test_settings_must_rise() -> None:
    with pytest.raises(ValidationError, match="must not fall"):
        LoadKeeping(raw_days=5, five_minute_days=4)


def test_only_what_is_over_is_rolled_up(store: LoadStore, keeper: LoadKeeper) -> None:
    store.add(samples(range(10), "a", "b0", 1.0), "live")
    assert keeper.keep(START + FIVE + GRACE - timedelta(seconds=1)).five_minutes == 0
    kept = keeper.keep(START + FIVE + GRACE)
    assert (kept.five_minutes, kept.hours) == (1, 0)
    kept = keeper.keep(START + HOUR + GRACE)
    assert (kept.five_minutes, kept.hours) == (1, 1)
    assert keeper.keep(START + HOUR + GRACE) == load_keeper.Kept()


def test_what_is_old_goes_in_whole_partitions_and_its_means_stay(
    control: ControlDatabase, store: LoadStore, keeper: LoadKeeper
) -> None:
    known = life(1, 70) + [
        Sample(one.ts + DAY, *(one.shard, one.bucket, one.metric, one.value)) for one in life(2, 9)
    ]
    store.add(known, "live")
    day = datetime(2026, 3, 2, tzinfo=UTC)
    assert keeper.keep(day + 2 * DAY - timedelta(seconds=1)).dropped == ()
    kept = keeper.keep(day + 2 * DAY)
    assert kept.dropped == ("raw_20260302",)
    assert all(ts >= day + DAY for ts in stored(control, RAW))
    assert_same(stored(control, FIVE_MINUTES), five_minutes_of(known))
    assert_same(stored(control, HOURS), hours_of(known))
    old = ("raw_20260303", "raw_20260304", "raw_20260305", "five_minutes_20260302")
    assert keeper.keep(day + 20 * DAY).dropped == old
    assert_same(stored(control, HOURS), hours_of(known))
    assert "hours_20260301" in keeper.keep(day + 100 * DAY).dropped
    assert stored(control, HOURS) == {}


def test_a_clock_that_stepped_ahead_drops_nothing(
    control: ControlDatabase, store: LoadStore, keeper: LoadKeeper
) -> None:
    now = datetime.now(UTC)
    offset = START - now  # a replay: the fleet's clock goes with real time, elsewhere
    store.add(samples([0], "a", "b0", 1.0), "live")
    ahead = START + 1000 * DAY
    assert keeper.keep(ahead, offset).dropped == ()
    assert RAW.period.start(START) in partitions(control, RAW)
    assert keeper.keep(ahead, offset + 3 * DAY).dropped  # both clocks say so
    # And one that goes back makes nothing old, nor fails.
    assert keeper.keep(START - 1000 * DAY, offset).dropped == ()


def test_late_samples_do_not_take_the_place_of_what_is_known(
    control: ControlDatabase, store: LoadStore, keeper: LoadKeeper
) -> None:
    """Their window's other samples have been dropped: a mean of the late ones alone would be wrong."""
    store.add(samples(range(5), "a", "b0", 10.0), "live")
    keeper.keep(START + 3 * DAY)
    assert partitions(control, RAW)[0] > START
    late = samples([2], "b", "b0", 99.0) + samples([7], "a", "b0", 5.0) + samples([3], "a", "b1", 7.0)
    late[0] = Sample(START + timedelta(minutes=2, seconds=3), "a", "b0", RATE, 99.0)
    assert store.add(late, "live") == 3
    keeper.keep(START + 3 * DAY)
    keeper.keep(START + 3 * DAY)
    assert stored(control, FIVE_MINUTES) == {
        START: {(RATE, "a", "b0"): 10.0, (RATE, "a", "b1"): 7.0},
        START + FIVE: {(RATE, "a", "b0"): 5.0},
    }
    assert store.bucket_series(RATE, START, START + DAY)["b0"].to_list() == [
        7.5
    ]  # five minutes are all there
    assert RAW.period.start(START) not in partitions(control, RAW)
    keeper.keep(START + 20 * DAY)  # now the five minutes are gone, too
    store.add(samples([20], "a", "b0", 99.0), "live")
    keeper.keep(START + 20 * DAY)
    assert store.bucket_series(RATE, START, START + DAY)["b0"].to_list() == [7.5]


def test_an_import_may_be_repeated_after_its_samples_were_dropped(
    control: ControlDatabase, store: LoadStore, keeper: LoadKeeper
) -> None:
    known = life(3, 80)
    for _ in range(2):
        with store.importing("history") as batch:
            batch.add(known[1::2])
            batch.add(known[::2])
        assert batch.new == len(known)  # as samples: the second time they had been dropped
        assert_same(stored(control, HOURS), hours_of(known))
        keeper.keep(START + 3 * DAY)
        assert stored(control, RAW) == {}
        assert_same(stored(control, FIVE_MINUTES), five_minutes_of(known))
    assert_same(stored(control, HOURS), hours_of(known))


def test_an_import_that_was_killed_is_completed_by_the_next(
    control: ControlDatabase, store: LoadStore, keeper: LoadKeeper
) -> None:
    """Half of each window came, and its samples were dropped: no mean is made of a half."""
    known = life(4, 60)

    def killed(part: list[Sample]) -> None:
        with store.importing("history") as batch:
            batch.add(part)
            assert keeper.keep(START + 3 * DAY).dropped == ()  # while it runs
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed(known[::2])
    assert stored(control, FIVE_MINUTES) == {}
    assert keeper.keep(START + 3 * DAY).dropped == ("raw_20260302",)
    with store.importing("history") as batch:
        batch.add(known)
    assert_same(stored(control, FIVE_MINUTES), five_minutes_of(known))
    # Completed while its samples are kept: nothing is new, and all is rolled up.
    later = [Sample(one.ts + 5 * DAY, one.shard, one.bucket, one.metric, one.value) for one in known]
    with pytest.raises(KeyboardInterrupt):
        killed(later)
    with store.importing("history") as batch:
        assert batch.add(later) == 0
    assert_same(stored(control, HOURS), hours_of(known + later))


def test_the_past_may_be_added_part_by_part(
    control: ControlDatabase, store: LoadStore, keeper: LoadKeeper
) -> None:
    """As a log is imported. The keeper once dropped what a window's second half was to be added to."""
    known = life(7, 60)
    with undropped(control):
        for part in (known[: len(known) // 2], known[len(known) // 2 :]):
            store.add(part, "history")
            assert keeper.keep(START + 40 * DAY).dropped == ()
    assert keeper.keep(START + 40 * DAY).dropped[:2] == ("raw_20260302", "five_minutes_20260302")
    assert_same(stored(control, HOURS), hours_of(known))


def test_a_keeper_that_died_between_claim_and_roll_up_is_followed_up(
    control: ControlDatabase, store: LoadStore, keeper: LoadKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = life(5, 60)
    store.add(known[::2], "live")
    with monkeypatch.context() as patched:

        def die(*_: object) -> None:
            raise ConnectionError("killed")

        patched.setattr(load_keeper, "write", die)
        with pytest.raises(ConnectionError):
            keeper.keep(START + DAY)
    assert stored(control, FIVE_MINUTES) == {}
    store.add(known[1::2], "live")  # marks windows that are claimed
    assert store.bucket_series(RATE, START, START + DAY)  # and all are read meanwhile
    keeper.keep(START + DAY)
    assert_same(stored(control, FIVE_MINUTES), five_minutes_of(known))
    assert_same(stored(control, HOURS), hours_of(known))


def test_an_add_under_way_is_not_lost(
    control: ControlDatabase, control_dsn: str, store: LoadStore, keeper: LoadKeeper
) -> None:
    """It found its window marked by another, so that it had no mark of its own to write."""
    store.add(samples([0], "a", "b0", 1.0), "live")
    inside, go_on = Event(), Event()

    def pause(_: psycopg.Connection) -> bool:
        inside.set()
        return go_on.wait(60)

    slow = Thread(target=lambda: store._writer.put(samples([1], "a", "b0", 3.0), "live", only_if=pause))
    slow.start()
    inside.wait(60)
    keeping = Thread(target=lambda: keeper.keep(START + DAY))
    keeping.start()
    waits = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(control_dsn, autocommit=True) as conn:
        wait_until(lambda: bool(conn.execute(waits).fetchone()[0]), "the keeper waits for the add")  # type: ignore[index]
    go_on.set()
    slow.join()
    keeping.join()
    assert stored(control, FIVE_MINUTES)[START] == {(RATE, "a", "b0"): 2.0}


def test_of_two_keepers_one_does_the_work(
    control: ControlDatabase, store: LoadStore, keeper: LoadKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(samples([0], "a", "b0", 1.0), "live")
    found = []
    original = load_keeper.write

    def write(*given: object) -> None:
        found.append(LoadKeeper(control, KEEPING).keep(START + DAY))
        original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(load_keeper, "write", write)
    assert keeper.keep(START + DAY).five_minutes == 1
    assert {one.busy for one in found} == {True}


def test_samples_added_by_many_while_keepers_run_are_all_rolled_up(control: ControlDatabase) -> None:
    """Partitions, names and rows are made by several at the same time, and kept by two."""
    known = life(6, 240)
    done = Event()
    kept: list[int] = []
    failures: list[BaseException] = []

    def guarded(work: object, *given: object) -> None:
        try:
            work(*given)  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)

    def keep() -> None:
        while not done.is_set():
            kept.append(LoadKeeper(control).keep(START + DAY).five_minutes)

    new: list[int] = []

    def add(part: int) -> None:
        mine = known[part::5]
        for at in range(0, len(mine), 200):
            new.append(LoadStore(control).add(mine[at : at + 250], "live"))  # some of them twice

    keepers = [Thread(target=guarded, args=(keep,)) for _ in range(2)]
    adders = [Thread(target=guarded, args=(add, part)) for part in range(5)]
    for one in (*keepers, *adders):
        one.start()
    for one in adders:
        one.join()
    done.set()
    for one in keepers:
        one.join()
    assert failures == []
    assert sum(new) == len(known)
    assert sum(kept) > 0
    LoadKeeper(control).roll_up()
    assert_same(stored(control, FIVE_MINUTES), five_minutes_of(known))
    assert_same(stored(control, HOURS), hours_of(known))


def test_a_reading_is_followed_once(control: ControlDatabase, store: LoadStore) -> None:
    """Two collections that began with the same reading: the slower one's rates would overlap the other's."""
    first, second, other = {"n": 1, "at": 0.1}, {"n": 2, "at": 0.3}, {"n": 3, "at": 1e22}
    assert store.add_reading("a", None, first, samples([0], "a", None, 1.0)) == 1
    assert store.add_reading("a", None, other, samples([1], "a", None, 1.0)) is None
    assert store.add_reading("a", first, second, samples([2], "a", None, 1.0)) == 1
    assert store.add_reading("a", first, other, samples([3], "a", None, 1.0)) is None
    assert store.reading("a") == second
    assert store.add_reading("a", store.reading("a"), other, []) == 0
    assert store.add_reading("a", store.reading("a"), first, []) == 0
    assert [(ts - START) / MINUTE for ts in stored(control, RAW)] == [1, 3]


def test_partitions_stand_ready(control: ControlDatabase, keeper: LoadKeeper) -> None:
    keeper.keep(START)
    assert [len(partitions(control, level)) for level in LEVELS] == [2, 2, 2]
