"""Room for the copy on the disks of both servers."""

from __future__ import annotations

from foreshard.control.topology_store import DISK_BYTES
from foreshard.migration import headroom
from foreshard.migration.preflight.findings import Finding
from foreshard.migration.work import Work
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side


def room(work: Work, side: Side, conn: Connection, copy_bytes: int) -> list[Finding]:
    """Whether a copy of ``copy_bytes`` fits on that side, and leaves free what is to stay free."""
    shard, minimum = work.shard(side).name, work.settings.free_disk_bytes
    disk = headroom.disk_of(work, side, conn)
    if disk.free_bytes is None:
        return [
            Finding(
                f"{shard}: disk",
                "cannot be seen from here, so nothing guards it",
                f"Declare the shard's capacity {DISK_BYTES}.",
                blocking=False,
            )
        ]
    if headroom.fits(copy_bytes, disk, minimum):
        return []
    return [
        Finding(
            f"{shard}: disk",
            f"has {disk.free_bytes / 1e6:.0f} MB free ({disk.how}); the copy needs about "
            f"{headroom.COPY_FACTOR * copy_bytes / 1e6:.0f} MB and {minimum / 1e6:.0f} MB are to stay free",
            "Free some, or lower migration.free_disk_bytes.",
        )
    ]
