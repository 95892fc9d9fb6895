"""The shards as shadow reads see them: connections of their own, as the fleet's shadow role."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from time import monotonic
from uuid import UUID

import psycopg
from psycopg import conninfo, sql

from foreshard.postgres import passwords
from foreshard.router.opening import Opening
from foreshard.router.pool import RECONNECT_S, Addresses, Connection, PoolSettings, address_of
from foreshard.router.shadow_comparison import Rows
from foreshard.router.transaction import Parameters, Query, read_once

_LOCK_TIMEOUT_S = 1.0
_STATEMENT_TIMEOUT_MS = 5000  # a read that asks the owner holds the fence: no flip waits long for it
_OPTIONS = (
    f"-c statement_timeout={_STATEMENT_TIMEOUT_MS} -c idle_in_transaction_session_timeout=10000"
    # Both sides must write the same value the same way, whatever their defaults are.
    " -c TimeZone=UTC -c DateStyle=ISO,MDY -c IntervalStyle=postgres -c extra_float_digits=1 -c bytea_output=hex"
)


class ShadowSides:
    """One connection to each shard, made when first needed. For one thread.

    ``shards`` gives the shadow role's connection string of a shard by name. Reads are READ ONLY and take 5 s at most.
    """

    def __init__(self, shards: Addresses, application: str) -> None:
        self._shards = shards
        self._settings = PoolSettings(application, 1, _LOCK_TIMEOUT_S, patience_s=0)
        self._connections: dict[str, Connection] = {}
        self._away_until: dict[str, float] = {}

    def read(
        self, shard: str, opening: Opening, query: Query, parameters: Parameters, *, as_owner: bool
    ) -> Rows:
        """The rows there; ``as_owner``: refused unless the shard owns the key, all the time of the read.

        Raises:
            psycopg.Error: not read.
        """
        there = replace(opening, route=opening.route._replace(shard=shard), ask_owner=as_owner)
        return read_once(self._connection(shard), there, query, parameters).fetchall()

    def place_marker(self, shard: str, bucket: str, migration: int) -> UUID | None:
        """Commit a marker there; None if that migration does not move the bucket any more."""
        connection = self._connection(shard)
        with connection.pipeline():
            connection.execute("BEGIN READ WRITE")
            # It promises nothing to anybody: no standby has to have it.
            connection.execute("SET LOCAL synchronous_commit = local")
            cursor = connection.execute("SELECT foreshard.place_marker(%s, %s)", (bucket, migration))
            connection.execute("COMMIT")
        row = cursor.fetchone()
        return row[0] if row else None

    def has_marker(self, shard: str, bucket: str, migration: int, marker: UUID) -> bool | None:
        """Whether the other side's marker was applied there; None if the bucket does not move any more."""
        query = "SELECT foreshard.has_marker(%s, %s, %s)"
        row = self._connection(shard).execute(query, (bucket, migration, marker)).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        """Close all connections. They are made anew when needed."""
        for connection in self._connections.values():
            with suppress(psycopg.Error):
                connection.close()
        self._connections.clear()

    def _connection(self, shard: str) -> Connection:
        present = self._connections.get(shard)
        if present is not None and not present.closed:
            if present.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
                present.rollback()
            return present
        if monotonic() < self._away_until.get(shard, 0.0):
            raise psycopg.OperationalError(f"no connection to {shard} can be made")
        try:
            made = self._connections[shard] = self._connect(shard)
        except psycopg.OperationalError:
            self._away_until[shard] = monotonic() + RECONNECT_S
            raise
        return made

    def _connect(self, shard: str) -> Connection:
        dsn = self._settings.conninfo(address_of(self._shards, shard), read_only=True)
        options = conninfo.conninfo_to_dict(dsn)["options"]
        dsn = passwords.completed(conninfo.make_conninfo(dsn, options=f"{options} {_OPTIONS}"))
        return psycopg.connect(dsn, autocommit=True, prepare_threshold=None)


def in_words(query: Query) -> str:
    """The query for a log. What was composed may hold values: it is not shown."""
    text = query.as_string() if isinstance(query, sql.SQL) else query
    return " ".join(text.split())[:300] if isinstance(text, str) else "a composed query"
