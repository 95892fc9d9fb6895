from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from foreshard.errors import NotFound
from foreshard.load.process import ProcessReading, process_samples, read_process

T0 = datetime(2013, 11, 27, 18, tzinfo=UTC)
BEFORE = ProcessReading(T0, "shard-1", 1000.0, 50.0, 10**8, 10**9)
AFTER = ProcessReading(T0 + timedelta(seconds=10), "shard-1", 1000.0, 55.0, 2 * 10**8, 10**9 + 4096)


def values(before: ProcessReading | None, after: ProcessReading) -> dict[str, float]:
    return {sample.metric: sample.value for sample in process_samples(before, after)}


def test_cpu_and_io_are_differences_and_memory_is_what_is_held() -> None:
    assert values(BEFORE, AFTER) == {"cpu_cores": 0.5, "memory_bytes": 2e8, "io_bytes_per_s": 409.6}


@pytest.mark.parametrize(
    "before",
    [
        None,
        replace(BEFORE, started_at=999.0),
        replace(BEFORE, ts=AFTER.ts),
        replace(BEFORE, ts=AFTER.ts + timedelta(seconds=1)),
        replace(BEFORE, ts=AFTER.ts - timedelta(hours=1)),
    ],
)
def test_without_a_fitting_reading_before_there_is_memory_only(before: ProcessReading | None) -> None:
    assert set(values(before, AFTER)) == {"memory_bytes"}


def test_totals_that_went_back_give_no_sample() -> None:
    assert set(values(replace(BEFORE, cpu_s=56.0), AFTER)) == {"memory_bytes", "io_bytes_per_s"}
    assert set(values(replace(BEFORE, io_bytes=10**10), AFTER)) == {"memory_bytes", "cpu_cores"}


def test_io_that_the_system_does_not_tell_is_left_out() -> None:
    assert set(values(BEFORE, replace(AFTER, io_bytes=None))) == {"memory_bytes", "cpu_cores"}


def test_this_process_can_be_read() -> None:
    before = read_process(os.getpid(), "self", T0)
    started = time.process_time()
    while time.process_time() - started < 0.2:  # the system counts in hundredths
        pass
    after = read_process(os.getpid(), "self", T0 + timedelta(seconds=1))
    assert 0.15 < values(before, after)["cpu_cores"] < 2
    assert after.memory_bytes > 10**6


def test_no_process_is_named() -> None:
    with pytest.raises(NotFound, match="no server with process id"):
        read_process(2**22 + 1, "shard-1", T0)
