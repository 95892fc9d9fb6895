"""Room on both servers: the WAL that a migration's slots make them keep, and free disk.

Whatever keeps a subscription from reading makes the publisher keep WAL, in the end until its disk is full or, where
max_slot_wal_keep_size is set, until the slot is lost. Before that happens: a warning, then no new load, then the
migration is given up while that is still clean.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from enum import IntEnum

from foreshard.control.stream_store import Reading
from foreshard.control.topology_store import DISK_BYTES
from foreshard.errors import OutOfHeadroom, StreamBroken
from foreshard.migration.lifecycle import ABORTABLE
from foreshard.migration.progress import Progress, Report
from foreshard.migration.removal import SYNC_SLOTS, slot_on
from foreshard.migration.work import Work
from foreshard.postgres import replication_slots, room
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side

logger = logging.getLogger(__name__)

WARN_ABOVE = 0.5
THROTTLE_ABOVE = 0.75
SAFE_SHARE = 0.1
"""Of max_slot_wal_keep_size: with less than this left a slot may be lost before the next look."""

DISK_WARN = 2.0
"""Times the wanted minimum of free disk."""

COPY_FACTOR = 1.3
"""A copy takes its bytes on the source, and the WAL and sorting of its making."""

EVERY_S = 2.0
PATIENCE_S = 3600.0


class Verdict(IntEnum):
    """What to do about it; the worst of several counts."""

    FINE = 0
    WARN = 1
    THROTTLE = 2
    STOP = 3
    LOST = 4


def judge(slot: room.Slot, budget_bytes: int) -> Verdict:
    """What one slot's WAL means. Never milder when more WAL is kept, or less is left before the server's limit."""
    if slot.wal_status == replication_slots.LOST:
        return Verdict.LOST
    if slot.wal_status == replication_slots.UNRESERVED:
        return Verdict.STOP
    if slot.safe_bytes is not None and slot.keep_bytes and slot.safe_bytes < SAFE_SHARE * slot.keep_bytes:
        return Verdict.STOP
    kept = (slot.retained_bytes or 0) / budget_bytes
    if kept > 1:
        return Verdict.STOP
    if kept > THROTTLE_ABOVE:
        return Verdict.THROTTLE
    return Verdict.WARN if kept > WARN_ABOVE else Verdict.FINE


def judge_disk(disk: room.Disk, minimum_bytes: int) -> Verdict:
    """What free disk means. There is no throttle: waiting frees no disk. Unknown is fine; preflight has warned."""
    if disk.free_bytes is None:
        return Verdict.FINE
    if disk.free_bytes < minimum_bytes:
        return Verdict.STOP
    return Verdict.WARN if disk.free_bytes < DISK_WARN * minimum_bytes else Verdict.FINE


def fits(copy_bytes: int, disk: room.Disk, minimum_bytes: int) -> bool:
    """Whether a copy of ``copy_bytes`` leaves the wanted minimum free. Unknown disk counts as enough."""
    return disk.free_bytes is None or disk.free_bytes - COPY_FACTOR * copy_bytes >= minimum_bytes


def disk_of(work: Work, side: Side, conn: Connection) -> room.Disk:
    """Free disk of that side's server."""
    return room.free_disk(conn, work.shard(side).capacity.get(DISK_BYTES))


class HeadroomWatch:
    """Looks at both servers while a stage waits for something, every two seconds at most."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._next = 0.0
        self._last = Verdict.FINE

    def look(self, report: Report) -> Verdict:
        """What there is to do; a warning is reported and logged.

        Raises:
            OutOfHeadroom: the migration must be given up now, or, after the cutover, a person must decide.
            StreamBroken: a slot is lost already: its stream is dead.
            ShardUnavailable: a shard does not answer.
        """
        now = time.monotonic()
        if now < self._next:
            return self._last
        with ExitStack() as stack:
            ends = {side: stack.enter_context(self._work.connection(side, 10)) for side in Side}
            slots = {side: self._read_slots(side, conn) for side, conn in ends.items()}
            self._work.reading = self._reading(slots)
            found = [
                (verdict, what)
                for side, conn in ends.items()
                for verdict, what in (*self._slots(side, slots[side]), self._disk(side, conn))
            ]
        self._next = now + EVERY_S
        self._last, what = max(found, key=lambda one: one[0])
        if self._last is Verdict.STOP:
            raise self._out(what)
        if self._last is not Verdict.FINE:
            logger.warning("migration %s: %s", self._work.lease.migration, what.text)
            report(what)
        return self._last

    def await_room(self, report: Report, alive: Callable[[], object]) -> None:
        """Wait until no throttling is called for; before new load is put on a stream that is behind.

        ``alive`` is called meanwhile: it raises when the stream is not slow but dead.

        Raises:
            OutOfHeadroom: as `look`, or nothing has become better in an hour.
        """
        deadline = time.monotonic() + PATIENCE_S
        while self.look(report) >= Verdict.THROTTLE:
            if time.monotonic() > deadline:
                raise OutOfHeadroom(
                    f"Migration {self._work.lease.migration} was throttled for an hour; its WAL does not shrink.",
                    remedy="The subscriber is too slow for the writes, or waits for a lock.",
                )
            alive()
            time.sleep(0.25)

    def _read_slots(self, side: Side, conn: Connection) -> list[room.Slot]:
        return room.slots(conn, [slot_on(self._work.names, side), *self._sync_slots(side)])

    def _reading(self, slots: Mapping[Side, Sequence[room.Slot]]) -> Reading:
        names = self._work.names
        streams = {
            side: next((s for s in slots[side] if s.name == slot_on(names, side)), None) for side in Side
        }
        forward, reverse = streams[Side.SOURCE], streams[Side.TARGET]
        kept = {
            side: [s.retained_bytes for s in slots[side] if s.retained_bytes is not None] for side in Side
        }
        return Reading(
            forward_lag_bytes=None if forward is None else forward.lag_bytes,
            forward_lag_s=None if forward is None else forward.lag_s,
            reverse_lag_bytes=None if reverse is None else reverse.lag_bytes,
            reverse_lag_s=None if reverse is None else reverse.lag_s,
            source_wal_bytes=max(kept[Side.SOURCE], default=None),
            target_wal_bytes=max(kept[Side.TARGET], default=None),
            wal_budget_bytes=self._work.settings.wal_budget_bytes,
        )

    def _slots(self, side: Side, slots: Sequence[room.Slot]) -> Iterator[tuple[Verdict, Progress]]:
        work, budget = self._work, self._work.settings.wal_budget_bytes
        shard = work.shard(side).name
        for slot in slots:
            verdict = judge(slot, budget)
            if verdict is Verdict.LOST:
                verdict = self._lost(side, slot)
            text = f"WAL kept on {shard} for slot {slot.name} ({slot.wal_status})"
            yield verdict, Progress(text, slot.retained_bytes or 0, budget, "bytes")

    def _disk(self, side: Side, conn: Connection) -> tuple[Verdict, Progress]:
        minimum = self._work.settings.free_disk_bytes
        disk = disk_of(self._work, side, conn)
        text = f"free disk of {self._work.shard(side).name} ({disk.how})"
        return judge_disk(disk, minimum), Progress(text, disk.free_bytes or 0, minimum, "bytes")

    def _sync_slots(self, side: Side) -> list[str]:
        return [
            resource.name
            for resource in self._work.store.resources(self._work.lease.migration)
            if resource.kind == SYNC_SLOTS and resource.shard == self._work.shard(side).name
        ]

    def _lost(self, side: Side, slot: room.Slot) -> Verdict:
        """A lost slot ends its stream. Only the forward one after the cutover is no loss."""
        work = self._work
        record = work.record
        if side is Side.SOURCE and record.stage not in ABORTABLE:
            return Verdict.WARN
        if side is Side.SOURCE or record.bound == 0:
            remedy = (
                f"Abort it (`foreshard abort {record.id} --as NAME`) and begin again: "
                f"{work.source.name} loses nothing."
            )
        elif record.stage in ABORTABLE:
            remedy = (
                f"{work.target.name} owns {record.bound} of 1024 slots and keeps them; neither abort nor cutover is "
                "possible before the reverse stream is repaired."
            )
        else:
            remedy = (
                "There is no way back any more: a reversal is refused. Finalise ends the migration: "
                f"`foreshard finalise {record.id} --without-way-back --as NAME`."
            )
        raise StreamBroken(
            f"Slot {slot.name} on {work.shard(side).name} is lost: its WAL was removed, and what its reader lacks "
            "cannot be sent any more.",
            remedy=remedy,
            slot=slot.name,
            shard=work.shard(side).name,
            migration=record.id,
        )

    def _out(self, what: Progress) -> OutOfHeadroom:
        record = self._work.record
        if record.stage in ABORTABLE:
            remedy = "It is given up before harm is done; begin again when the cause is found."
        else:
            remedy = (
                f"Now a person decides: reverse it (`foreshard reverse {record.id} --as NAME`; {record.source} has "
                "missed nothing), or finalise it at once (migration.soak_s = 0, then migrate again); either frees the "
                "WAL."
            )
        return OutOfHeadroom(
            f"Migration {record.id} runs out of headroom: {what.text}, {what.done:.0f} bytes, limit {what.total:.0f}.",
            remedy=remedy,
            migration=record.id,
            stage=record.stage.value,
            bytes=what.done,
            limit_bytes=what.total,
        )
