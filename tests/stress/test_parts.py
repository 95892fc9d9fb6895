"""What can be known of the stress run without servers: its parts, its controls, its figures."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from tests.stress import broken_fence, bucket, report
from tests.stress.controls import CONTROLS, Control, Controls, Trial
from tests.stress.flipper import percentiles
from tests.stress.part import Context, PartResult
from tests.stress.parts import PARTS

TRIAL = Trial(True, 3, 1.0, 9, 1, 0, 0, 0, 0, sides_equal=False)
CONTEXT = Context(cast(Any, None), Path("unused"), 1, 1, lambda _: None)


@dataclass(frozen=True)
class Staged:
    """A control whose trial is known beforehand."""

    trial: Trial
    harmless: bool = False
    name: str = "staged"
    takes_away: str = "nothing real"

    def run(self, context: Context) -> Trial:
        del context
        return self.trial


@pytest.mark.parametrize(
    ("file", "safeguard"),
    [
        ("shard.sql", broken_fence.LOCK),
        ("shard.sql", broken_fence.READ_BOUND),
        ("flip.sql", broken_fence.SET_BOUND),
    ],
)
def test_the_safeguards_that_controls_take_away_are_where_they_look(file: str, safeguard: str) -> None:
    text = (files("foreshard.postgres") / "sql" / file).read_text(encoding="utf-8")
    assert re.search(safeguard, text), "the control has to follow the product"


def test_names_are_told_apart() -> None:
    for named in (PARTS, CONTROLS):
        names = [each.name for each in named]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


@pytest.mark.parametrize("caught", [True, False])
@pytest.mark.parametrize("harmless", [True, False])
def test_a_control_must_be_caught_and_what_breaks_nothing_must_not(caught: bool, harmless: bool) -> None:
    control: Control = Staged(replace(TRIAL, caught=caught), harmless)
    result = Controls((control,)).run(CONTEXT)
    assert result.passed == (caught != harmless)
    assert result.passed == (not result.lines)


def test_some_control_breaks_nothing_under_what_helps_another_to_be_caught() -> None:
    flips = {control.name: control.flip for control in CONTROLS}
    assert [control.name for control in CONTROLS if control.harmless] == ["slow_line"]
    assert flips["slow_line"] is flips["bound_in_table"]


def test_the_last_lines_of_a_report_say_what_failed() -> None:
    """Of a log only the end may be kept, and the tables of the parts that passed are long."""
    results = {
        "first": PartResult(False, {"flips": 1}, ["no_lock was not caught"]),
        "second": PartResult(True, {"kills": 2}, ["a note"], {"rows": [{"party": "control"}]}),
    }
    used = {"postgresql": "18", "python": "3"}
    document = report.document(results, used, 1, 1, 2.0)
    assert document["parts"]["second"]["rows"] == [{"party": "control"}]
    console = Console(file=io.StringIO(), width=100)
    report.show(console, results, document)
    text = cast(io.StringIO, console.file).getvalue()
    assert text.endswith("first FAILED\n  no_lock was not caught\n")
    assert "party" not in text


def test_hot_keys_are_spread_over_slots_and_buckets() -> None:
    keys = bucket.hot_keys()
    assert [bucket.slot_of(key) // 128 for key in keys] == list(range(8))
    assert sorted(map(bucket.bucket_of, keys)) == ["s0000"] * 4 + ["s0001"] * 4


def test_keys_of_different_use_never_meet() -> None:
    of_tokens = [key for name in bucket.BUCKETS for key in bucket.token_keys(name)]
    groups = [bucket.hot_keys(), bucket.many_keys(), bucket.fresh_keys(), bucket.family_keys(), of_tokens]
    together = [key for group in groups for key in group]
    assert len(set(together)) == len(together)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        ([4.0], {"max": 4.0}),
        ([float(n) for n in range(101)], {"p50": 50.0, "p99": 99.0, "max": 100.0}),
    ],
)
def test_percentiles(values: list[float], expected: dict[str, float]) -> None:
    assert percentiles(values) == expected
