"""The router: what an application imports to read and write in a fleet whose buckets move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter, sleep
from typing import TypeVar

import psycopg

from foreshard.router.bucket_finder import Directory
from foreshard.router.core import BucketCall, Call, Pause, RouterCore
from foreshard.router.map_source import MapSource
from foreshard.router.opening import Addressing, Isolation, Opening
from foreshard.router.pool import Addresses, Connection, PoolSettings, ShardPools
from foreshard.router.report import BucketRows
from foreshard.router.shadow import ShadowReader
from foreshard.router.telemetry import Telemetry
from foreshard.router.transaction import Parameters, Query, Row, Transaction, read_once, transaction
from foreshard.topology.bucketing import BucketOf
from foreshard.topology.keys import Key
from foreshard.topology.routing_map import Intent, Route, RoutingMap

T = TypeVar("T")


class Router:
    """Routes transactions of one key to the shard that owns it. Thread-safe.

    ``shards`` gives the application's connection string of a shard by name. Retries end ``deadline_s``
    seconds after a call began. ``shadow`` repeats a share of the reads, as the map says; the router closes it.
    ``bucket_of`` finds a key's bucket in a fleet that does not hash keys as the map does (`bucket_finder`).
    """

    def __init__(
        self,
        map_source: MapSource,
        shards: Addresses,
        *,
        application: str = "foreshard-router",
        deadline_s: float = 5.0,
        connections_per_shard: int = 8,
        addressing: Addressing = Addressing.QUALIFIED,
        shadow: ShadowReader | None = None,
        bucket_of: BucketOf | None = None,
    ) -> None:
        self._core = RouterCore(
            map_source,
            application=application,
            deadline_s=deadline_s,
            bucket_of=bucket_of,
            addressing=addressing,
        )
        self._pools = ShardPools(
            shards, PoolSettings(application, connections_per_shard, deadline_s, patience_s=deadline_s)
        )
        self._shadow = shadow
        if shadow is not None:
            shadow.telemetry = self._core.telemetry

    @property
    def telemetry(self) -> Telemetry:
        """What this router has counted, for `prometheus.RouterCollector`."""
        return self._core.telemetry

    @property
    def map(self) -> RoutingMap:
        """The source's map with what refusals have taught since."""
        return self._core.map

    def route(self, key: Key, intent: Intent) -> Route:
        """Where a transaction on ``key`` goes, as far as this router knows."""
        return self._core.route(key, intent)

    def run(
        self, key: Key, body: Callable[[Transaction], T], *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> T:
        """Run ``body`` in a write transaction on ``key`` and commit; repeat it until that succeeds.

        ``body`` may run several times; what it does in the database is committed exactly once.

        Raises:
            RefusedWrite, ShardUnavailable: nothing was committed before the deadline.
            UnknownCommitOutcome: the last attempt may or may not have been committed; never repeated.
        """

        def once(call: Call, opening: Opening) -> T:
            with self._transaction(call, opening) as tx:
                return body(tx)

        return self._until_done(Call(self._core, key, Intent.WRITE, isolation), once)

    def execute(self, key: Key, query: Query, parameters: Parameters = None) -> list[Row]:
        """One statement that writes ``key``, committed, as `run` does it; returns the rows that it gives back."""

        def body(tx: Transaction) -> list[Row]:
            cursor = tx.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

        return self.run(key, body)

    def query(
        self, key: Key, query: Query, parameters: Parameters = None, *, ordered: bool = False
    ) -> list[Row]:
        """Rows of one read of ``key``, retried until the deadline; ``{name}`` stands for the bucket's table.

        A share of them, as the map says, is repeated on the other shard; ``ordered``: there the order counts.
        """

        def once(call: Call, opening: Opening) -> list[Row]:
            with self._connection(call, opening) as connection:
                begun = perf_counter()
                rows = read_once(connection, opening, query, parameters).fetchall()
                seconds = perf_counter() - begun
            if self._shadow is not None and call.redirection is not None:
                self._shadow.consider(
                    call.redirection, opening, query, parameters, rows, seconds, ordered=ordered
                )
            return rows

        return self._until_done(Call(self._core, key, Intent.READ), once)

    @contextmanager
    def transaction(
        self, key: Key, *, read_only: bool = False, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> Iterator[Transaction]:
        """A transaction on ``key`` at its owner, committed at the end of the block.

        Opening it is retried until the deadline. The block cannot be repeated: where `run` would do so,
        ``RefusedWrite`` or ``ShardUnavailable`` is raised: nothing is committed, the caller may begin again.
        """
        call = Call(self._core, key, Intent.READ if read_only else Intent.WRITE, isolation)
        try:
            while True:
                opening = call.opening()
                inside = False
                try:
                    with self._transaction(call, opening) as tx:
                        inside = True
                        yield tx
                except psycopg.Error as error:
                    if inside:
                        call.failed_inside(error)
                    self._pause(call.failed(error))
                else:
                    call.ended(None)
                    return
        except BaseException as error:
            call.ended(error)
            raise

    def write(
        self, key: Key, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AbstractContextManager[Transaction]:
        """`transaction` that writes."""
        return self.transaction(key, isolation=isolation)

    def read(self, key: Key) -> AbstractContextManager[Transaction]:
        """`transaction` that is READ ONLY."""
        return self.transaction(key, read_only=True)

    def report(
        self,
        query: Query,
        parameters: Parameters = None,
        *,
        buckets: Iterable[str] | None = None,
        parallel: int = 4,
    ) -> Iterator[BucketRows]:
        """The same read on every bucket (or on ``buckets``), for reports; each bucket as soon as it has answered.

        Each is a snapshot of its own: what moves between buckets or keys meanwhile may be counted twice or not at all.

        Raises:
            ShardUnavailable: a bucket could not be read before the deadline.
        """
        names = self._core.map.buckets if buckets is None else tuple(buckets)
        with ThreadPoolExecutor(parallel, thread_name_prefix="foreshard-report") as pool:
            waiting = [pool.submit(self._report_of, bucket, query, parameters) for bucket in names]
            try:
                yield from (answer.result() for answer in as_completed(waiting))
            finally:
                for answer in waiting:
                    answer.cancel()

    def close(self) -> None:
        """Stop the threads, the map source's too, and close the pools and the directory."""
        if self._shadow:
            self._shadow.close()
        self._core.source.close()
        self._pools.close()
        if isinstance(self._core.bucket_of, Directory):
            self._core.bucket_of.close()

    def _report_of(self, bucket: str, query: Query, parameters: Parameters) -> BucketRows:
        call = BucketCall(self._core, bucket)

        def once(call: Call, opening: Opening) -> BucketRows:
            assert isinstance(call, BucketCall)
            exact = call.exact
            with self._connection(call, opening) as connection:
                rows = read_once(connection, opening, query, parameters).fetchall()
            return BucketRows(bucket, opening.route.shard, rows, exact)

        return self._until_done(call, once)

    def _until_done(self, call: Call, once: Callable[[Call, Opening], T]) -> T:
        try:
            while True:
                opening = call.opening()
                try:
                    result = once(call, opening)
                except psycopg.Error as error:
                    self._pause(call.failed(error))
                else:
                    call.ended(None)
                    return result
        except BaseException as error:
            call.ended(error)
            raise

    def _pause(self, pause: Pause) -> None:
        if pause.refresh:
            self._core.source.refresh()
        sleep(pause.seconds)

    def _connection(self, call: Call, opening: Opening) -> AbstractContextManager[Connection]:
        return self._pools.connection(
            opening.route.shard, call.connection_wait_s, read_only=opening.read_only
        )

    @contextmanager
    def _transaction(self, call: Call, opening: Opening) -> Iterator[Transaction]:
        with self._connection(call, opening) as connection, transaction(connection, opening) as tx:
            yield tx
