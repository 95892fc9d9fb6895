"""A fleet whose network can be cut: between the runner and either shard, and between the shards.

Applications reach the shards directly: what is looked at is the migration, not the router.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.postgres.connect import with_password
from foreshard.postgres.guard import Side
from foreshard.settings import MigrationSettings
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.moving_fleet import MovingFleet


@dataclass(frozen=True)
class ProxiedShard(ShardDatabase):
    """A shard that the runner reaches at ``operator_port``."""

    operator_port: int

    @property
    def operator_dsn(self) -> str:
        return make_conninfo(super().operator_dsn, port=self.operator_port)


@dataclass(frozen=True)
class Network:
    """The links: the runner's by shard, and the streams' by the side that applies them."""

    runner: dict[Side, BreakableProxy]
    stream: dict[Side, BreakableProxy]

    def heal(self) -> None:
        """Everybody reaches everybody."""
        for link in (*self.runner.values(), *self.stream.values()):
            link.accept()
            link.release()


@contextmanager
def partitioned_fleet(
    servers: ThrowawayServers, state_dir: Path, settings: MigrationSettings
) -> Iterator[tuple[MovingFleet, Network]]:
    """A migration whose copies are complete, ready for flips, and its network."""
    with ExitStack() as stack:
        plain = {side: servers.new_shard(side) for side in Side}
        network = Network(
            {side: stack.enter_context(_link(plain[side])) for side in Side},
            {side: stack.enter_context(_link(plain[side.other])) for side in Side},
        )
        shards = {
            side: ProxiedShard(shard.name, shard.server, shard.database, network.runner[side].port)
            for side, shard in plain.items()
        }
        for side in (Side.SOURCE, Side.TARGET):
            stack.callback(servers.drop, side, plain[side].database)
        for side in Side:
            stack.callback(servers.unsubscribe, side, plain[side].database)
        control_dsn = servers.new_control_database()
        stack.callback(servers.drop, "control", str(conninfo_to_dict(control_dsn)["dbname"]))
        fleet = MovingFleet(
            ShardPair(shards[Side.SOURCE], shards[Side.TARGET]), control_dsn, state_dir, settings
        )
        stack.callback(fleet.close)
        fleet.run_until(Stage.VERIFY)
        with fleet.runner() as runner:
            names = runner.work.names
        for side, subscription in ((Side.TARGET, names.forward), (Side.SOURCE, names.reverse)):
            dsn = make_conninfo(shards[side.other].operator_dsn, port=network.stream[side].port)
            with plain[side].connect() as conn:
                conn.execute(
                    sql.SQL("ALTER SUBSCRIPTION {} CONNECTION {}").format(
                        sql.Identifier(subscription), sql.Literal(with_password(dsn))
                    )
                )
        yield fleet, network
        network.heal()


@contextmanager
def _link(to: ShardDatabase) -> Iterator[BreakableProxy]:
    with BreakableProxy(to.server.port) as proxy:
        to.server.passwords.copy_port(to.server.port, proxy.port)
        yield proxy
