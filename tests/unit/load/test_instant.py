from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.clock import FleetClock
from foreshard.load.instant import MAX_GAP, CollectorClock, Instant, interval_s, tolerance_s

T0 = datetime(2013, 11, 27, 18, tzinfo=UTC)
BEFORE = Instant(T0, "boot", 1000.0)


def after(wall: float, boot_s: float = 60.0, boot: str = "boot") -> Instant:
    return Instant(T0 + timedelta(seconds=wall), boot, 1000.0 + boot_s)


@pytest.mark.parametrize("wall", [-3600.0, 0.0, 60.0, 3600.0])
def test_steps_of_the_fleet_clock_change_nothing_within_a_boot(wall: float) -> None:
    assert interval_s(BEFORE, after(wall)) == 60
    assert interval_s(BEFORE, after(wall), server_s=60.0) == 60


def test_two_clocks_that_disagree_give_nothing() -> None:
    assert interval_s(BEFORE, after(60), server_s=90.0) is None  # the shard's stepped, or we were paused
    assert interval_s(BEFORE, after(60), server_s=-60.0) is None
    assert interval_s(BEFORE, after(60, boot="other"), server_s=90.0) is None


def test_of_two_that_agree_the_longer_counts() -> None:
    assert interval_s(BEFORE, after(60), server_s=61.0) == 61
    assert interval_s(BEFORE, after(60), server_s=59.0) == 60


def test_another_boot_needs_the_servers_clock() -> None:
    assert interval_s(BEFORE, after(60, 5.0, "other"), server_s=60.0) == 60
    assert interval_s(BEFORE, after(60, 5.0, "other")) is None


def test_time_that_is_told_already_is_not_told_again() -> None:
    told = T0 + timedelta(seconds=3)
    assert interval_s(BEFORE, after(60), covered_until=T0) == 60
    assert interval_s(BEFORE, after(60), covered_until=told) is None
    assert interval_s(BEFORE, after(60 + 3), covered_until=told) == 60


@given(st.floats(-2000, 2000), st.floats(-2000, 2000), st.booleans(), st.floats(-2000, 2000))
def test_an_interval_is_one_that_two_clocks_say(
    wall: float, boot_s: float, same: bool, server_s: float
) -> None:
    found = interval_s(BEFORE, after(wall, boot_s, "boot" if same else "other"), server_s=server_s)
    ours = boot_s if same else wall
    if found is not None:
        assert 0 < found <= MAX_GAP.total_seconds()
        assert found == pytest.approx(max(ours, server_s), abs=1e-5)
        assert abs(ours - server_s) <= tolerance_s(found) + 1e-5


def test_this_machine_knows_its_boot() -> None:
    clock = CollectorClock(FleetClock(timedelta(days=-1)))
    early, late = clock.now(), clock.now()
    assert early.boot == late.boot != ""
    assert early.boot_s <= late.boot_s
    assert early.wall < datetime.now(UTC) - timedelta(hours=23)
