"""Two shards with the real guard and one bucket on both sides, for tests that flip it by hand."""

from __future__ import annotations

import uuid

import psycopg
from psycopg import sql

from foreshard.fleet.grants import APPLICATION, OPERATOR
from foreshard.fleet.throwaway import ShardDatabase, ShardPair
from foreshard.postgres import guard
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side
from foreshard.postgres.names import MigrationNames
from foreshard.topology.keys import KeyType, bucket_number, slot
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Redirection, RoutingMap

BUCKETS = ("b0000", "b0001")
NAMES = MigrationNames(plane="c0de", number=7)
KEYS = [f"N{number:05}" for number in range(300)]
KEY = min(
    (key for key in KEYS if bucket_number(key, KeyType.TEXT, 2) == 0), key=lambda k: slot(k, KeyType.TEXT)
)
LATE_KEY = max(
    (key for key in KEYS if bucket_number(key, KeyType.TEXT, 2) == 0), key=lambda k: slot(k, KeyType.TEXT)
)
RESTING_KEY = next(key for key in KEYS if bucket_number(key, KeyType.TEXT, 2) == 1)
BOUND = slot(KEY, KeyType.TEXT) + 1  # the smallest bound at which the target owns KEY

BUCKET_SQL = """
    CREATE SCHEMA {schema};
    CREATE TABLE {schema}.aircraft (tailnum text PRIMARY KEY, cycles int NOT NULL DEFAULT 0);
    CREATE TABLE {schema}.event (id uuid NOT NULL, tailnum text NOT NULL REFERENCES {schema}.aircraft);
    INSERT INTO {schema}.aircraft SELECT unnest({keys}::text[]);
    GRANT USAGE ON SCHEMA {schema} TO {application};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {application};
"""


def routing_map(epoch: int = 1, *redirections: Redirection, on: str = "source") -> RoutingMap:
    placement = Placement({"b0000": on, "b0001": "target"})
    return RoutingMap(epoch, KeyType.TEXT, BUCKETS, placement, redirections)


def redirection(bound: int, shadow_percent: float = 0.0) -> Redirection:
    return Redirection(7, frozenset({"b0000"}), "source", "target", bound, shadow_percent)


class Fleet:
    """Two shards with bucket b0000 on both (as after a backfill) and b0001 on the target."""

    def __init__(self, pair: ShardPair) -> None:
        self.pair = pair
        self.flips = 0
        for shard, buckets in ((pair.source, BUCKETS[:1]), (pair.target, BUCKETS)):
            with self.operator(shard) as conn:
                guard.install(conn)
                for bucket in buckets:
                    conn.execute(
                        sql.SQL(BUCKET_SQL).format(
                            schema=sql.Identifier(bucket),
                            keys=sql.Literal(KEYS),
                            application=sql.Identifier(APPLICATION),
                        )
                    )

    def operator(self, shard: ShardDatabase) -> Connection:
        return shard.connect(OPERATOR)

    def begin_migration(self) -> None:
        for shard, peer, side in (
            (self.pair.target, "source", Side.TARGET),
            (self.pair.source, "target", Side.SOURCE),
        ):
            with self.operator(shard) as conn:
                guard.create_side(conn, NAMES, side, peer, BUCKETS[:1])
                guard.create_guards(conn, NAMES, ["tailnum"], KeyType.TEXT)
                for table, column in guard.tables_of(
                    BUCKETS[:1], {"aircraft": "tailnum", "event": "tailnum"}
                ):
                    guard.arm(conn, NAMES, table, column, KeyType.TEXT)

    def close(self, bound: int) -> None:
        self.flips += 1
        with self.operator(self.pair.source) as conn:
            guard.close(conn, NAMES, self.flips, bound, uuid.uuid4())

    def open(self, bound: int) -> None:
        with self.operator(self.pair.target) as conn:
            guard.open_(conn, NAMES, self.flips, bound)

    def flip(self, bound: int) -> None:
        self.close(bound)
        self.open(bound)

    def cycles(self, shard: ShardDatabase, key: str, bucket: str = "b0000") -> int:
        with shard.connect() as conn:
            row = conn.execute(
                f"SELECT cycles FROM {bucket}.aircraft WHERE tailnum = %s".encode(), (key,)
            ).fetchone()
        assert row is not None
        assert isinstance(row[0], int)
        return row[0]

    def source_dsn_at(self, port: int) -> str:
        """The source's address through a proxy, for whose port the password file has no line."""
        server = self.pair.source.server
        password = server.passwords.password(server.port, APPLICATION)
        return psycopg.conninfo.make_conninfo(self.dsns["source"], port=port, password=password)

    @property
    def dsns(self) -> dict[str, str]:
        return {"source": self.pair.source.application_dsn, "target": self.pair.target.application_dsn}
