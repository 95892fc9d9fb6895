from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.fleet.checker import BucketContents, CheckResult, check
from foreshard.fleet.ledger import Kind, Ledger, Operation, Start, State

TAIL = "N14228"
BUCKET = "b0003"
START = Start(TAIL, BUCKET, cycles=10, flight_id=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.note_starts([START])
    yield ledger
    ledger.close()


def told(ledger: Ledger, kind: Kind, state: State | None, value: int | None = None) -> UUID:
    op_id = ledger.intend(kind, TAIL, BUCKET)
    if state is not None:
        ledger.settle(op_id, state, shard="shard-1", value=value)
    return op_id


def judged(ledger: Ledger, events: dict[UUID, int] | None = None, cycles: int = 10) -> CheckResult:
    contents = BucketContents(events or {}, {TAIL: cycles})
    return check(ledger.operations(), ledger.starts(), lambda _: contents)


@pytest.mark.parametrize(
    ("state", "there", "wrong"),
    [
        (State.ACKNOWLEDGED, 0, "lost"),
        (State.ACKNOWLEDGED, 1, None),
        (State.ACKNOWLEDGED, 2, "doubled"),
        (State.REFUSED, 0, None),
        (State.REFUSED, 1, "phantoms"),
        (State.UNKNOWN, 0, None),
        (State.UNKNOWN, 1, None),
        (State.UNKNOWN, 2, "doubled"),
        (None, 0, None),  # the client died before it could write down the outcome
        (None, 1, None),
        (None, 2, "doubled"),
    ],
)
def test_events(ledger: Ledger, state: State | None, there: int, wrong: str | None) -> None:
    op_id = told(ledger, Kind.EVENT, state)
    result = judged(ledger, {op_id: there} if there else {})
    assert result.passed is (wrong is None)
    counts = result.summary()
    assert [name for name in ("lost", "doubled", "phantoms") if counts[name]] == ([wrong] if wrong else [])
    assert counts["unknown"] == (state in (None, State.UNKNOWN))


@pytest.mark.parametrize(
    ("final", "lost", "doubled"), [(11, 1, 0), (12, 0, 0), (13, 0, 0), (14, 0, 0), (15, 0, 1), (9, 3, 0)]
)
def test_counters_lie_between_acknowledged_and_acknowledged_plus_unknown(
    ledger: Ledger, final: int, lost: int, doubled: int
) -> None:
    told(ledger, Kind.CYCLE, State.ACKNOWLEDGED)
    told(ledger, Kind.READ_MODIFY_WRITE, State.ACKNOWLEDGED)
    told(ledger, Kind.CYCLE, State.UNKNOWN)
    told(ledger, Kind.CYCLE, None)
    told(ledger, Kind.CYCLE, State.REFUSED)
    counts = judged(ledger, cycles=final).summary()
    assert (counts["lost"], counts["doubled"]) == (lost, doubled)


def test_a_lost_increment_is_found_though_a_doubled_one_hides_it(ledger: Ledger) -> None:
    told(ledger, Kind.CYCLE, State.ACKNOWLEDGED, value=11)
    told(ledger, Kind.CYCLE, State.ACKNOWLEDGED, value=11)
    counts = judged(ledger, cycles=12).summary()
    assert (counts["lost"], counts["doubled"]) == (1, 1)


def test_an_unknown_increment_does_not_hide_an_overwritten_one(ledger: Ledger) -> None:
    told(ledger, Kind.READ_MODIFY_WRITE, State.ACKNOWLEDGED, value=11)
    told(ledger, Kind.READ_MODIFY_WRITE, State.ACKNOWLEDGED, value=11)
    told(ledger, Kind.CYCLE, None)
    counts = judged(ledger, cycles=12).summary()
    assert (counts["lost"], counts["doubled"]) == (1, 0)


def test_counters_that_nobody_touched_and_aircraft_that_vanished(ledger: Ledger) -> None:
    assert judged(ledger, cycles=11).summary()["doubled"] == 1
    gone = check(ledger.operations(), ledger.starts(), lambda _: BucketContents({}, {}))
    assert gone.lost[0].what == "the aircraft is gone"


def test_a_bucket_is_read_once_and_named(ledger: Ledger) -> None:
    told(ledger, Kind.EVENT, State.ACKNOWLEDGED)
    told(ledger, Kind.EVENT, State.ACKNOWLEDGED)
    asked = []

    def read(bucket: str) -> BucketContents:
        asked.append(bucket)
        return BucketContents({}, {TAIL: 10})

    result = check(ledger.operations(), ledger.starts(), read)
    assert asked == [BUCKET]
    assert {(finding.bucket, finding.tailnum) for finding in result.lost} == {(BUCKET, TAIL)}
    assert result.summary()["lost"] == 2


@given(
    acknowledged=st.integers(0, 30),
    unknown_applied=st.integers(0, 5),
    unknown_not=st.integers(0, 5),
    missing=st.integers(0, 3),
)
def test_loss_beyond_the_unknown_is_always_found(
    acknowledged: int, unknown_applied: int, unknown_not: int, missing: int
) -> None:
    def operation(number: int, state: State, value: int | None) -> Operation:
        return Operation(UUID(int=number), Kind.CYCLE, TAIL, BUCKET, state, None, False, value, None)

    history = [operation(n, State.ACKNOWLEDGED, 10 + 1 + n) for n in range(acknowledged)]
    history += [operation(100 + n, State.UNKNOWN, None) for n in range(unknown_applied + unknown_not)]
    final = 10 + acknowledged + unknown_applied
    contents = BucketContents({}, {TAIL: final})
    assert check(history, {TAIL: START}, lambda _: contents).passed

    contents = BucketContents({}, {TAIL: final - unknown_applied - missing})
    assert check(history, {TAIL: START}, lambda _: contents).summary()["lost"] == missing
    contents = BucketContents({}, {TAIL: final + unknown_not + missing})
    assert check(history, {TAIL: START}, lambda _: contents).summary()["doubled"] == missing


def test_counts_by_bucket_and_time(ledger: Ledger) -> None:
    before = datetime.now(UTC)
    told(ledger, Kind.EVENT, State.ACKNOWLEDGED)
    told(ledger, Kind.EVENT, State.REFUSED)
    redirected = ledger.intend(Kind.CYCLE, TAIL, BUCKET)
    ledger.settle(redirected, State.ACKNOWLEDGED, shard="shard-4", redirected=True, value=11)
    after = datetime.now(UTC) + timedelta(milliseconds=1)
    assert ledger.acknowledged_between([BUCKET], before, after) == 2
    assert ledger.acknowledged_between(["b0001"], before, after) == 0
    assert ledger.acknowledged_between([BUCKET], after, after + timedelta(days=1)) == 0
    assert (ledger.redirected_before(after), ledger.redirected_before(before)) == (1, 0)
    assert judged(ledger).redirected == 1


def test_the_ledger_survives_reopening_and_keeps_the_first_starts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first = Ledger(path)
    first.note_starts([START])
    op_id = told(first, Kind.EVENT, None)  # never closed: as after a kill
    again = Ledger(path)
    again.note_starts([Start(TAIL, BUCKET, cycles=99, flight_id=1)])
    assert again.starts() == {TAIL: START}
    assert [(each.op_id, each.state, each.ended_at) for each in again.operations()] == [
        (op_id, State.UNKNOWN, None)
    ]
    again.close()
    first.close()
