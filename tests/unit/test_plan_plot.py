"""Plans drawn: both ends, and a decision's plans along time."""

from __future__ import annotations

from datetime import datetime, timedelta
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from foreshard.forecast.band import Band
from foreshard.plan_plot import MOST_PLANS, EndPicture, PlanPicture, plan_png, timeline_png
from foreshard.planning.plan import MigrationPlan, Purpose
from tests.made_plans import EXCESS, NOW, RATE, drained, made_decision, made_plan

HOUR = timedelta(hours=1)
SPREAD = np.array([0.7, 0.78, 0.9, 1.0, 1.1, 1.2, 1.3])


def end(shard: str, peak: float, then: float, steps: int = 24, hours: int = 72) -> EndPicture:
    """A day's rise and fall; ``peak`` and ``then`` of the 0.9 quantile, before and after, in units of capacity."""
    begin = pd.Timestamp(NOW).floor("h")
    capacity = 200.0
    rng = np.random.default_rng(5)
    hour = (np.arange(-hours, steps) + begin.hour) % 24
    shape = capacity * peak / 1.2 * (0.65 + 0.35 * np.sin((hour - 13) * np.pi / 12))
    history = pd.Series(
        shape[:hours] * rng.lognormal(-0.1, 0.05, hours),
        index=pd.date_range(begin - hours * HOUR, periods=hours, freq="h"),
    )
    band = Band(pd.date_range(begin, periods=steps, freq="h"), shape[hours:, None] * SPREAD)
    return EndPicture(shard, history, band, shape[hours:] * 1.2 * then / peak, capacity, 0.85)


def picture(plan: MigrationPlan, **more: int) -> PlanPicture:
    return PlanPicture(
        plan,
        RATE,
        end(plan.source, 1.21, 0.84, **more),
        end(plan.target, 0.4, 0.77, **more),
        HOUR,
        0.9,
        "Europe/Berlin",
    )


@pytest.mark.parametrize(
    "drawn",
    [
        picture(made_plan()),
        picture(made_plan(start=EXCESS)),
        picture(made_plan(**drained(made_plan())), hours=0),
        picture(made_plan(start=NOW + 48 * HOUR), steps=1),
    ],
    ids=["relief", "late", "drain", "after the forecast"],
)
def test_both_ends_are_small_pictures(drawn: PlanPicture) -> None:
    png = plan_png(drawn)
    assert Image.open(BytesIO(png)).size == (720, 520)
    assert len(png) < 45_000


def many(count: int) -> list[MigrationPlan]:
    """A source of several plans, each after the one before, then others."""
    purposes = list(Purpose)
    plans = []
    for number in range(count):
        start = NOW + number * timedelta(minutes=20)
        plan = made_plan(
            target=f"shard-{number + 4}", start=start, after=(number - 1,) if 0 < number < 4 else ()
        )
        more = {} if number < 4 else drained(plan) | {"purpose": purposes[number % 4]}
        plans.append(made_plan(target=plan.target, start=start, after=plan.after, **more))
    return plans


@pytest.mark.parametrize("count", [1, 7, MOST_PLANS + 5])
def test_a_timeline_has_a_row_a_plan(count: int) -> None:
    plans = many(count)
    names = [f"plan {number}" for number in range(count)]
    closed: list[tuple[datetime, datetime]] = [
        (NOW - 3 * HOUR, NOW + HOUR),
        (NOW + 2 * HOUR, NOW + 90 * HOUR),
    ]
    png = timeline_png(made_decision(*plans), names, closed, "Europe/Berlin")
    width, height = Image.open(BytesIO(png)).size
    assert width == 960
    assert height == pytest.approx(130 + 28 * min(count, MOST_PLANS), abs=1)
    assert len(png) < 45_000
