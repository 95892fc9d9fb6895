"""A fleet whose source or target (or both) has a standby behind an address that can be failed over."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.postgres.guard import Side
from foreshard.settings import MigrationSettings
from tests.integration.moving_fleet import QUICK, MovingFleet
from tests.integration.standby import FailoverShard, failover_shard


class FailoverFleet(MovingFleet):
    """A `MovingFleet` of which some shards are `FailoverShard`s."""

    def shard(self, side: Side) -> ShardDatabase:
        """The shard on that side."""
        return self.pair.source if side is Side.SOURCE else self.pair.target

    def failover(self, side: Side) -> FailoverShard:
        """The shard on that side, which was made with a standby."""
        shard = self.shard(side)
        assert isinstance(shard, FailoverShard), f"the {side} was made without a standby"
        return shard


@contextmanager
def failover_fleet(
    servers: ThrowawayServers,
    sides: Collection[Side],
    state_dir: Path,
    settings: MigrationSettings = QUICK,
    *,
    slot: bool = False,
) -> Iterator[FailoverFleet]:
    """A fleet with a migration that has not begun; ``sides`` have a standby, ``source-standby``, ``target-standby``.

    ``slot``: the primary keeps a physical slot for it.
    """
    with ExitStack() as stack:
        shards: dict[Side, ShardDatabase] = {}
        for side in set(Side) - set(sides):
            shards[side] = stack.enter_context(_plain_shard(servers, side))
        for side in sides:  # gone first: a promoted server's workers would come back to slots elsewhere
            shards[side] = stack.enter_context(failover_shard(servers, side, slot=slot))
        control_dsn = servers.new_control_database()
        stack.callback(servers.drop, "control", str(conninfo_to_dict(control_dsn)["dbname"]))
        pair = ShardPair(shards[Side.SOURCE], shards[Side.TARGET])
        yield stack.enter_context(closing(FailoverFleet(pair, control_dsn, state_dir, settings)))


@contextmanager
def _plain_shard(servers: ThrowawayServers, side: Side) -> Iterator[ShardDatabase]:
    shard = servers.new_shard(side)
    try:
        yield shard
    finally:
        servers.drop(shard.name, shard.database)
