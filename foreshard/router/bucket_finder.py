"""How a router finds the bucket of a key that is not hashed: the fleet's directory, the application's function."""

from __future__ import annotations

import importlib
import threading
from functools import partial
from time import monotonic
from typing import Any

from psycopg import Connection, conninfo, errors, sql
from psycopg_pool import ConnectionPool, PoolTimeout

from foreshard.errors import ConfigurationError, InvalidInput, ShardUnavailable
from foreshard.postgres import directory, passwords
from foreshard.topology.bucketing import Bucketing, BucketingKind, BucketOf
from foreshard.topology.keys import Key

_REMEMBERED_S = 60.0
_REMEMBERED_KEYS = 100_000
_WAIT_S = 2.0
_TIMEOUTS = "-c search_path=pg_catalog -c statement_timeout=2000"


def bucket_finder(bucketing: Bucketing, application: str) -> BucketOf | None:
    """What to give a `Router`; None where the map itself says it (``hash``).

    Raises:
        ConfigurationError: (field ``bucketing.function``) there is no such function.
    """
    if bucketing.kind is BucketingKind.DIRECTORY:
        return Directory(bucketing, application)
    if bucketing.function is not None:
        return imported(bucketing.function)
    return None


def imported(function: str) -> BucketOf:
    """The application's function, by ``package.module:function``.

    Raises:
        ConfigurationError: (field ``bucketing.function``) it cannot be imported or called.
    """
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as missing:
        raise ConfigurationError(
            "bucketing.function", f"{function} is not there ({missing}).", remedy="Install or correct it."
        ) from missing
    if not callable(found):
        raise ConfigurationError("bucketing.function", f"{function} is no function.")
    return found  # type: ignore[no-any-return]  # what it returns is checked where it is used


class Directory:
    """The buckets of keys, looked up in the fleet's own table and remembered for a minute. Thread-safe.

    A key that is not there is asked for again each time: it may have been added meanwhile. While the directory is
    away, what was remembered is used, however old: a key does not change its bucket by itself.
    """

    def __init__(self, bucketing: Bucketing, application: str) -> None:
        assert bucketing.dsn is not None  # `Bucketing` checked it
        self._bucketing = bucketing
        self._query: sql.Composed | None = None
        self._known: dict[Key, tuple[str, float]] = {}
        self._lock = threading.Lock()
        dsn = conninfo.make_conninfo(
            bucketing.dsn,
            application_name=f"{application}-directory",
            connect_timeout=3,
            tcp_user_timeout=10_000,
            options=_TIMEOUTS,
        )
        self._pool: ConnectionPool[Connection[tuple[Any, ...]]] = ConnectionPool(
            partial(passwords.completed, dsn),
            connection_class=Connection[tuple[Any, ...]],
            kwargs={"autocommit": True},
            min_size=0,
            max_size=4,
            name=f"{application}-directory",
            num_workers=1,
            reconnect_timeout=_WAIT_S,
            open=True,
        )

    def __call__(self, key: Key) -> str:
        """The key's bucket.

        Raises:
            InvalidInput: (field ``key``) the directory has no such key.
            ShardUnavailable: the directory does not answer, and the key is not remembered.
        """
        known = self._known.get(key)
        if known is not None and monotonic() - known[1] < _REMEMBERED_S:
            return known[0]
        try:
            found = self._ask(key)
        except (errors.OperationalError, PoolTimeout) as away:
            if known is not None:
                return known[0]
            raise ShardUnavailable(
                "The directory of keys does not answer.",
                remedy="Check bucketing.dsn.",
                reason=str(away).strip(),
            ) from away
        with self._lock:
            if len(self._known) >= _REMEMBERED_KEYS:
                self._known.clear()
            self._known[key] = (found, monotonic())
        return found

    def close(self) -> None:
        """Close its connections."""
        self._pool.close(timeout=5)

    def _ask(self, key: Key) -> str:
        with self._pool.connection(timeout=_WAIT_S) as conn:
            if self._query is None:
                self._query = directory.lookup(conn, self._bucketing)
            row = conn.execute(self._query, (key,)).fetchone()
        if row is None or row[0] is None:
            raise InvalidInput("key", f"{key!r} is not in the directory {self._bucketing.table}")
        return str(row[0])
