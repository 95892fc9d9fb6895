from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_planner import exponent, main
from benchmarks.planner_fleets import AT_RISK, METRICS, STEPS, made_up
from benchmarks.planner_run import Decided, decider, one_more
from benchmarks.planner_yardstick import compared
from foreshard.planning.fleet import Fleet
from foreshard.planning.policy import DecisionPolicy


def decided(seconds: float) -> Decided:
    return Decided(seconds, seconds, 100, 90, 1, 1, 1)


def test_a_made_up_fleet_is_the_same_for_the_same_seed_and_no_other() -> None:
    one, same, other = made_up(5, 50, 1), made_up(5, 50, 1), made_up(5, 50, 2)
    assert (one.buckets.load == same.buckets.load).all()
    assert (one.shards.capacity == same.shards.capacity).all()
    assert not (one.buckets.load == other.buckets.load).all()


def test_a_made_up_fleet_has_a_tenth_of_its_shards_at_risk() -> None:
    view = made_up(40, 400, 3)
    assert view.buckets.load.shape == (400, len(METRICS), STEPS)
    assert (np.bincount(view.buckets.shard) == 10).all()
    fleet = Fleet.of(view, DecisionPolicy())
    risky = [row for row in range(40) if fleet.risk(row).score > DecisionPolicy().migration_threshold]
    assert len(risky) == AT_RISK * 40


@pytest.mark.parametrize("with_room", [True, False])
def test_the_search_is_held_against_an_integer_program(with_room: bool) -> None:
    found = compared(10, 200, 1, with_room)
    assert found is not None
    assert found.fewest is not None
    assert found.ratio is not None
    assert 1 - 1e-3 <= found.ratio < 1.5  # the program stops within a thousandth


def test_a_process_decides_as_often_as_it_is_asked() -> None:
    with decider(2, 20, seed=1) as process:
        one, other = one_more(process), one_more(process)
    assert (one.risky, one.plans, one.bytes) == (other.risky, other.plans, other.bytes)
    assert one.fleet_mb <= one.memory_mb <= other.memory_mb


def test_a_process_that_ended_is_told_of() -> None:
    with decider(2, 20, seed=1) as process:
        process.kill()
        process.wait()
        with pytest.raises(RuntimeError, match="has ended"):
            one_more(process)


def test_exponent_of_linear_time_is_one() -> None:
    assert exponent({(1, 10): [decided(0.1)], (10, 1000): [decided(10.0)]}) == pytest.approx(1)
    assert exponent({(1, 10): [decided(0.1)], (10, 1000): [decided(0.1)]}) == pytest.approx(0)


@pytest.mark.parametrize(
    "arguments",
    [["--sizes", "10"], ["--sizes", "ten x 1"], ["--sizes", "10x5"], ["--sizes", "1x5"], ["--rounds", "0"]],
)
def test_unusable_options_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)


@pytest.mark.slow
def test_figures_of_every_size_are_written(tmp_path: Path) -> None:
    file = tmp_path / "planner.json"
    assert main(["--sizes", "4x40,8x80", "--rounds", "1", "--seeds", "2", "--json", str(file)]) == 0
    figures = json.loads(file.read_text(encoding="utf-8"))["figures"]
    for size in ("4x40", "8x80"):
        assert figures[f"{size}.seconds"] > 0
        assert figures[f"{size}.memory_mb"] > 10
        assert figures[f"{size}.compared"] == "2 of 2"
        assert figures[f"{size}.bytes_over_milp"] >= 1 - 1e-3
    assert "exponent" in figures
