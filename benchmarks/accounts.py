"""The application of the router's benchmarks: 48 small buckets of one table, keys spread evenly by their hash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from foreshard.fleet.grants import APPLICATION, OWNER
from foreshard.fleet.throwaway import ShardPair
from foreshard.settings import MigrationSettings
from foreshard.topology.keys import KeyType, bucket_number
from tests.integration.moving_fleet import MovingFleet, ignore

BUCKETS = tuple(f"b{number:04}" for number in range(48))
KEYS = range(1, 9601)
"""Two hundred a bucket, more or less."""

BUCKET = """
CREATE SCHEMA {bucket} AUTHORIZATION {owner};
SET LOCAL ROLE {owner};
CREATE TABLE {accounts} (id bigint PRIMARY KEY, balance bigint NOT NULL DEFAULT 0, holder text NOT NULL);
INSERT INTO {accounts} (id, holder) SELECT id, 'holder ' || id FROM unnest({keys}::bigint[]) id;
GRANT USAGE ON SCHEMA {bucket} TO {application};
GRANT SELECT, INSERT, UPDATE, DELETE ON {accounts} TO {application};
"""


def bucket_of(key: int) -> str:
    """Where the key is."""
    return BUCKETS[bucket_number(key, KeyType.INT8, len(BUCKETS))]


class AccountsFleet(MovingFleet):
    """All buckets stand on the source; nothing moves until `begin_migration`."""

    key_type = KeyType.INT8
    tables: Mapping[str, str] = {"accounts": "id"}
    all_buckets: Sequence[str] = BUCKETS
    buckets: Sequence[str] = BUCKETS

    def __init__(
        self, pair: ShardPair, control_dsn: str, state_dir: Path, settings: MigrationSettings
    ) -> None:
        super().__init__(pair, control_dsn, state_dir, settings)
        with self.runner() as runner:
            runner.abort(ignore)  # the one that the base class opens

    def fill(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        keys: dict[str, list[int]] = defaultdict(list)
        for key in KEYS:
            keys[bucket_of(key)].append(key)
        for bucket in self.buckets:
            with conn.transaction():
                accounts = sql.Identifier(bucket, "accounts")
                conn.execute(
                    sql.SQL(BUCKET).format(
                        bucket=sql.Identifier(bucket),
                        accounts=accounts,
                        owner=sql.Identifier(OWNER),
                        application=sql.Identifier(APPLICATION),
                        keys=sql.Literal(keys[bucket]),
                    )
                )
            conn.execute(sql.SQL("VACUUM ANALYZE {}").format(accounts))

    def begin_migration(self) -> None:
        """Plan to move all buckets from the source to the target; the migration before must have ended."""
        self.migration = self.store.open(
            self.plan(self.pair.source.name, self.pair.target.name, self.buckets)
        )
