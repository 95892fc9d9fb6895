"""CPU, memory and I/O of a PostgreSQL server on this machine, from the operating system."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psutil
from psycopg.conninfo import conninfo_to_dict

from foreshard.errors import NotFound, ShardUnavailable
from foreshard.load.rates import MAX_GAP, interval_s
from foreshard.load.sample import Sample

ATTEMPTS = 10

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ProcessReading:
    """What a server has used since its start, and the memory it holds at ``ts`` (fleet time).

    ``started_at``: the postmaster's start, seconds since the epoch, to tell one server from the next.
    ``io_bytes``: read from and written to storage, None where the system does not tell.
    """

    ts: datetime
    shard: str
    started_at: float
    cpu_s: float
    memory_bytes: int
    io_bytes: int | None


def read_process(pid: int, shard: str, ts: datetime) -> ProcessReading:
    """Read the server whose postmaster is ``pid``. Raises ``NotFound`` if there is no such process."""
    try:
        postmaster = psutil.Process(pid)
        for _ in range(ATTEMPTS):
            reading = _read_once(postmaster, shard, ts)
            if reading is not None:
                break
        else:
            raise ShardUnavailable(f"The processes of {shard} come and go too fast to be read.", shard=shard)
    except psutil.NoSuchProcess:
        raise NotFound(f"There is no server with process id {pid}.", shard=shard) from None
    return reading


def process_samples(
    before: ProcessReading | None, after: ProcessReading, max_gap: timedelta = MAX_GAP
) -> list[Sample]:
    """Memory always; CPU and I/O since ``before`` if it is a reading of the same run of the server.

    A total that went back gives no sample.
    """
    samples = [Sample(after.ts, after.shard, None, "memory_bytes", float(after.memory_bytes))]
    if before is None or (before.shard, before.started_at) != (after.shard, after.started_at):
        return samples
    seconds = interval_s(before.ts, after.ts, max_gap)
    if seconds is None:
        return samples
    if after.cpu_s >= before.cpu_s:
        cores = (after.cpu_s - before.cpu_s) / seconds
        samples.append(Sample(after.ts, after.shard, None, "cpu_cores", cores))
    if before.io_bytes is not None and after.io_bytes is not None and after.io_bytes >= before.io_bytes:
        rate = (after.io_bytes - before.io_bytes) / seconds
        samples.append(Sample(after.ts, after.shard, None, "io_bytes_per_s", rate))
    return samples


def server_pid(dsn: str) -> int | None:
    """The postmaster that ``dsn`` leads to, if it runs on this machine and may be known."""
    parts = conninfo_to_dict(dsn)
    return listening_pid(int(str(parts.get("port") or 5432))) if parts.get("host") in LOOPBACK else None


def listening_pid(port: int) -> int | None:
    """The process that listens at ``port`` of this machine; None if there is none or it may not be known."""
    try:
        sockets = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for socket in sockets:
        if socket.status == psutil.CONN_LISTEN and socket.laddr.port == port and socket.pid is not None:
            return int(socket.pid)
    return None


def _read_once(postmaster: psutil.Process, shard: str, ts: datetime) -> ProcessReading | None:
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
    return ProcessReading(ts, shard, postmaster.create_time(), cpu_s, private + shared, io_bytes)


def _io(process: psutil.Process) -> int | None:
    try:
        counters = process.io_counters()
    except (psutil.AccessDenied, AttributeError):  # another user's process in a container; macOS
        return None
    return int(counters.read_bytes + counters.write_bytes)
