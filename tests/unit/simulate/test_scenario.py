"""Made-up fleets."""

from __future__ import annotations

import numpy as np
import pytest

from foreshard.errors import InvalidInput
from foreshard.simulate.scenario import SATURATED, SLACK, Shape, fleet
from tests.unit.simulate.conftest import daily, trace_of


@pytest.mark.parametrize("shape", [Shape(3), Shape(4, skew=2.0), Shape(4, empty=1)])
def test_shards_saturate_though_the_fleet_has_room(shape: Shape) -> None:
    trace = trace_of(daily(40))
    for seed in (1, 2):
        made = fleet("made", trace, shape, 24, trace.steps, seed)
        load = made.load(trace, made.placement, 24, trace.steps)[:, 0]
        capacity = made.capacity[0, 0]
        assert SATURATED[0] <= (load > capacity).mean() <= SATURATED[2]
        assert np.quantile(load.sum(axis=0), 0.999) <= SLACK * capacity * shape.shards * 1.001
        assert len(np.unique(made.placement)) == shape.shards - shape.empty


def test_the_same_seed_makes_the_same_fleet() -> None:
    trace = trace_of(daily(40))
    first, again, other = (fleet("made", trace, Shape(3), 24, trace.steps, seed) for seed in (1, 1, 2))
    assert first.placement.tolist() == again.placement.tolist() != other.placement.tolist()


def test_no_fleet() -> None:
    with pytest.raises(InvalidInput, match="no fleet"):
        Shape(2, empty=2)
