"""The way back after the cutover: the reverse stream. The forward one is of no interest any more."""

from __future__ import annotations

from foreshard.errors import StreamBroken
from foreshard.migration import streams
from foreshard.migration.work import Work
from foreshard.postgres import replication_slots
from foreshard.postgres.guard import Side


def check(work: Work) -> int:
    """The source follows, so going back would lose no write. Returns WAL bytes that it has not confirmed yet.

    A target that was failed over is settled first: it may lack the slot only until the stream has been rebuilt.

    Raises:
        StreamBroken: it does not; if its slot is gone or lost it never will again.
        ShardUnavailable: a shard does not answer.
        FailedOver: a failover that cannot be settled.
    """
    name = work.names.reverse
    streams.settle_failover(work)
    with work.connections() as (source, target):
        status = replication_slots.status(target, name)
        if status in (None, replication_slots.LOST):
            gone = "is gone" if status is None else "is lost (its WAL was removed)"
            raise StreamBroken(
                f"There is no way back any more: slot {name} on {work.target.name} {gone}. A reversal is refused: "
                f"it would lose what {work.target.name} has accepted since.",
                remedy="Finalise ends the migration, by a person's word: "
                f"`foreshard finalise {work.lease.migration} --without-way-back --as NAME`.",
                slot=name,
                shard=work.target.name,
                migration=work.lease.migration,
            )
        streams.check_subscription(work, source, Side.SOURCE, name)
        return replication_slots.lag_bytes(target, name) or 0
