"""Watches both subscriptions of a migration: apply errors repeat silently, and a dead stream looks like a slow one."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.errors import StreamBroken
from foreshard.migration import failover
from foreshard.migration.flip import finish_interrupted
from foreshard.migration.work import Work
from foreshard.postgres import replication_slots, subscriptions
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side


@dataclass(frozen=True)
class Lag:
    """WAL that each direction has not confirmed yet. lag_bytes counts all WAL of the server, not ours alone."""

    forward_bytes: int | None
    reverse_bytes: int | None


COPY_ERRORS = 3
"""A table's copy is tried again every few seconds; this many failures are no passing trouble."""


def check_copy(work: Work, source: Connection, target: Connection) -> None:
    """The forward stream alone, before there is another; on connections that the caller has, as it asks often.

    Raises:
        StreamBroken: what is wrong with it.
    """
    check_subscription(work, target, Side.TARGET, work.names.forward)
    _served(work, source, Side.SOURCE, work.names.forward)


def check(work: Work) -> Lag:
    """Both directions are enabled and apply.

    Stages look again and again while they wait. A shard that was failed over meanwhile is settled first: until then its
    keys have no owner.

    Raises:
        StreamBroken: which subscription, and what is wrong with it.
        FailedOver: a failover that cannot be settled.
    """
    settle_failover(work)
    return check_running(work)


def check_running(work: Work) -> Lag:
    """The same, for who does not drive the migration and so settles nothing.

    Raises:
        StreamBroken: which subscription, and what is wrong with it.
    """
    with work.connections() as (source, target):
        check_subscription(work, target, Side.TARGET, work.names.forward)
        _served(work, source, Side.SOURCE, work.names.forward)
        check_subscription(work, source, Side.SOURCE, work.names.reverse)
        _served(work, target, Side.TARGET, work.names.reverse)
        return Lag(
            replication_slots.lag_bytes(source, work.names.forward),
            replication_slots.lag_bytes(target, work.names.reverse),
        )


def settle_failover(work: Work) -> None:
    """A shard that was failed over is closed again, if one was."""
    if failover.noticed(work):
        finish_interrupted(work)


def check_subscription(work: Work, subscriber: Connection, side: Side, subscription: str) -> None:
    """The subscription on ``side`` is enabled, and what it receives can be applied.

    Raises:
        StreamBroken: what is wrong with it.
    """
    health = subscriptions.health(subscriber, subscription)
    problem = None
    if health is None:
        problem = "does not exist"
    elif not health.enabled:
        problem = "is disabled"
    elif health.sync_errors >= COPY_ERRORS:
        problem = f"failed {health.sync_errors} times to copy a table"
    elif health.apply_errors and not _applies_now(work, side):
        # The count never goes down: only a marker tells a deadlock of long ago from a row that cannot be applied.
        problem = f"failed {health.apply_errors} times to apply and does not apply now"
    if problem is not None:
        raise StreamBroken(
            f"Subscription {subscription} on {work.shard(side).name} {problem}.",
            remedy="The server's log names the row; abort or reverse the migration if it cannot be mended.",
            subscription=subscription,
            shard=work.shard(side).name,
            migration=work.lease.migration,
        )


def _served(work: Work, publisher: Connection, side: Side, slot: str) -> None:
    """The slot is there: a promoted standby may lack it, and one that kept too much WAL is invalidated."""
    if not replication_slots.serves(publisher, slot):
        raise StreamBroken(
            f"Replication slot {slot} on {work.shard(side).name} is gone or lost:"
            f" changes made there since do not reach {work.shard(side.other).name}.",
            remedy="Abort or reverse the migration; the source's copy does not depend on it."
            if side is Side.SOURCE
            else "Going back would lose what the target accepted; compare and mend the source's copy first.",
            slot=slot,
            shard=work.shard(side).name,
            migration=work.lease.migration,
        )


def _applies_now(work: Work, subscriber: Side) -> bool:
    with work.marker_line(subscriber.other) as markers:
        return markers.applied(markers.send(), work.settings.marker_timeout_s)
