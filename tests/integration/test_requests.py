"""Requests in a real control database: one open at a time, settled once, never changed."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.control.request_store import RESUME, RequestStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import ForeshardError, IllegalTransition, Interrupted, InvalidInput, NotFound
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.migration.requests import Ask, Outcome, Ruling, Way
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from tests.plans import new_plan


@pytest.fixture
def migration(control: ControlDatabase) -> int:
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"orders": "customer"})
    for name in ("one", "two"):
        topology.put_shard(ShardRecord(name, "dbname=x", "dbname=x", {"queries_per_s": 1.0}))
    topology.put_buckets(["b0"], Placement({"b0": "one"}))
    return MigrationStore(control).open(new_plan(control, "one", "two", ["b0"]))


@pytest.fixture
def requests(control: ControlDatabase) -> RequestStore:
    return RequestStore(control)


def ask(requests: RequestStore, migration: int, kind: Ask, who: str = "Ada") -> Ruling:
    return requests.ask(migration, kind, who, "why", Way.SHELL)[1]


def test_a_pause_of_what_nobody_drives_holds_at_once_and_a_resume_ends_it(
    control: ControlDatabase, requests: RequestStore, migration: int
) -> None:
    store = MigrationStore(control)
    assert ask(requests, migration, Ask.PAUSE) is Ruling.NEW
    assert ask(requests, migration, Ask.PAUSE, "Bob") is Ruling.SAME
    held = requests.open(migration)
    assert held is not None
    assert held.held_at is not None
    assert held.asked_by == "Ada"
    assert store.get(migration).waiting_for == RESUME
    assert ask(requests, migration, Ask.RESUME, "Bob") is Ruling.RESUMES
    assert requests.open(migration) is None
    settled = requests.get(held.id)
    assert (settled.outcome, settled.settled_by) == (Outcome.RESUMED, "Bob")
    with pytest.raises(IllegalTransition, match="is not paused"):
        ask(requests, migration, Ask.RESUME)


def test_a_pause_of_what_is_driven_waits_for_its_driver(
    control: ControlDatabase, requests: RequestStore, migration: int
) -> None:
    store = MigrationStore(control)
    lease = store.acquire(migration, "a run", None, 60)
    ask(requests, migration, Ask.PAUSE)
    asked = requests.open(migration)
    assert asked is not None
    assert asked.held_at is None
    assert requests.hold(lease, asked.id)
    assert requests.get(asked.id).held_at is not None
    ask(requests, migration, Ask.RESUME)
    assert not requests.hold(lease, asked.id)


@pytest.mark.parametrize("waiting_for", ["approval", None])
def test_a_pause_that_its_driver_did_not_see_holds_when_it_lets_go(
    control: ControlDatabase, requests: RequestStore, migration: int, waiting_for: str | None
) -> None:
    store = MigrationStore(control)
    lease = store.acquire(migration, "a run", None, 60)
    ask(requests, migration, Ask.PAUSE)
    store.release(lease, waiting_for=waiting_for)
    asked = requests.open(migration)
    assert asked is not None
    assert asked.held_at is not None
    assert store.get(migration).waiting_for == (waiting_for or RESUME)


def test_an_end_settles_what_is_open(
    control: ControlDatabase, requests: RequestStore, migration: int
) -> None:
    store = MigrationStore(control)
    lease = store.acquire(migration, "a run", None, 60)
    ask(requests, migration, Ask.PAUSE)
    ask(requests, migration, Ask.REVERSE)
    store.go_to(lease, Stage.ABORTING)
    store.go_to(lease, Stage.ABORTED)
    assert [(one.kind, one.outcome) for one in requests.of(migration)] == [
        (Ask.PAUSE, Outcome.REPLACED),
        (Ask.REVERSE, Outcome.DONE),
    ]


def test_nobody_passes_to_finalise_while_something_is_asked(
    control: ControlDatabase, requests: RequestStore, migration: int
) -> None:
    store = MigrationStore(control)
    lease = store.acquire(migration, "a run", None, 60)
    for stage in PATH[1 : PATH.index(Stage.FINALISE)]:
        store.go_to(lease, stage)
    ask(requests, migration, Ask.PAUSE)
    with pytest.raises(Interrupted):
        store.go_to(lease, Stage.FINALISE)
    assert store.get(migration).stage is Stage.SOAK
    ask(requests, migration, Ask.RESUME)
    store.go_to(lease, Stage.FINALISE)
    with pytest.raises(IllegalTransition, match="no way back"):
        ask(requests, migration, Ask.REVERSE)


def test_one_that_failed_is_left_to_people_until_they_ask_to_give_it_back(
    control: ControlDatabase, requests: RequestStore, migration: int
) -> None:
    store = MigrationStore(control)
    store.release(store.acquire(migration, "a run", None, 60), failure="it broke")
    assert store.abandoned() == []
    ask(requests, migration, Ask.ABORT)
    assert [one.id for one in store.abandoned()] == [migration]


def test_of_many_at_once_one_stands(requests: RequestStore, migration: int) -> None:
    barrier = Barrier(6)
    rulings: list[Ruling | None] = []

    def at_once(number: int) -> None:
        barrier.wait()
        kind = (Ask.PAUSE, Ask.ABORT, Ask.REVERSE)[number % 3]
        try:
            rulings.append(ask(requests, migration, kind))
        except ForeshardError:
            rulings.append(None)

    threads = [Thread(target=at_once, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    standing = requests.open(migration)
    assert standing is not None
    assert standing.kind.gives_back
    open_ones = [one for one in requests.of(migration) if one.outcome is None]
    assert len(open_ones) == 1
    assert len(rulings) == 6


def test_bad_input_is_refused(requests: RequestStore, migration: int) -> None:
    with pytest.raises(InvalidInput):
        ask(requests, migration, Ask.PAUSE, "  ")
    with pytest.raises(NotFound):
        ask(requests, migration + 99, Ask.PAUSE)
    assert requests.of(migration) == []


def test_what_was_asked_is_not_changed(
    control: ControlDatabase, requests: RequestStore, migration: int
) -> None:
    ask(requests, migration, Ask.PAUSE)
    for change in (
        "UPDATE requests SET asked_by = 'Mallory'",
        "UPDATE requests SET kind = 'abort'",
        "UPDATE requests SET held_at = held_at + interval '1 day'",
        "DELETE FROM requests",
    ):
        refused = pytest.raises(DBAPIError, match="neither changed nor deleted")
        with refused, control.transaction() as session:
            session.connection().exec_driver_sql(change)
    ask(requests, migration, Ask.RESUME)
    with pytest.raises(DBAPIError, match="settled once"), control.transaction() as session:
        session.connection().exec_driver_sql("UPDATE requests SET settled_by = 'Mallory'")


def test_no_other_request_can_be_stored(control: ControlDatabase, migration: int) -> None:
    for values in (
        "'pause', 'Ada', 'shell', 'backfill', 'done', now(), 'Ada'",
        "'abort', 'Ada', 'shell', 'backfill', 'resumed', now(), 'Ada'",
        "'pause', ' ', 'shell', 'backfill', NULL, NULL, NULL",
        "'pause', 'Ada', 'pigeon', 'backfill', NULL, NULL, NULL",
        "'hurry', 'Ada', 'shell', 'backfill', NULL, NULL, NULL",
        "'pause', 'Ada', 'shell', 'lunch', NULL, NULL, NULL",
        "'pause', 'Ada', 'shell', 'backfill', 'resumed', NULL, 'Ada'",
    ):
        with pytest.raises(IntegrityError, match="ck_requests_"), control.transaction() as session:
            session.connection().exec_driver_sql(
                "INSERT INTO requests (migration_id, kind, asked_by, way, stage, outcome, settled_at, settled_by)"
                f" VALUES ({migration}, {values})"
            )
