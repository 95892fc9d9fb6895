"""SQLAlchemy sessions over the router, on real servers."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import ForeignKey, func, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError, ResourceClosedError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from examples import orm_boarding
from foreshard.errors import ForeshardError, InvalidInput, RefusedWrite, UnknownCommitOutcome
from foreshard.fleet.throwaway import ShardPair
from foreshard.migration.lifecycle import Stage
from foreshard.router import Isolation, Router, StaticMapSource
from foreshard.router.orm import OrmRouter
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.guarded_fleet import (
    BOUND,
    KEY,
    LATE_KEY,
    RESTING_KEY,
    Fleet,
    redirection,
    routing_map,
)
from tests.integration.moving_fleet import BUCKETS, MovingFleet, wait_until

COLUMNS = {"aircraft": "tailnum", "event": "tailnum"}


class Base(DeclarativeBase):
    pass


class Aircraft(Base):
    __tablename__ = "aircraft"
    tailnum: Mapped[str] = mapped_column(primary_key=True)
    cycles: Mapped[int]


class Event(Base):
    __tablename__ = "event"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    tailnum: Mapped[str] = mapped_column(ForeignKey("aircraft.tailnum"))


@pytest.fixture
def fleet(shard_pair: ShardPair) -> Fleet:
    return Fleet(shard_pair)


@pytest.fixture
def make_orm(fleet: Fleet) -> Iterator[Callable[..., OrmRouter]]:
    with ExitStack() as stack:

        def make(source: StaticMapSource | None = None, **options: Any) -> OrmRouter:
            router = Router(source or StaticMapSource(routing_map()), fleet.dsns, **options)
            return OrmRouter(stack.enter_context(closing(router)), COLUMNS)

        yield make


def fly(key: str) -> Callable[[Session], int]:
    def body(session: Session) -> int:
        aircraft = session.get_one(Aircraft, key)
        aircraft.cycles += 1
        return aircraft.cycles

    return body


def test_objects_are_read_and_written_in_the_bucket_of_their_key(make_orm: Callable[..., OrmRouter]) -> None:
    orm = make_orm()
    for key, bucket in ((KEY, "b0000"), (RESTING_KEY, "b0001")):
        assert orm.run(key, fly(key)) == 1
        with orm.write(key) as session:
            session.add(Event(id=uuid.uuid4(), tailnum=key))
            assert session.scalars(select(func.count()).select_from(Event)).one() == 1
        with orm.read(key) as session:
            assert session.scalars(select(Event.tailnum)).all() == [key]
            aircraft = session.get_one(Aircraft, key)
            assert session.connection().get_execution_options()["schema_translate_map"][None] == bucket
        assert aircraft.cycles == 1  # detached, not expired


def test_a_session_costs_no_round_trip_more_than_the_router(fleet: Fleet) -> None:
    with BreakableProxy(fleet.pair.source.server.port) as proxy:
        shards = {"source": fleet.source_dsn_at(proxy.port)}
        with closing(Router(StaticMapSource(routing_map()), shards, connections_per_shard=1)) as router:
            orm = OrmRouter(router, COLUMNS)
            orm.run(KEY, fly(KEY))  # SQLAlchemy asks the first connection what it is

            def trips(work: Callable[[], object]) -> int:
                before = proxy.round_trips
                work()
                return proxy.round_trips - before

            # BEGIN with assert_owner, SELECT, UPDATE, COMMIT
            assert trips(lambda: orm.run(KEY, fly(KEY))) == 4

            def read() -> None:
                with orm.read(KEY) as session:
                    session.get_one(Aircraft, KEY)

            read()  # logs in
            assert trips(read) == 3


def test_an_error_in_the_body_rolls_back_and_poisons_nothing(
    fleet: Fleet, make_orm: Callable[..., OrmRouter]
) -> None:
    orm = make_orm(connections_per_shard=1)

    def fail(session: Session) -> None:
        fly(KEY)(session)
        session.flush()
        raise ValueError("no")

    def double(session: Session) -> None:
        session.add(Aircraft(tailnum=KEY, cycles=0))

    def wrong(session: Session) -> None:
        session.execute(text("SELECT nonsense"))

    for body, expected in ((fail, ValueError), (double, IntegrityError), (wrong, ProgrammingError)):
        with pytest.raises(expected):
            orm.run(KEY, body)  # type: ignore[arg-type]
        with pytest.raises(expected), orm.write(KEY) as session:
            body(session)
    assert fleet.cycles(fleet.pair.source, KEY) == 0
    assert orm.run(KEY, fly(KEY)) == 1


def test_the_transaction_is_the_routers_to_end(fleet: Fleet, make_orm: Callable[..., OrmRouter]) -> None:
    orm = make_orm(connections_per_shard=1)

    def commit(session: Session) -> None:
        fly(KEY)(session)
        session.commit()

    with pytest.raises(ForeshardError, match="not committed by hand"):
        orm.run(KEY, commit)

    def swallow(session: Session) -> None:
        fly(KEY)(session)
        try:
            session.commit()
        except ForeshardError:
            session.rollback()

    def roll_back(session: Session) -> None:
        fly(KEY)(session)
        session.flush()
        session.rollback()

    def write_after(session: Session) -> None:
        roll_back(session)
        fly(KEY)(session)  # it would be a transaction of its own, and nobody asked who owns the key

    for body in (swallow, roll_back, write_after):
        with pytest.raises(ForeshardError, match="ended inside its own block"):
            orm.run(KEY, body)
    assert fleet.cycles(fleet.pair.source, KEY) == 0
    with orm.write(KEY) as session:
        with session.begin_nested() as savepoint:
            fly(KEY)(session)
            session.flush()
            savepoint.rollback()
        fly(KEY)(session)
    assert fleet.cycles(fleet.pair.source, KEY) == 1
    with pytest.raises(ResourceClosedError):
        session.execute(select(Aircraft))


def test_a_read_session_cannot_write(make_orm: Callable[..., OrmRouter]) -> None:
    with pytest.raises(Exception, match="read-only transaction"), make_orm().read(KEY) as session:
        fly(KEY)(session)


def test_an_object_of_another_key_is_refused_when_it_is_flushed(
    fleet: Fleet, make_orm: Callable[..., OrmRouter]
) -> None:
    orm = make_orm()

    def add(session: Session) -> None:
        fly(KEY)(session)
        session.add(Event(id=uuid.uuid4(), tailnum=LATE_KEY))

    for body in (add, fly(LATE_KEY), lambda session: session.delete(session.get_one(Aircraft, LATE_KEY))):
        with pytest.raises(InvalidInput, match=LATE_KEY) as refused:
            orm.run(KEY, body)  # type: ignore[arg-type]
        assert refused.value.field == "tailnum"
    assert fleet.cycles(fleet.pair.source, KEY) == 0


def test_a_refused_session_is_repeated_at_the_owner_with_the_same_objects(
    fleet: Fleet, make_orm: Callable[..., OrmRouter]
) -> None:
    fleet.begin_migration()
    fleet.flip(BOUND)
    orm = make_orm(StaticMapSource(routing_map(1, redirection(0))))
    event = Event(id=uuid.uuid4(), tailnum=KEY)
    orm.run(KEY, lambda session: session.add(event))
    with fleet.pair.target.connect() as conn:
        assert conn.execute("SELECT id FROM b0000.event").fetchall() == [(event.id,)]


def test_a_conflict_is_repeated_and_what_was_added_is_added_once(
    fleet: Fleet, make_orm: Callable[..., OrmRouter]
) -> None:
    orm = make_orm()
    event = Event(id=uuid.uuid4(), tailnum=KEY)
    attempts = 0

    def body(session: Session) -> None:
        nonlocal attempts
        attempts += 1
        aircraft = session.get_one(Aircraft, KEY)
        if attempts == 1:
            with fleet.pair.source.connect() as conn:
                conn.execute("UPDATE b0000.aircraft SET cycles = 10 WHERE tailnum = %s", (KEY,))
        session.add(event)
        session.flush()
        aircraft.cycles += 1

    orm.run(KEY, body, isolation=Isolation.REPEATABLE_READ)
    assert attempts == 2
    assert fleet.cycles(fleet.pair.source, KEY) == 11
    with orm.read(KEY) as session:
        assert session.scalars(select(Event.id)).all() == [event.id]


def test_a_commit_that_is_refused_is_repeated_with_the_same_objects(
    fleet: Fleet, make_orm: Callable[..., OrmRouter]
) -> None:
    with fleet.pair.source.connect() as conn:
        conn.execute(
            "CREATE SEQUENCE foreshard.attempts; GRANT USAGE ON SEQUENCE foreshard.attempts TO PUBLIC;"
            "CREATE FUNCTION foreshard.refuse_first() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN"
            " IF nextval('foreshard.attempts') = 1 THEN RAISE EXCEPTION SQLSTATE '40001'; END IF; RETURN NULL; END$$;"
            "CREATE CONSTRAINT TRIGGER refuse_first AFTER INSERT ON b0000.event DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION foreshard.refuse_first()"
        )
    event = Event(id=uuid.uuid4(), tailnum=KEY)
    make_orm().run(KEY, lambda session: session.add(event))
    with fleet.pair.source.connect() as conn:
        assert conn.execute("SELECT id FROM b0000.event").fetchall() == [(event.id,)]
        assert conn.execute("SELECT last_value FROM foreshard.attempts").fetchone() == (2,)


def test_a_write_that_nobody_accepts_and_an_unknown_commit_are_told_as_the_router_tells_them(
    fleet: Fleet, make_orm: Callable[..., OrmRouter]
) -> None:
    with BreakableProxy(fleet.pair.source.server.port) as proxy:
        shards = {"source": fleet.source_dsn_at(proxy.port)}
        with closing(Router(StaticMapSource(routing_map()), shards)) as router:
            orm = OrmRouter(router)

            def body(session: Session) -> None:
                fly(KEY)(session)
                session.flush()
                proxy.lose_commit.set()

            with pytest.raises(UnknownCommitOutcome):
                orm.run(KEY, body)
            assert orm.run(KEY, fly(KEY)) == 2
    fleet.begin_migration()
    fleet.close(BOUND)
    with pytest.raises(RefusedWrite):
        make_orm(StaticMapSource(routing_map(1, redirection(0))), deadline_s=2.0).run(KEY, fly(KEY))


@pytest.fixture
def moving(shard_pair: ShardPair, control_dsn: str, tmp_path: Path) -> Iterator[MovingFleet]:
    fleet = MovingFleet(shard_pair, control_dsn, tmp_path)
    yield fleet
    fleet.close()


@pytest.mark.slow
def test_the_example_runs_through_a_whole_migration_and_loses_and_doubles_nothing(
    moving: MovingFleet,
) -> None:
    orm = orm_boarding.connect(moving.control)
    starts = moving.starts()[:10]
    stop, lock = threading.Event(), threading.Lock()
    acknowledged: dict[uuid.UUID, str] = {}
    errors: list[BaseException] = []

    def work(number: int) -> None:
        draw = random.Random(number)
        try:
            while not stop.is_set():
                start, op_id = draw.choice(starts), uuid.UUID(int=draw.getrandbits(128))
                event_id = orm_boarding.board(orm, start.tailnum, start.flight_id, "Ada", op_id)
                seen = {event.op_id: event for event in orm_boarding.boarded(orm, start.tailnum)}
                assert seen[op_id].event_id == event_id  # one reads one's own writes
                with lock:
                    acknowledged[op_id] = start.tailnum
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in writers:
        thread.start()
    try:
        wait_until(lambda: len(acknowledged) > 30 or bool(errors), "writes")
        moving.run_until(None)
        done = len(acknowledged)
        wait_until(lambda: len(acknowledged) > done + 30 or bool(errors), "writes at the target")
    finally:
        stop.set()
        for thread in writers:
            thread.join()
        orm.router.close()
    assert errors == []
    assert moving.store.get(moving.migration).stage is Stage.DONE
    with moving.pair.target.connect() as conn:
        found: list[uuid.UUID] = []
        counted = 0
        for bucket in BUCKETS:
            schema = sql.Identifier(bucket)
            rows = conn.execute(
                sql.SQL(
                    "SELECT op_id FROM {}.passenger_events WHERE kind = 'boarded' AND op_id IS NOT NULL"
                ).format(schema)
            ).fetchall()
            found += [op_id for (op_id,) in rows if isinstance(op_id, uuid.UUID)]
            (row,) = conn.execute(sql.SQL("SELECT sum(cycles) FROM {}.aircraft").format(schema)).fetchall()
            counted += int(str(row[0]))
    assert sorted(found) == sorted(acknowledged)
    assert counted == len(acknowledged)
