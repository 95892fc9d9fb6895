"""Sequences while both sides give out values: they never meet, whatever dies; and what each kind of sequence does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from psycopg import sql

from foreshard.errors import DataMismatch
from foreshard.fleet.grants import OWNER
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration import head_start
from foreshard.migration.lifecycle import Stage
from foreshard.migration.runner import Runner
from foreshard.postgres import sequences
from foreshard.postgres.guard import Side
from tests.integration.conftest import drop_pair
from tests.integration.moving_fleet import BUCKETS, MovingFleet

NAMES = ("up", "down", "cached", "small")
DEFINED = (
    "CREATE SEQUENCE b0000.up START 7",
    "CREATE SEQUENCE b0000.down INCREMENT -3",
    "CREATE SEQUENCE b0000.cached INCREMENT 2 CACHE 20",
    "CREATE SEQUENCE b0000.small AS int START 2000000000",
)
MARGIN = 100


@pytest.fixture(scope="module")
def shared(servers: ThrowawayServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MovingFleet]:
    """Two shards with the definitions copied; the tests write no rows, so ownership does not matter."""
    pair = ShardPair(servers.new_shard("source"), servers.new_shard("target"))
    moving = MovingFleet(pair, servers.new_control_database(), tmp_path_factory.mktemp("shared"))
    with pair.source.connect() as conn:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        for statement in DEFINED:
            conn.execute(statement.encode())
    moving.run_until(Stage.BACKFILL)
    yield moving
    moving.close()
    drop_pair(servers, pair)


@pytest.fixture
def runner(shared: MovingFleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    monkeypatch.setattr(sequences, "MARGIN", MARGIN)
    monkeypatch.setattr(sequences, "LEAST_MARGIN", 10)
    monkeypatch.setattr(head_start, "MARGIN", MARGIN)
    with shared.runner() as held:
        held.work.store.put_facts(held.work.lease, **{head_start.FACT: {}})
        for shard in (shared.pair.source, shared.pair.target):
            with shard.connect() as conn:
                for statement in DEFINED:
                    name = statement.split()[2]
                    conn.execute(f"ALTER SEQUENCE {name} RESTART".encode())
        yield held


def drawn(shard: ShardDatabase, name: str, count: int, sessions: int = 3) -> list[int]:
    """Values that several sessions draw in turn; each has a cache of its own."""
    with ExitStack() as stack:
        open_ = [stack.enter_context(shard.connect()) for _ in range(sessions)]
        return [
            int(str(value))
            for turn in range(count)
            for (value,) in open_[turn % sessions].execute("SELECT nextval(%s)", (f"b0000.{name}",))
        ]


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_never_give_out_the_same_value(shared: MovingFleet, runner: Runner, name: str) -> None:
    seen: list[int] = drawn(shared.pair.source, name, 5)
    for _ in range(12):  # each side gives out several margins in all, and the target more than the source
        head_start.keep_apart(runner.work)
        seen += drawn(shared.pair.target, name, 70)
        seen += drawn(shared.pair.source, name, 30, sessions=1)
    assert len(seen) == len(set(seen))
    head_start.give(runner.work, opening=Side.SOURCE)  # and neither does the way back
    seen += drawn(shared.pair.source, name, 50)
    assert len(seen) == len(set(seen))


def test_sessions_with_cached_values_never_repeat_one(shared: MovingFleet, runner: Runner) -> None:
    with shared.pair.source.connect() as idle:
        draw = b"SELECT nextval('b0000.cached')"
        seen = [idle.execute(draw).fetchone()]
        head_start.keep_apart(runner.work)
        seen += [(value,) for value in drawn(shared.pair.source, "cached", 80, sessions=1)]
        assert head_start.keep_apart(runner.work) == 1
        seen += [idle.execute(draw).fetchone() for _ in range(30)]  # its old values first, then new ones
        seen += [(value,) for value in drawn(shared.pair.source, "cached", 30)]
        seen += [(value,) for value in drawn(shared.pair.target, "cached", 30)]
    assert len(seen) == len(set(seen))


def test_nothing_jumps_while_there_is_room(shared: MovingFleet, runner: Runner) -> None:
    assert head_start.keep_apart(runner.work) > len(NAMES)  # those of the identity columns too
    drawn(shared.pair.source, "up", MARGIN // 2 - 1)
    assert head_start.keep_apart(runner.work) == 0
    drawn(shared.pair.source, "up", 3)
    assert head_start.keep_apart(runner.work) == 1


def test_sequences_that_met_are_reported_once_and_set_apart(shared: MovingFleet, runner: Runner) -> None:
    head_start.keep_apart(runner.work)
    drawn(shared.pair.target, "up", 20)
    drawn(shared.pair.source, "up", MARGIN + 1)
    with pytest.raises(DataMismatch, match="given out twice") as met:
        head_start.keep_apart(runner.work)
    assert met.value.details["sequences"] == ["b0000.up"]
    assert head_start.keep_apart(runner.work) == 0
    seen = drawn(shared.pair.source, "up", 40) + drawn(shared.pair.target, "up", 40)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("before", ["target", "source"])
def test_a_jump_that_was_stored_and_not_made_is_made_by_the_next_runner(
    shared: MovingFleet, runner: Runner, before: str
) -> None:
    head_start.keep_apart(runner.work)
    seen = drawn(shared.pair.target, "up", 30) + drawn(shared.pair.source, "up", 60)
    original = sequences.set_position
    made: list[object] = []

    def die(*arguments: object) -> None:
        if before == "target" or made:
            raise KeyboardInterrupt
        made.append(arguments)
        original(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sequences, "set_position", die)
        with pytest.raises(KeyboardInterrupt):
            head_start.keep_apart(runner.work)
    head_start.keep_apart(runner.work)
    with shared.pair.source.connect() as source, shared.pair.target.connect() as target:
        ours, theirs = (sequences.read(conn, BUCKETS)["b0000", "up"] for conn in (source, target))
    assert max(seen) < ours.position < theirs.position
    seen += drawn(shared.pair.source, "up", 60) + drawn(shared.pair.target, "up", 60)
    assert len(seen) == len(set(seen))


def test_the_margin_lasts_while_a_person_is_asked(runner: Runner) -> None:
    """A thousand values a second use up a million within a quarter of an hour; a person has a day."""
    rates = {("b0000", "up"): 1000.0, ("b0000", "small"): 1000.0}
    head_start.keep_apart(runner.work, rates)
    facts = runner.work.facts()[head_start.FACT]
    assert facts["b0000.up"]["margin"] > 1000 * runner.work.approval.timeout_s
    assert facts["b0000.small"]["margin"] == (2**31 - 1 - 2_000_000_000 + 1) // 4  # it cannot have more
    assert facts["b0000.down"]["margin"] == MARGIN


def test_one_that_cycles_goes_on_behind_the_closing_side(shared: MovingFleet, runner: Runner) -> None:
    for shard in (shared.pair.source, shared.pair.target):
        with shard.connect() as conn:
            conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
            conn.execute("CREATE SEQUENCE b0000.round MAXVALUE 1000 CYCLE")
    drawn(shared.pair.source, "round", 700)
    head_start.give(runner.work, opening=Side.TARGET)
    assert drawn(shared.pair.target, "round", 3, sessions=1) == [776, 777, 778]  # a quarter of its way
    drawn(shared.pair.target, "round", 300)  # over its end
    head_start.give(runner.work, opening=Side.SOURCE)
    assert drawn(shared.pair.source, "round", 1) == [78 + MARGIN + 1]
    for shard in (shared.pair.source, shared.pair.target):
        with shard.connect() as conn:
            conn.execute("DROP SEQUENCE b0000.round")


def test_a_flip_of_everything_leaves_values_to_a_sequence_that_has_few(
    shared: MovingFleet, runner: Runner
) -> None:
    """All the margin of a sequence with room to spare would be its end."""
    with shared.pair.source.connect() as conn:
        conn.execute("SELECT setval('b0000.small', 2147483647 - 80)")
    head_start.give(runner.work, opening=Side.TARGET)
    assert len(drawn(shared.pair.target, "small", 30, sessions=1)) == 30
    head_start.give(runner.work, opening=Side.SOURCE)
    assert len(drawn(shared.pair.source, "small", 10, sessions=1)) == 10


def test_an_exhausted_sequence_stops_the_way_there_and_not_the_way_back(
    shared: MovingFleet, runner: Runner
) -> None:
    for shard in (shared.pair.source, shared.pair.target):
        with shard.connect() as conn:
            conn.execute("SELECT setval('b0000.small', 2147483640)")
    with pytest.raises(DataMismatch, match="wider type"):
        head_start.give(runner.work, opening=Side.TARGET)
    with pytest.raises(DataMismatch, match="values left"):
        head_start.keep_apart(runner.work)
    head_start.give(runner.work, opening=Side.SOURCE)
