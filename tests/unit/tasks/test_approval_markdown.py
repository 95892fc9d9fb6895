"""The words above an approval form that no run of the flow shows in every case."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tasks.approval_markdown import Deadlines, plan_deadline
from tests.made_plans import NOW, made_plan

TIMELINE = replace(
    made_plan().timeline, start_by=NOW + timedelta(hours=2), excess_at=NOW + timedelta(hours=3)
)


@pytest.mark.parametrize(
    ("passed_h", "excess", "wanted"),
    [
        (
            0,
            True,
            "- shard-1 may exceed its capacity from **Wed 27 Nov 13:10 EST**: the plan's latest start is Wed 27 Nov "
            "12:10 EST; by the fleet's clock it is Wed 27 Nov 10:10 EST now.",
        ),
        (2.5, True, "Wed 27 Nov 12:40 EST now. **That has passed.**"),
        (0, False, "- the plan's latest start is Wed 27 Nov 12:10 EST; by"),
    ],
)
def test_the_deadline_is_told_by_the_fleets_clock(passed_h: float, excess: bool, wanted: str) -> None:
    timeline = TIMELINE if excess else replace(TIMELINE, excess_at=None)
    now = NOW + timedelta(hours=passed_h)
    (line,) = plan_deadline(Deadlines(60.0, "abort", timeline, now, "America/New_York"), "shard-1")
    assert wanted in line
    assert ("passed" in line) == bool(passed_h)


def test_a_migration_without_a_plan_has_no_deadline() -> None:
    assert plan_deadline(Deadlines(60.0, "abort", None, NOW, "UTC"), "shard-1") == []
