from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from time import monotonic, sleep

import psycopg
import pytest

from foreshard.router import shadow
from foreshard.router.shadow import Rows, ShadowCounts, ShadowRead, ShadowReader, same


class Side:
    """A shard whose answers are scripted; the last one stays."""

    def __init__(self, *answers: Rows | Exception) -> None:
        self.answers = list(answers)

    def __call__(self) -> Rows:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def read(owner: Side, other: Side, *, migration: int = 7, ordered: bool = False) -> ShadowRead:
    return ShadowRead(
        migration,
        "a read",
        rows=[(1,), (2,)],
        seconds=0.001,
        ordered=ordered,
        read_owner=owner,
        read_other=lambda: (other(), 0.002),
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[ShadowCounts]:
    monkeypatch.setattr(shadow, "_FLUSH_S", 0.02)
    monkeypatch.setattr(shadow, "_FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(shadow, "_MISMATCH_AFTER_S", 0.15)
    return []


def wait_until(condition: Callable[[], bool]) -> None:
    until = monotonic() + 10
    while not condition():
        assert monotonic() < until
        sleep(0.005)


SERVED: Rows = [(1,), (2,)]
DIFFERENT: Rows = [(1,), (3,)]


@pytest.mark.parametrize(
    ("owner", "other", "ordered", "expected"),
    [
        (Side(SERVED), Side(SERVED), True, "matches"),
        (Side(SERVED), Side([(2,), (1,)]), False, "matches"),
        (Side(SERVED), Side([(2,), (1,)]), True, "mismatches"),
        (Side(SERVED), Side(DIFFERENT, DIFFERENT, SERVED), False, "lags"),
        # The owner has moved on and the other side has followed.
        (Side(DIFFERENT), Side([(9,)], DIFFERENT), False, "lags"),
        (Side(SERVED), Side(DIFFERENT), False, "mismatches"),
        (Side(SERVED), Side([]), False, "mismatches"),
        (Side(SERVED), Side(psycopg.errors.UndefinedTable()), False, "failures"),
        (Side(RuntimeError("boom")), Side(DIFFERENT), False, "failures"),
    ],
)
def test_every_read_ends_as_exactly_one_thing(
    owner: Side, other: Side, ordered: bool, expected: str, seen: list[ShadowCounts]
) -> None:
    reader = ShadowReader(seen.append)
    reader.offer(read(owner, other, ordered=ordered))
    wait_until(lambda: any(counts.reads for counts in seen))
    reader.close()
    counts = next(counts for counts in seen if counts.reads)
    outcomes = {name: getattr(counts, name) for name in ("matches", "lags", "mismatches", "failures")}
    assert outcomes == {**dict.fromkeys(outcomes, 0), expected: 1}
    assert (counts.migration, counts.reads, counts.dropped) == (7, 1, 0)


def test_an_owner_that_never_stands_still_is_no_mismatch(seen: list[ShadowCounts]) -> None:
    class Restless(Side):
        def __call__(self) -> Rows:
            self.answers.append([(monotonic(),)])
            return super().__call__()

    reader = ShadowReader(seen.append)
    reader.offer(read(Restless(SERVED), Side(DIFFERENT)))
    wait_until(lambda: any(counts.reads for counts in seen))
    reader.close()
    assert (sum(c.lags for c in seen), sum(c.mismatches for c in seen)) == (1, 0)


def test_a_full_queue_drops_and_counts(seen: list[ShadowCounts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "QUEUE_LENGTH", 2)
    go = threading.Event()
    started = threading.Event()

    class Slow(Side):
        def __call__(self) -> Rows:
            started.set()
            go.wait(10)
            return super().__call__()

    reader = ShadowReader(seen.append)
    reader.offer(read(Side(SERVED), Slow(SERVED)))
    assert started.wait(10)
    for _ in range(5):
        reader.offer(read(Side(SERVED), Side(SERVED)))
    go.set()
    wait_until(lambda: sum(counts.reads for counts in seen) == 3)
    reader.close()
    assert sum(counts.dropped for counts in seen) == 3


def test_counts_survive_a_sink_that_is_away(seen: list[ShadowCounts]) -> None:
    refusals = []

    def sink(counts: ShadowCounts) -> None:
        if len(refusals) < 2:
            refusals.append(counts.reads)
            raise ConnectionError
        seen.append(counts)

    reader = ShadowReader(sink)
    reader.offer(read(Side(SERVED), Side(SERVED)))
    wait_until(lambda: bool(refusals))
    reader.offer(read(Side(SERVED), Side(SERVED)))
    wait_until(lambda: sum(counts.reads for counts in seen) == 2)
    reader.close()
    assert sum(counts.owner.count for counts in seen) == 2


def test_close_is_prompt_and_flushes(seen: list[ShadowCounts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "_FLUSH_S", 3600)
    reader = ShadowReader(seen.append)
    done = threading.Event()
    reader.offer(read(Side(SERVED), Side(SERVED)))
    reader.offer(ShadowRead(7, "", SERVED, 0.0, False, Side(SERVED), lambda: (done.set(), (SERVED, 0.0))[1]))
    assert done.wait(10)
    begun = monotonic()
    reader.close()
    assert monotonic() - begun < 5
    assert sum(counts.reads for counts in seen) >= 1


def test_sameness_is_by_representation() -> None:
    assert same([(float("nan"), {"a": [1]})], [(float("nan"), {"a": [1]})], ordered=False)
    assert not same([(Decimal("1.0"),)], [(Decimal("1.00"),)], ordered=False)
    assert not same([(1,), (1,)], [(1,)], ordered=False)
