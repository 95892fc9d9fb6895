from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from time import monotonic, sleep
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from foreshard.router import shadow
from foreshard.router.opening import Opening
from foreshard.router.shadow import ShadowRead, ShadowReader
from foreshard.router.shadow_comparison import Rows, difference, same
from foreshard.router.shadow_counts import ShadowCounts, ShadowSink
from foreshard.router.shadow_sides import in_words
from foreshard.topology.keys import KeyType
from foreshard.topology.routing_map import Redirection, Route


class Side:
    """A shard whose answers are scripted; the last one stays."""

    def __init__(self, *answers: Rows | Exception) -> None:
        self.answers = list(answers)

    def __call__(self) -> Rows:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Sides:
    """What `ShadowSides` is for the reader: an owner and another side. ``markers`` says what becomes of each."""

    def __init__(self, owner: Side, other: Side, *markers: bool | None) -> None:
        self.shards = {"owner": owner, "other": other}
        self.markers = list(markers)

    def read(self, shard: str, *_: object, as_owner: bool) -> Rows:
        del as_owner
        return self.shards[shard]()

    def place_marker(self, shard: str, bucket: str, migration: int) -> UUID:
        assert (shard in self.shards, bucket, migration) == (True, "b0000", 7)
        return UUID(int=1)

    def has_marker(self, *_: object) -> bool | None:
        return self.markers.pop(0) if self.markers else True

    def close(self) -> None:
        pass


SERVED: Rows = [(1,), (2,)]
DIFFERENT: Rows = [(1,), (3,)]

OPENING = Opening(
    Route("b0000", "owner", 5, migration=7, shadow="other"),
    "key",
    KeyType.TEXT,
    read_only=True,
    ask_owner=True,
)


def read(*, ordered: bool = False) -> ShadowRead:
    return ShadowRead(7, "owner", "other", OPENING, "SELECT 'secret'", ("secret",), SERVED, 0.001, ordered)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[ShadowCounts]:
    monkeypatch.setattr(shadow, "_FLUSH_S", 0.02)
    monkeypatch.setattr(shadow, "_FIRST_REST_S", 0.005)
    monkeypatch.setattr(shadow, "_LAST_REST_S", 0.01)
    monkeypatch.setattr(shadow, "_MARKER_S", 0.2)
    return []


@pytest.fixture
def make_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ShadowSink, Sides], ShadowReader]]:
    made = []

    def make(sink: ShadowSink, sides: Sides) -> ShadowReader:
        monkeypatch.setattr(shadow, "ShadowSides", lambda *_: sides)
        made.append(ShadowReader(sink, {}))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


MakeReader = Callable[[ShadowSink, Sides], ShadowReader]


def wait_until(condition: Callable[[], bool]) -> None:
    until = monotonic() + 10
    while not condition():
        assert monotonic() < until
        sleep(0.005)


def refused(sqlstate: str) -> psycopg.Error:
    error = psycopg.errors.RaiseException()
    error.sqlstate = sqlstate
    return error


@pytest.mark.parametrize(
    ("owner", "other", "ordered", "expected"),
    [
        (Side(SERVED), Side(SERVED), True, "matches"),
        (Side(SERVED), Side([(2,), (1,)]), False, "matches"),
        (Side(SERVED), Side([(2,), (1,)]), True, "mismatches"),
        (Side(SERVED), Side(DIFFERENT, SERVED), False, "lags"),
        # Found twice, and gone at the third look: the owner's rows had gone away and come back.
        (Side(SERVED), Side(DIFFERENT, DIFFERENT, DIFFERENT, SERVED), False, "lags"),
        # The owner has moved on and the other side has followed; or it is as far as the owner's first read.
        (Side(DIFFERENT), Side([(9,)], DIFFERENT), False, "lags"),
        (Side(DIFFERENT, RuntimeError("boom")), Side(DIFFERENT, RuntimeError("boom")), False, "lags"),
        (Side([(8,)], [(9,)]), Side(DIFFERENT, [(8,)]), False, "lags"),
        (Side(SERVED), Side(DIFFERENT), False, "mismatches"),
        (Side(SERVED), Side([]), False, "mismatches"),
        # A conflict is no end, and neither is a flip that turns the sides round.
        (Side(refused("40001"), SERVED), Side(DIFFERENT), False, "mismatches"),
        (Side(refused("FS001"), SERVED), Side(DIFFERENT, SERVED), False, "lags"),
        (Side(refused("FS001")), Side(DIFFERENT, refused("FS001")), False, "unsettled"),
        (Side(SERVED), Side(psycopg.errors.UndefinedTable()), False, "failures"),
        (Side(RuntimeError("boom")), Side(DIFFERENT), False, "failures"),
    ],
)
def test_every_read_ends_as_exactly_one_thing(
    owner: Side,
    other: Side,
    ordered: bool,
    expected: str,
    seen: list[ShadowCounts],
    make_reader: MakeReader,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader = make_reader(seen.append, Sides(owner, other))
    reader.offer(read(ordered=ordered))
    wait_until(lambda: any(counts.reads for counts in seen))
    reader.close()
    counts = next(counts for counts in seen if counts.reads)
    names = ("matches", "lags", "mismatches", "unsettled", "failures")
    assert {name: getattr(counts, name) for name in names} == {**dict.fromkeys(names, 0), expected: 1}
    assert (counts.migration, counts.reads, counts.dropped) == (7, 1, 0)
    assert len(counts.differences) == (expected == "mismatches")
    assert "boom" not in caplog.text


def test_without_its_marker_the_other_side_is_late_whatever_it_says(
    seen: list[ShadowCounts], make_reader: MakeReader
) -> None:
    reader = make_reader(seen.append, Sides(Side(SERVED), Side(DIFFERENT), *[False] * 10_000))
    reader.offer(read())
    wait_until(lambda: any(counts.reads for counts in seen))
    assert (sum(c.lags for c in seen), sum(c.mismatches for c in seen)) == (1, 0)


def test_a_migration_that_has_ended_settles_nothing(
    seen: list[ShadowCounts], make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "_MARKER_S", 60.0)
    reader = make_reader(seen.append, Sides(Side(SERVED), Side(DIFFERENT), False, None))
    reader.offer(read())
    wait_until(lambda: any(counts.reads for counts in seen))
    assert (sum(c.unsettled for c in seen), sum(c.mismatches for c in seen)) == (1, 0)


def test_an_owner_that_never_stands_still_is_no_mismatch(
    seen: list[ShadowCounts], make_reader: MakeReader
) -> None:
    class Restless(Side):
        def __call__(self) -> Rows:
            self.answers.append([(monotonic(),)])
            return super().__call__()

    reader = make_reader(seen.append, Sides(Restless(SERVED), Side(DIFFERENT)))
    reader.offer(read())
    wait_until(lambda: any(counts.reads for counts in seen))
    assert (sum(c.unsettled for c in seen), sum(c.mismatches for c in seen)) == (1, 0)


def test_a_full_queue_drops_and_counts(
    seen: list[ShadowCounts], make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "QUEUE_LENGTH", 2)
    go = threading.Event()
    started = threading.Event()

    class Slow(Side):
        def __call__(self) -> Rows:
            started.set()
            go.wait(10)
            return super().__call__()

    reader = make_reader(seen.append, Sides(Side(SERVED), Slow(SERVED)))
    reader.offer(read())
    assert started.wait(10)
    for _ in range(5):
        reader.offer(read())
    go.set()
    wait_until(lambda: sum(counts.reads for counts in seen) == 3)
    reader.close()
    assert sum(counts.dropped for counts in seen) == 3


def test_with_many_suspects_no_more_are_taken_up(
    seen: list[ShadowCounts], make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "_SUSPECTS", 2)
    monkeypatch.setattr(shadow, "_MARKER_S", 2.0)
    monkeypatch.setattr(shadow, "QUEUE_LENGTH", 3)
    reader = make_reader(seen.append, Sides(Side(SERVED), Side(DIFFERENT), *[False] * 100_000))
    for _ in range(20):
        reader.offer(read())
    wait_until(lambda: sum(counts.reads + counts.dropped for counts in seen) == 20)
    assert sum(counts.dropped for counts in seen) >= 15
    assert sum(counts.lags for counts in seen) == sum(counts.reads for counts in seen)


def test_counts_survive_a_sink_that_is_away(seen: list[ShadowCounts], make_reader: MakeReader) -> None:
    refusals = []

    def sink(counts: ShadowCounts) -> None:
        if len(refusals) < 2:
            refusals.append(counts.reads)
            raise ConnectionError
        seen.append(counts)

    reader = make_reader(sink, Sides(Side(SERVED), Side(SERVED)))
    reader.offer(read())
    wait_until(lambda: bool(refusals))
    reader.offer(read())
    wait_until(lambda: sum(counts.reads for counts in seen) == 2)
    reader.close()
    assert sum(counts.owner.count for counts in seen) == 2


def test_close_is_prompt_and_flushes(
    seen: list[ShadowCounts], make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "_FLUSH_S", 3600)
    done = threading.Event()

    class Noted(Side):
        def __call__(self) -> Rows:
            done.set()
            return super().__call__()

    reader = make_reader(seen.append, Sides(Side(SERVED), Noted(SERVED)))
    reader.offer(read())
    assert done.wait(10)
    begun = monotonic()
    reader.close()
    assert monotonic() - begun < 5
    assert sum(counts.reads for counts in seen) == 1


def test_the_share_is_drawn_and_the_list_stays_the_applications(
    seen: list[ShadowCounts], make_reader: MakeReader
) -> None:
    reader = make_reader(seen.append, Sides(Side(SERVED), Side(SERVED)))
    rows = list(SERVED)

    def consider(percent: float, shadowed: str | None = "other") -> None:
        moving = Redirection(7, frozenset({"b0000"}), "owner", "other", 0, percent)
        opening = replace(OPENING, route=OPENING.route._replace(shadow=shadowed))
        reader.consider(moving, opening, "SELECT 1", None, rows, 0.001, ordered=True)

    for _ in range(50):
        consider(0.0)
        consider(100.0, None)
    for _ in range(50):
        consider(100.0)
    rows.clear()
    wait_until(lambda: sum(counts.reads for counts in seen) == 50)
    assert sum(counts.matches for counts in seen) == 50


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([(float("nan"), {"a": [1]})], [(float("nan"), {"a": [1]})], True),
        ([(Decimal("1.0"),)], [(Decimal("1.00"),)], False),
        ([(0.0,)], [(-0.0,)], False),
        ([(["1", Decimal("1.0")],)], [(["1", Decimal("1.00")],)], False),
        ([(1,), (1,)], [(1,)], False),
        ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], True),
        ([(1, "a"), (2, "b")], [(2, "a"), (1, "b")], False),
        ([(None,)], [("None",)], False),
        ([(NOON, 1.5)], [(NOON.astimezone(timezone(timedelta(hours=1))), 1.5)], True),
        ([], [], True),
    ],
)
def test_sameness(one: Rows, other: Rows, expected: bool) -> None:
    assert same(one, other, ordered=False) == expected


@pytest.mark.parametrize(
    ("one", "other", "ordered", "expected"),
    [
        ([("x1",)], [], False, "1 rows at the owner, 0 on the other side"),
        ([("x1", 2, 3)], [("x1", 4, 5)], False, "1 of 1 rows differ, in columns 2, 3"),
        ([("x1",), ("x2",)], [("x2",), ("x1",)], True, "2 of 2 rows differ, in columns 1"),
        ([(1, "x1"), (2, "x2")], [(2, "x1"), (1, "x2")], False, "2 of 2 rows differ, in how values stand together"),
        ([tuple("x" * 20)], [tuple("y" * 20)], False, "1 of 1 rows differ, in columns 1, 2, 3, 4, 5, 6, 7, 8, ..."),
    ],
)  # fmt: skip
def test_a_difference_is_told_without_values(one: Rows, other: Rows, ordered: bool, expected: str) -> None:
    assert difference(one, other, ordered=ordered) == expected


def test_what_was_composed_is_not_shown() -> None:
    assert in_words("SELECT  1\n FROM {a}") == "SELECT 1 FROM {a}"
    assert in_words(sql.SQL("SELECT {}").format(sql.Literal("secret"))) == "a composed query"
    assert len(in_words("x" * 1000)) == 300
