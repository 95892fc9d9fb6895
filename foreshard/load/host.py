"""CPU, memory, disks and network of this machine, for a shard that has it for itself.

Counted are physical disks and network cards: a volume, a RAID or a bridge on top of them would count everything twice.
The kernel counts for the whole machine, whatever share of it a container or control group may use: what is stored is
the machine's load, to be held against the machine's capacity. In a container that sees no card of its own there is no
network metric. Steal (what other virtual machines took) is not this machine's load.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from foreshard.load.instant import Instant, interval_s
from foreshard.load.sample import Sample

_DISKS = Path("/sys/block")
_CARDS = Path("/sys/class/net")
_IDLE = ("idle", "iowait", "steal", "guest", "guest_nice")  # guests are in user and nice already


@dataclass(frozen=True)
class HostReading:
    """Totals since the boot, and the memory in use. None: the system does not tell."""

    at: Instant
    cpu_s: float
    memory_bytes: int
    io_ops: int | None
    io_bytes: int | None
    net_bytes: int | None


def read_host(at: Instant) -> HostReading:
    """Read this machine."""
    times = psutil.cpu_times()
    memory = psutil.virtual_memory()
    disks = [
        disk
        for name, disk in (psutil.disk_io_counters(perdisk=True) or {}).items()
        if _physical(_DISKS, name)
    ]
    cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if _physical(_CARDS, name)]
    return HostReading(
        at,
        sum(float(getattr(times, field)) for field in times._fields if field not in _IDLE),
        int(memory.total - memory.available),
        sum(disk.read_count + disk.write_count for disk in disks) if disks else None,
        sum(disk.read_bytes + disk.write_bytes for disk in disks) if disks else None,
        sum(card.bytes_sent + card.bytes_recv for card in cards) if cards else None,
    )


def host_samples(
    shard: str,
    ts: datetime,
    before: HostReading | None,
    after: HostReading,
    covered_until: datetime | None = None,
) -> list[Sample]:
    """Memory always; the others since ``before`` if it was read since the same boot. What went back gives no sample."""
    samples = [Sample(ts, shard, None, "memory_bytes", float(after.memory_bytes))]
    if before is None or before.at.boot != after.at.boot:
        return samples
    seconds = interval_s(before.at, after.at, covered_until=covered_until)
    if seconds is None:
        return samples
    for metric, early, late in (
        ("cpu_cores", before.cpu_s, after.cpu_s),
        ("io_ops_per_s", before.io_ops, after.io_ops),
        ("io_bytes_per_s", before.io_bytes, after.io_bytes),
        ("net_bytes_per_s", before.net_bytes, after.net_bytes),
    ):
        if early is not None and late is not None and late >= early:
            samples.append(Sample(ts, shard, None, metric, (late - early) / seconds))
    return samples


def _physical(devices: Path, name: str) -> bool:
    return (devices / name / "device").exists()
