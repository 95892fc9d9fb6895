"""Who reads and writes accounts in `bench_router`: the router, and the pools that an application has without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from psycopg import Connection, sql
from psycopg_pool import ConnectionPool

from benchmarks.accounts import BUCKETS, KEYS, bucket_of
from foreshard.router import Router

READ = "SELECT balance FROM {accounts} WHERE id = %s"
WRITE = "UPDATE {accounts} SET balance = balance + 1 WHERE id = %s RETURNING balance"


class Contestant(Protocol):
    """One way to read and write an account. Each write is a transaction of one statement."""

    def read(self, key: int) -> int:
        """The balance."""
        ...

    def write(self, key: int) -> int:
        """Add one; the balance then."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class BarePool:
    """psycopg_pool at one server, as lean as it can be used: the bucket and its statement are known beforehand.

    A read needs no transaction around it; a write has BEGIN and COMMIT, as an application's has.
    ``prepare`` False for a pooler of transactions, which keeps no prepared statements.
    """

    def __init__(self, dsn: str, *, prepare: bool = True) -> None:
        def configure(connection: Connection[tuple[Any, ...]]) -> None:
            connection.prepare_threshold = 5 if prepare else None
            connection.prepared_max = 1000

        def pool(*, autocommit: bool) -> ConnectionPool[Connection[tuple[Any, ...]]]:
            return ConnectionPool(
                dsn,
                kwargs={"autocommit": autocommit},
                min_size=1,
                max_size=8,
                configure=configure,
                open=True,
            )

        self._reads, self._writes = pool(autocommit=True), pool(autocommit=False)
        self._read_of = _statements(READ)
        self._write_of = _statements(WRITE)

    def read(self, key: int) -> int:
        with self._reads.connection() as connection:
            return _only(connection.execute(self._read_of[key], (key,)).fetchone())

    def write(self, key: int) -> int:
        with self._writes.connection() as connection:
            return _only(connection.execute(self._write_of[key], (key,)).fetchone())

    def close(self) -> None:
        self._reads.close()
        self._writes.close()


class Routed:
    """A router, by its calls for single statements: qualified names or bare ones, as it was told."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def read(self, key: int) -> int:
        return _only(self._router.query(key, READ, (key,))[0])

    def write(self, key: int) -> int:
        return _only(self._router.execute(key, WRITE, (key,))[0])

    def close(self) -> None:
        self._router.close()


def _statements(text: str) -> Mapping[int, bytes]:
    by_bucket = {
        bucket: sql.SQL(text).format(accounts=sql.Identifier(bucket, "accounts")).as_bytes()
        for bucket in BUCKETS
    }
    return {key: by_bucket[bucket_of(key)] for key in KEYS}


def _only(row: tuple[Any, ...] | None) -> int:
    assert row is not None
    return int(row[0])
