"""A close that a failover forgets: the standby of the closing side lacks it, the other side has opened.

The broken control "async close with failover". Two safeguards stand before it, each of which is enough: a flip waits
until standbys have the close, and the guard of a promoted server refuses writes. `without` takes them away.

Nothing here is left to chance: the standby's receive is held back before the flip, and each write waits for the step
before it. What the checker finds is read from the history of clients alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from foreshard.errors import FlipFailed, ForeshardError
from foreshard.fleet.checker import CheckResult, OwnerReader, check
from foreshard.fleet.ledger import Kind, Ledger, Start, State
from foreshard.migration.flip import flip
from foreshard.migration.runner import Runner
from foreshard.postgres import standbys
from foreshard.postgres.connect import connect
from foreshard.postgres.guard import Side
from foreshard.topology.keys import SLOTS, KeyType, slot
from tests.integration.failover_fleet import FailoverFleet
from tests.integration.moving_fleet import BUCKETS

BOUND = SLOTS - 1  # the most that flips without a person's approval
KEYS = 8
COUNT = "UPDATE {} SET cycles = cycles + 1 WHERE tailnum = %s RETURNING cycles"


class Safeguard(StrEnum):
    """What keeps two owners from one key."""

    STANDBYS_FIRST = "standbys have the close before the other side opens"
    TIMELINE = "the guard compares the timeline"


@contextmanager
def without(fleet: FailoverFleet, safeguards: Collection[Safeguard]) -> Iterator[None]:
    """Break the product: these safeguards do nothing while the block runs (the timeline's until a fresh install)."""
    with pytest.MonkeyPatch.context() as patch:
        if Safeguard.STANDBYS_FIRST in safeguards:
            patch.setattr(standbys, "await_flushed", lambda *_: [])
        if Safeguard.TIMELINE in safeguards:
            for shard in (fleet.pair.source, fleet.pair.target):
                with connect(shard.operator_dsn) as conn:
                    conn.execute(
                        "CREATE OR REPLACE FUNCTION foreshard.timeline() RETURNS text LANGUAGE sql VOLATILE"
                        " RETURN '00000001'"
                    )
        yield


@dataclass(frozen=True)
class ForgottenClose:
    """What came of it. ``flip_refused``: why the flip was undone. ``stale_writes``: SQLSTATEs that a client which goes
    on at the promoted side got before Foreshard looked at it, None where it was let through.
    """

    flip_refused: str | None
    stale_writes: tuple[str | None, ...]
    check: CheckResult


def forget_the_close(fleet: FailoverFleet, closing: Side, ledger: Ledger) -> ForgottenClose:
    """Flip ``closing``'s keys away while its standby gets nothing, then fail it over to that standby.

    The copies must be complete and the bound at 0; ``closing`` has a standby. Clients write before the flip, after it
    at whoever owns the keys, and at the promoted side as if nothing had happened. A new runner then settles, as far as
    it can, and the history is held against the owner.
    """
    shard = fleet.failover(closing)
    starts = _starts(fleet)
    clients = _Clients(ledger, starts)
    with fleet.runner("before") as runner:
        if closing is Side.TARGET:
            flip(runner.work, BOUND)
        clients.write(shard.application_dsn)
        shard.standby.wait_until_level()
        shard.standby.hold_receive()
        refused = _flip_away(runner, closing)
        if refused is None:
            clients.write(fleet.shard(closing.other).application_dsn)
        else:  # what the owner accepts now, its own standby must have: else it is that failover that loses it
            shard.standby.release_receive()
            clients.write(shard.application_dsn)
            shard.standby.wait_until_level()
        shard.fail_over()
    stale = clients.write(shard.application_dsn)
    owner = _settled_owner(fleet)
    if owner is not None:
        clients.write(fleet.shard(owner).application_dsn)
    owner = owner or (closing if refused else closing.other)
    shards = dict.fromkeys(BUCKETS, owner.value)
    reader = OwnerReader(shards, {owner.value: fleet.shard(owner).superuser_dsn})
    return ForgottenClose(refused, stale, check(ledger.operations(), ledger.starts(), reader))


def _flip_away(runner: Runner, closing: Side) -> str | None:
    try:
        flip(runner.work, BOUND if closing is Side.SOURCE else 0)
    except FlipFailed as undone:
        return undone.message
    return None


def _settled_owner(fleet: FailoverFleet) -> Side | None:
    """Who owns the keys when a new runner has entered; None if it cannot (two owners, or the shard is lost)."""
    try:
        with fleet.runner("after") as runner:
            bounds = runner.work.bounds()
    except ForeshardError:
        return None
    assert bounds.source == bounds.target, bounds
    return Side.TARGET if bounds.target == BOUND else Side.SOURCE


def _starts(fleet: FailoverFleet) -> list[Start]:
    """A few aircraft that change hands at `BOUND`, as the source holds them now."""
    moving = [start for start in fleet.starts() if slot(start.tailnum, KeyType.TEXT) < BOUND]
    return moving[:KEYS]


class _Clients:
    """One increment of every key at a time, straight at a shard: they use no router, and believe what they know."""

    def __init__(self, ledger: Ledger, starts: list[Start]) -> None:
        self._ledger = ledger
        self._starts = starts
        ledger.note_starts(starts)

    def write(self, dsn: str) -> tuple[str | None, ...]:
        """Each key once; the SQLSTATE of each refusal, None for a write that was acknowledged."""
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as conn:
            return tuple(self._increment(conn, start) for start in self._starts)

    def _increment(self, conn: psycopg.Connection[tuple[int]], start: Start) -> str | None:
        operation: UUID = self._ledger.intend(Kind.CYCLE, start.tailnum, start.bucket)
        statement = sql.SQL(COUNT).format(sql.Identifier(start.bucket, "aircraft"))
        try:
            row = conn.execute(statement, (start.tailnum,)).fetchone()
        except psycopg.Error as refusal:
            if refusal.sqlstate is None or not refusal.sqlstate.startswith("FS"):
                raise
            self._ledger.settle(operation, State.REFUSED)
            return refusal.sqlstate
        assert row is not None
        self._ledger.settle(operation, State.ACKNOWLEDGED, value=row[0])
        return None
