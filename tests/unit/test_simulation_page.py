"""The page of a simulation."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np

from foreshard.simulate.comparison import summary
from foreshard.simulate.outcome import Moved, Outcome
from foreshard.simulation_page import simulation_page

AT = datetime(2024, 1, 1, tzinfo=UTC)


def outcome(contender: str, threshold: float | None, saturated: int) -> Outcome:
    used = np.full((2, 48), 0.5)
    used[0, :saturated] = 1.2
    hour = timedelta(hours=1)
    moves = () if contender == "none" else (Moved("s1", "s2", ("b1",), 10**9, AT + hour, AT + 2 * hour, 0),)
    shards = ("s1", "s2")
    return Outcome("fleet", contender, threshold, shards, AT, hour, used, np.ones(48), moves, 0.05, 1, 0)


def test_a_page_stands_by_itself_and_tells_all_policies() -> None:
    outcomes = [
        outcome("none", None, 12),
        outcome("reactive 0.8", 0.8, 8),
        outcome("predictive", None, 2),
        outcome("oracle", None, 0),
    ]
    page = simulation_page("Worth <it>", summary(outcomes), outcomes, ["a note & more"])
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "Worth &lt;it&gt;" in page
    assert "a note &amp; more" in page
    assert "reactive (above 80%)" in page
    assert "<td>75%</td>" in page  # 8 hours to 2, of 8 to 0
    assert "<td>720</td>" in page
