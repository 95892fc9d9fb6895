from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from foreshard.clock import FleetClock
from foreshard.errors import NotFound
from foreshard.load.host import HostReading, host_samples, read_host
from foreshard.load.instant import CollectorClock, Instant
from foreshard.load.process import ProcessReading, leads_here, process_samples, read_process

T0 = datetime(2013, 11, 27, 18, tzinfo=UTC)
CLOCK = CollectorClock(FleetClock())


def at(seconds: float, boot: str = "boot") -> Instant:
    return Instant(T0 + timedelta(seconds=seconds), boot, 5000.0 + seconds)


BEFORE = ProcessReading(at(0), 77, 1000.0, 50.0, 10**8, 10**9)
AFTER = ProcessReading(at(10), 77, 1000.0, 55.0, 2 * 10**8, 10**9 + 4096)
HOST_BEFORE = HostReading(at(0), 500.0, 10**9, 100, 10**6, 10**7)
HOST_AFTER = HostReading(at(10), 515.0, 2 * 10**9, 120, 10**6 + 8192, 10**7 + 5000)


def values(before: ProcessReading | None, after: ProcessReading) -> dict[str, float]:
    return {sample.metric: sample.value for sample in process_samples("shard-1", T0, before, after)}


def host_values(before: HostReading | None, after: HostReading) -> dict[str, float]:
    return {sample.metric: sample.value for sample in host_samples("shard-1", T0, before, after)}


def test_cpu_and_io_are_differences_and_memory_is_what_is_held() -> None:
    assert values(BEFORE, AFTER) == {"cpu_cores": 0.5, "memory_bytes": 2e8, "io_bytes_per_s": 409.6}


@pytest.mark.parametrize(
    "before",
    [
        None,
        replace(BEFORE, started_s=999.0),
        replace(BEFORE, pid=78),
        replace(BEFORE, at=AFTER.at),
        replace(BEFORE, at=at(11)),
        replace(BEFORE, at=at(0, "other")),
        replace(BEFORE, at=at(-3600)),
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
    before = read_process(os.getpid(), "self", CLOCK.now())
    started = time.process_time()
    while time.process_time() - started < 0.2:  # the system counts in hundredths
        pass
    after = read_process(os.getpid(), "self", CLOCK.now())
    assert 0.15 < after.cpu_s - before.cpu_s < 2
    assert 0.1 < values(before, after)["cpu_cores"] < 4
    assert after.memory_bytes > 10**6


def test_no_process_is_named() -> None:
    with pytest.raises(NotFound, match="no server with process id"):
        read_process(2**22 + 1, "shard-1", CLOCK.now())


@pytest.mark.parametrize(
    ("dsn", "here"),
    [
        ("host=127.0.0.1 port=5433", True),
        ("postgresql://foreshard@localhost/app", True),
        ("host=/var/run/postgresql", True),
        ("host=db1.example.com", False),
        ("service=shards", False),
    ],
)
def test_whether_a_dsn_leads_here(dsn: str, here: bool) -> None:
    assert leads_here(dsn) is here


def test_the_hosts_rates_are_differences() -> None:
    assert host_values(HOST_BEFORE, HOST_AFTER) == {
        "memory_bytes": 2e9,
        "cpu_cores": 1.5,
        "io_ops_per_s": 2.0,
        "io_bytes_per_s": 819.2,
        "net_bytes_per_s": 500.0,
    }


def test_a_host_that_booted_or_does_not_tell_gives_no_rate() -> None:
    assert set(host_values(replace(HOST_BEFORE, at=at(0, "other")), HOST_AFTER)) == {"memory_bytes"}
    assert set(host_values(HOST_BEFORE, replace(HOST_AFTER, net_bytes=None, io_ops=5))) == {
        "memory_bytes",
        "cpu_cores",
        "io_bytes_per_s",
    }


def test_this_host_can_be_read() -> None:
    before = read_host(CLOCK.now())
    started = time.process_time()
    while time.process_time() - started < 0.2:
        pass
    found = host_values(before, read_host(CLOCK.now()))
    assert found["cpu_cores"] > 0.1
    assert found["memory_bytes"] > 10**7
