"""Progress: rates nobody measured are filled in, and what is stored of it stays small."""

from __future__ import annotations

import json

import pytest

from foreshard.migration import progress_table
from foreshard.migration.progress import LISTED, Part, Progress, RateMeter


class Clock:
    """Goes on when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def told(*done: float, per_s: float | None = None, text: str = "rows") -> Progress:
    parts = tuple(Part(f"b{number}", one, 100.0, int(one)) for number, one in enumerate(done))
    return Progress(text, sum(done), 100.0 * len(done), "bytes", per_s, parts)


def test_a_rate_is_the_mean_since_the_part_began_to_move() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    assert meter.filled(told(0, 0)).per_s is None
    clock.now += 10
    first = meter.filled(told(40, 0))
    assert first.per_s == pytest.approx(4)
    assert (first.parts[0].per_s, first.parts[1].per_s) == (None, None)  # seen to move for the first time
    clock.now += 5
    then = meter.filled(told(100, 30))
    assert (then.parts[0].per_s, then.parts[0].finished) == (None, True)
    clock.now += 5
    last = meter.filled(told(100, 60))
    assert last.parts[1].per_s == pytest.approx(6)
    assert last.parts[1].eta_s == pytest.approx(40 / 6)
    assert last.rows == 160


def test_time_runs_at_its_own_rate() -> None:
    soaking = RateMeter(Clock()).filled(Progress("soaking, reverse lag 5 bytes", 20, 60, "s"))
    assert soaking.eta_s == 40


def test_a_rate_that_was_measured_stays_and_another_text_is_another_thing() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    meter.filled(told(10))
    clock.now += 1
    assert meter.filled(told(20, per_s=7.0)).per_s == 7.0
    assert meter.filled(told(20)).per_s == pytest.approx(10)
    assert meter.filled(told(0, text="indexes")).per_s is None
    clock.now += 1
    assert meter.filled(told(50, text="indexes")).per_s == pytest.approx(50)
    assert meter.filled(told(30)).per_s == pytest.approx(10)


def test_what_goes_backwards_has_no_rate() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    meter.filled(told(50))
    clock.now += 1
    again = meter.filled(told(10))
    assert (again.per_s, again.eta_s, again.parts[0].per_s) == (None, None, None)


def test_a_few_parts_are_stored_whole_and_of_a_thousand_those_under_way() -> None:
    few = told(100, 50, 0).to_json()
    assert [part["name"] for part in few["parts"]["listed"]] == ["b0", "b1", "b2"]
    assert [few["parts"][name] for name in ("total", "finished", "under_way", "waiting")] == [3, 1, 1, 1]
    many = told(*([100.0] * 700), *([50.0] * 4), *([0.0] * 296)).to_json()
    assert [part["name"] for part in many["parts"]["listed"]] == ["b700", "b701", "b702", "b703"]
    assert [many["parts"][name] for name in ("total", "finished", "under_way", "waiting")] == [
        1000,
        700,
        4,
        296,
    ]
    all_at_once = told(*([50.0] * 1000)).to_json()
    assert len(all_at_once["parts"]["listed"]) == LISTED
    assert len(json.dumps(all_at_once)) < 20_000
    assert (all_at_once["rows"], all_at_once["done"], all_at_once["unit"]) == (50_000, 50_000, "bytes")


def test_a_line_leaves_out_what_is_not_known() -> None:
    soaking = RateMeter(Clock()).filled(Progress("soaking, reverse lag 15.7 kB", 20, 60, "s"))
    assert (
        progress_table.in_words(soaking.to_json()) == "soaking, reverse lag 15.7 kB, 20 s of 1 min, 40 s left"
    )
    begun = Progress("rows", 0, 30_800_000, "bytes")
    assert progress_table.in_words(begun.to_json()) == "rows, 0 bytes of 30.8 MB"
