"""The checker of the stress test on histories made by hand: it must see what it is there for, and nothing else."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from foreshard.fleet.ledger import State
from tests.stress.checker import Contents, Wrong, check
from tests.stress.history import History, Kind, Operation, Subject

COUNTER = Subject(Kind.COUNTER, 7)
FAMILY = Subject(Kind.FAMILY, 8)
TOKEN = Subject(Kind.TOKEN, 9)


def history(*values: int, subject: Subject = COUNTER, start: int = 0) -> History:
    """Acknowledged writes that left these values, each begun when the last one was known."""
    told = History({subject: start})
    for value in values:
        told.acknowledge(told.intend(Operation("test", subject)), value, key=subject.key)
    return told


def unknown(told: History, subject: Subject = COUNTER) -> History:
    told.settle(told.intend(Operation("test", subject)), State.UNKNOWN)
    return told


def wrongs(told: History, contents: Contents) -> list[tuple[Wrong, int]]:
    return [(finding.wrong, finding.count) for finding in check(told, contents)]


def test_a_counter_that_is_where_it_should_be() -> None:
    assert wrongs(history(4, 5, 6, start=3), Contents(counters={7: 6})) == []


def test_a_counter_that_nobody_wrote_must_not_move() -> None:
    assert wrongs(history(start=3), Contents(counters={7: 3})) == []
    assert wrongs(history(start=3), Contents(counters={7: 4})) == [(Wrong.DOUBLED, 1)]
    assert wrongs(history(start=3), Contents()) == [(Wrong.LOST, 1)]


@pytest.mark.parametrize("now", [2, 3])
def test_an_unknown_increment_may_or_may_not_be_there(now: int) -> None:
    assert wrongs(unknown(history(1, 2)), Contents(counters={7: now})) == []


def test_an_intent_without_outcome_is_unknown() -> None:
    told = history(1)
    told.intend(Operation("test", COUNTER))
    assert wrongs(told, Contents(counters={7: 2})) == []
    assert wrongs(told, Contents(counters={7: 3})) == [(Wrong.DOUBLED, 1)]


def test_a_lost_increment() -> None:
    assert wrongs(history(1, 2, 3), Contents(counters={7: 2})) == [(Wrong.LOST, 1)]


def test_two_writes_that_left_the_same_value() -> None:
    told = History({COUNTER: 0})
    together = [told.intend(Operation("test", COUNTER)) for _ in range(2)]
    for operation in together:
        told.acknowledge(operation, 1, key=7)
    assert told.contradictions == 1
    assert wrongs(told, Contents(counters={7: 1})) == [(Wrong.LOST, 1)]


def test_a_lost_increment_that_a_doubled_one_hides_in_the_sum() -> None:
    told = History({COUNTER: 0})
    for operation in [told.intend(Operation("test", COUNTER)) for _ in range(2)]:
        told.acknowledge(operation, 1, key=7)
    assert wrongs(told, Contents(counters={7: 2})) == [(Wrong.LOST, 1), (Wrong.DOUBLED, 1)]


def test_an_unknown_outcome_hides_no_overwritten_increment() -> None:
    told = unknown(History({COUNTER: 0}))
    for operation in [told.intend(Operation("test", COUNTER)) for _ in range(2)]:
        told.acknowledge(operation, 1, key=7)
    assert wrongs(told, Contents(counters={7: 2})) == [(Wrong.LOST, 1)]


def test_a_doubled_increment() -> None:
    assert wrongs(history(1, 2), Contents(counters={7: 3})) == [(Wrong.DOUBLED, 1)]


def test_a_refused_increment_that_is_there() -> None:
    told = history(1)
    told.settle(told.intend(Operation("test", COUNTER)), State.REFUSED)
    assert wrongs(told, Contents(counters={7: 2})) == [(Wrong.DOUBLED, 1)]


def test_a_counter_that_the_first_write_inserts() -> None:
    told = History({})
    told.acknowledge(told.intend(Operation("test", COUNTER)), 1, key=7)
    assert wrongs(told, Contents(counters={7: 1})) == []
    assert wrongs(told, Contents()) == [(Wrong.LOST, 1)]


def test_a_write_that_built_upon_an_old_value() -> None:
    told = history(1, 2)
    told.acknowledge(told.intend(Operation("test", COUNTER)), 2, key=7)
    assert [wrong for wrong, _ in wrongs(told, Contents(counters={7: 2}))] == [Wrong.LOST, Wrong.STALE]


def test_a_read_that_is_older_than_what_was_known() -> None:
    told = history(1, 2)
    told.saw(COUNTER, 2, told.floor(COUNTER))
    assert wrongs(told, Contents(counters={7: 2})) == []
    told.saw(COUNTER, 1, told.floor(COUNTER))
    assert wrongs(told, Contents(counters={7: 2})) == [(Wrong.STALE, 1)]


def test_what_a_reader_saw_must_not_vanish_for_the_next_one() -> None:
    told = unknown(history(1))
    told.saw(COUNTER, 2, told.floor(COUNTER))
    told.saw(COUNTER, 1, told.floor(COUNTER))
    assert (Wrong.STALE, 1) in wrongs(told, Contents(counters={7: 2}))


@pytest.mark.parametrize(
    ("state", "there", "expected"),
    [
        (State.ACKNOWLEDGED, 3, []),
        (State.ACKNOWLEDGED, 0, [(Wrong.LOST, 3)]),
        (State.ACKNOWLEDGED, 2, [(Wrong.LOST, 1)]),
        (State.ACKNOWLEDGED, 6, [(Wrong.DOUBLED, 3)]),
        (State.UNKNOWN, 0, []),
        (State.UNKNOWN, 3, []),
        (State.UNKNOWN, 2, [(Wrong.LOST, 1)]),
        (State.UNKNOWN, 6, [(Wrong.DOUBLED, 3)]),
        (State.REFUSED, 0, []),
        (State.REFUSED, 3, [(Wrong.PHANTOM, 3)]),
    ],
)
def test_events(state: State, there: int, expected: list[tuple[Wrong, int]]) -> None:
    told = History({})
    operation = told.intend(Operation("copy", op_id=uuid4(), events=3))
    operation.state = state
    assert operation.op_id is not None
    events = {operation.op_id: there} if there else {}
    assert wrongs(told, Contents(events=events)) == expected


def test_an_event_that_was_rolled_back_to_a_savepoint() -> None:
    told = History({})
    operation = told.intend(Operation("savepoint", op_id=uuid4(), events=1, undone=uuid4()))
    operation.state = State.ACKNOWLEDGED
    assert operation.op_id is not None
    assert operation.undone is not None
    events: dict[UUID, int] = {operation.op_id: 1}
    assert wrongs(told, Contents(events=events)) == []
    assert wrongs(told, Contents(events=events | {operation.undone: 1})) == [(Wrong.PHANTOM, 1)]


def test_an_acknowledged_event_that_a_reader_misses() -> None:
    told = History({})
    told.saw_events(uuid4(), 1)
    assert wrongs(told, Contents()) == []
    told.saw_events(uuid4(), 0)
    assert wrongs(told, Contents()) == [(Wrong.STALE, 1)]


def test_a_family_is_of_one_transaction() -> None:
    told = history(1, subject=FAMILY)
    whole = [(number, 1) for number in (1, 2, 3)]
    assert wrongs(told, Contents(parents={8: 1}, children={8: whole})) == []
    for children in (whole[:2], [*whole[:2], (3, 0)], []):
        assert wrongs(told, Contents(parents={8: 1}, children={8: children})) == [(Wrong.TORN, 1)]
    assert wrongs(told, Contents()) == [(Wrong.LOST, 1)]
    assert wrongs(told, Contents(children={8: whole})) == [(Wrong.LOST, 1), (Wrong.TORN, 1)]


def test_a_token_stands_once_and_where_its_last_move_led() -> None:
    told = History({TOKEN: 0})
    told.acknowledge(told.intend(Operation("move", TOKEN, place=44)), 1, key=44)
    assert wrongs(told, Contents(tokens={9: [(44, 1)]})) == []
    assert wrongs(told, Contents(tokens={9: [(43, 1)]})) == [(Wrong.LOST, 1)]
    assert wrongs(told, Contents(tokens={9: [(43, 0), (44, 1)]})) == [(Wrong.DOUBLED, 1)]
    assert wrongs(told, Contents()) == [(Wrong.LOST, 1)]


def test_errors_of_clients_count() -> None:
    told = History({})
    told.trouble("relation does not exist")
    assert wrongs(told, Contents()) == [(Wrong.ERROR, 1)]
