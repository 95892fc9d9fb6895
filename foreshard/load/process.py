"""CPU, memory and I/O of a PostgreSQL server on this machine, from the operating system."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from foreshard.errors import NotFound, ShardUnavailable
from foreshard.load.instant import Instant, interval_s
from foreshard.load.sample import Sample

ATTEMPTS = 10

LOOPBACK = ("127.0.0.1", "::1", "localhost")

_SESSION = """
SELECT pid, extract(epoch FROM clock_timestamp() - backend_start)::float8
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
SAME_AGE_S = 2.0
"""Clocks of a server and of its operating system count the same session's age so closely."""


@dataclass(frozen=True)
class ProcessReading:
    """What a server has used since its start, and the memory it holds.

    ``started_s``: the postmaster's start in seconds since the boot, which with its ``pid`` tells one server from the
    next. ``io_bytes``: read from and written to storage, None where the system does not tell.
    """

    at: Instant
    pid: int
    started_s: float
    cpu_s: float
    memory_bytes: int
    io_bytes: int | None


def read_process(pid: int, shard: str, at: Instant) -> ProcessReading:
    """Read the server whose postmaster is ``pid``. Raises ``NotFound`` if there is no such process."""
    try:
        postmaster = psutil.Process(pid)
        for _ in range(ATTEMPTS):
            reading = _read_once(postmaster, at)
            if reading is not None:
                break
        else:
            raise ShardUnavailable(f"The processes of {shard} come and go too fast to be read.", shard=shard)
    except psutil.NoSuchProcess:
        raise NotFound(f"There is no server with process id {pid}.", shard=shard) from None
    return reading


def process_samples(
    shard: str,
    ts: datetime,
    before: ProcessReading | None,
    after: ProcessReading,
    covered_until: datetime | None = None,
) -> list[Sample]:
    """Memory always; CPU and I/O since ``before`` if it is a reading of the same run of the server.

    A total that went back gives no sample.
    """
    samples = [Sample(ts, shard, None, "memory_bytes", float(after.memory_bytes))]
    if before is None or (before.pid, before.started_s) != (after.pid, after.started_s):
        return samples
    seconds = interval_s(before.at, after.at, covered_until=covered_until)
    if seconds is None:
        return samples
    if after.cpu_s >= before.cpu_s:
        samples.append(Sample(ts, shard, None, "cpu_cores", (after.cpu_s - before.cpu_s) / seconds))
    if before.io_bytes is not None and after.io_bytes is not None and after.io_bytes >= before.io_bytes:
        rate = (after.io_bytes - before.io_bytes) / seconds
        samples.append(Sample(ts, shard, None, "io_bytes_per_s", rate))
    return samples


def leads_here(dsn: str) -> bool:
    """Whether ``dsn`` names this machine. What answers there may still be a proxy or a tunnel: see `postmaster_of`."""
    host = str(conninfo_to_dict(dsn).get("host") or "")
    return host in LOOPBACK or host.startswith("/")


def postmaster_of(conn: psycopg.Connection[tuple[object, ...]]) -> int | None:
    """The postmaster that serves ``conn``, if it runs on this machine and is seen from here.

    Whoever listens at the address may be a tunnel or a pooler. So it is the parent of the session's own process, and
    that is known by its number and age together: another machine's, or another container's, has others.
    """
    row = conn.execute(_SESSION).fetchone()
    assert row is not None
    pid, age_s = row
    assert isinstance(pid, int)
    assert isinstance(age_s, float)
    try:
        backend = psutil.Process(pid)
        known = abs(time.time() - backend.create_time() - age_s) < SAME_AGE_S
        parent = backend.parent()
    except psutil.Error:
        return None
    return int(parent.pid) if known and parent is not None else None


def _started_s(process: psutil.Process) -> float:
    # A start by the wall clock would move when that is put right; this is what the system itself keeps.
    return round(float(process.create_time() - psutil.boot_time()), 2)


def _read_once(postmaster: psutil.Process, at: Instant) -> ProcessReading | None:
    """A reading, or None if a child ended meanwhile.

    When a child ends, the system adds its CPU and I/O to the postmaster's; seen at the wrong moment it would be
    counted twice or not at all.
    """
    before = postmaster.cpu_times()
    cpu_s = before.user + before.system + before.children_user + before.children_system
    memory, io_bytes = postmaster.memory_info(), _io(postmaster)
    private, shared = memory.rss - memory.shared, memory.shared
    for child in postmaster.children(recursive=True):
        try:
            cpu, memory, child_io = child.cpu_times(), child.memory_info(), _io(child)
        except psutil.NoSuchProcess:
            return None
        cpu_s += cpu.user + cpu.system
        # Every process maps the same shared memory: it is counted once, where most of it is seen.
        private += memory.rss - memory.shared
        shared = max(shared, memory.shared)
        io_bytes = None if io_bytes is None or child_io is None else io_bytes + child_io
    after = postmaster.cpu_times()
    if (before.children_user, before.children_system) != (after.children_user, after.children_system):
        return None
    return ProcessReading(at, postmaster.pid, _started_s(postmaster), cpu_s, private + shared, io_bytes)


def _io(process: psutil.Process) -> int | None:
    try:
        counters = process.io_counters()
    except (psutil.AccessDenied, AttributeError):  # another user's process in a container; macOS
        return None
    return int(counters.read_bytes + counters.write_bytes)
