"""The check that the example's test relies on can fail."""

from __future__ import annotations

import random

from tests.integration.told import Told, contradictions


def honest(seed: int) -> list[Told]:
    """What four callers are told of three counters by a service that serves one request at a time."""
    draw = random.Random(seed)
    counters = dict.fromkeys("abc", 0)
    history = []
    for at in range(400):
        what, raised = draw.choice("abc"), draw.random() < 0.5
        counters[what] += raised
        # Served at ``at``; asked some time before, answered some time after.
        begun, ended = at - 4 * draw.random(), at + 4 * draw.random()
        history.append(Told(what, counters[what], begun, ended, raised))
    return history


def test_an_honest_service_never_contradicts_itself() -> None:
    for seed in range(20):
        assert contradictions(honest(seed)) == []


def test_a_stale_answer_is_found_wherever_it_is_put() -> None:
    history = honest(1)
    newest = {told.what: told.value for told in history}
    for what, value in newest.items():
        stale = Told(what, value - 1, begun=405, ended=406)
        assert contradictions([stale, *history]) == [f"{what}: {value} had been told, then {value - 1}"]


def test_an_answer_that_overlaps_may_be_older() -> None:
    assert not contradictions([Told("a", 2, 0, 10, raised=True), Told("a", 1, 5, 15)])
    assert contradictions([Told("a", 2, 0, 4, raised=True), Told("a", 1, 5, 15)])


def test_a_lost_increment_shows_as_a_value_that_two_were_given() -> None:
    lost = [Told("a", 7, 0, 1, raised=True), Told("a", 7, 2, 3, raised=True)]
    assert contradictions(lost) == ["a: 7 had been told, then 7"]


def test_a_thing_that_is_gone_again_is_found() -> None:
    assert contradictions([Told("boarding 1", 1, 0, 1, raised=True), Told("boarding 1", 0, 2, 3)])
