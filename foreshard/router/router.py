"""The router: what an application imports to read and write in a fleet whose buckets move."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TypeVar

import psycopg

from foreshard.errors import ForeshardError
from foreshard.router.bucket_finder import Directory
from foreshard.router.failures import Failure, Refusal, classify, given_up
from foreshard.router.healing import Healing
from foreshard.router.map_source import MapSource
from foreshard.router.patience import Patience
from foreshard.router.pool import ShardPools
from foreshard.router.shadow import Rows, ShadowRead, ShadowReader, ShadowSink
from foreshard.router.transaction import Isolation, Parameters, Row, Transaction, transaction
from foreshard.topology.bucketing import BucketOf
from foreshard.topology.keys import SLOTS, Key
from foreshard.topology.routing_map import Intent, Route, RoutingMap, route

T = TypeVar("T")

_CONNECTION_WAIT_S = 2.0


class Router:
    """Routes transactions of one key to the shard that owns it. Thread-safe.

    ``shards`` gives the application's connection string of a shard by name. Retries end ``deadline_s``
    seconds after a call began. ``shadow_sink`` receives the counts of shadow reads; without it none are made.
    ``bucket_of`` finds a key's bucket in a fleet that does not hash keys as the map does (`bucket_finder`).
    """

    def __init__(
        self,
        map_source: MapSource,
        shards: Mapping[str, str] | Callable[[str], str],
        *,
        application: str = "foreshard-router",
        deadline_s: float = 5.0,
        connections_per_shard: int = 8,
        shadow_sink: ShadowSink | None = None,
        bucket_of: BucketOf | None = None,
    ) -> None:
        self._source = map_source
        self._pools = ShardPools(shards, application, connections_per_shard, lock_timeout_s=deadline_s)
        self._deadline_s = deadline_s
        self._bucket_of = bucket_of
        self._healing = Healing()
        self._lock = threading.Lock()
        self._base = map_source.current()
        self._map = self._base
        self._shadow = ShadowReader(shadow_sink) if shadow_sink else None

    @property
    def map(self) -> RoutingMap:
        """The source's map with what refusals have taught since."""
        base = self._source.current()
        if base is not self._base:
            with self._lock:
                self._base = base
                self._map = self._healing.applied_to(base)
        return self._map

    def route(self, key: Key, intent: Intent) -> Route:
        """Where a transaction on ``key`` goes, as far as this router knows."""
        return route(self.map, key, intent, self._bucket_of)

    def run(
        self, key: Key, body: Callable[[Transaction], T], *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> T:
        """Run ``body`` in a write transaction on ``key`` and commit; repeat it until that succeeds.

        ``body`` may run several times; what it does in the database is committed exactly once.

        Raises:
            RefusedWrite, ShardUnavailable: nothing was committed before the deadline.
            UnknownCommitOutcome: the last attempt may or may not have been committed; never repeated.
        """
        patience = Patience(self._deadline_s)
        while True:
            where = self.route(key, Intent.WRITE)
            try:
                with self._transaction(where, key, Intent.WRITE, patience, isolation) as tx:
                    result = body(tx)
            except psycopg.Error as error:
                self._recover(error, where, key, Intent.WRITE, patience)
            else:
                return result

    @contextmanager
    def write(self, key: Key, *, isolation: Isolation = Isolation.READ_COMMITTED) -> Iterator[Transaction]:
        """A write transaction on ``key``, committed at the end of the block.

        Opening it is retried until the deadline. The block cannot be repeated: where `run` would do so,
        ``RefusedWrite`` or ``ShardUnavailable`` is raised: nothing is committed, the caller may begin again.
        """
        with self._opened(key, Intent.WRITE, isolation) as tx:
            yield tx

    @contextmanager
    def read(self, key: Key) -> Iterator[Transaction]:
        """A READ ONLY transaction on ``key`` at its owner."""
        with self._opened(key, Intent.READ, Isolation.READ_COMMITTED) as tx:
            yield tx

    def query(
        self, key: Key, query: str, parameters: Parameters = None, *, ordered: bool = False
    ) -> list[Row]:
        """Rows of one read of ``key``, retried until the deadline; ``{name}`` stands for the bucket's table.

        A share of them, as the map says, is repeated on the other shard; ``ordered``: there the order counts.
        """
        patience = Patience(self._deadline_s)
        while True:
            where = self.route(key, Intent.READ)
            try:
                with self._transaction(where, key, Intent.READ, patience) as tx:
                    begun = perf_counter()
                    rows = tx.execute(query, parameters).fetchall()
                    seconds = perf_counter() - begun
            except psycopg.Error as error:
                self._recover(error, where, key, Intent.READ, patience)
            else:
                self._offer(where, key, query, parameters, rows, seconds, ordered=ordered)
                return rows

    @contextmanager
    def read_bucket(self, bucket: str) -> Iterator[Transaction]:
        """A READ ONLY transaction on a whole bucket, for reports. Not retried.

        Raises:
            ForeshardError: the bucket's keys have two owners at present.
        """
        redirection = self.map.redirection_of(bucket)
        if redirection is None:
            shard, migration = self.map.placement.shard_of(bucket), None
        elif redirection.bound in (0, SLOTS):
            shard, migration = redirection.owner(0), redirection.migration
        else:
            raise ForeshardError(
                f"{bucket} has its keys on two shards during migration {redirection.migration}.",
                remedy="Wait for the cutover, or read key by key.",
                bucket=bucket,
            )
        where = Route(bucket, shard, slot=0, migration=migration, shadow=None)
        with self._unowned(where, shard) as tx:
            yield tx

    def close(self) -> None:
        """Stop the threads, the map source's too, and close the pools and the directory."""
        if self._shadow:
            self._shadow.close()
        self._source.close()
        self._pools.close()
        if isinstance(self._bucket_of, Directory):
            self._bucket_of.close()

    @contextmanager
    def _opened(self, key: Key, intent: Intent, isolation: Isolation) -> Iterator[Transaction]:
        patience = Patience(self._deadline_s)
        while True:
            where = self.route(key, intent)
            inside = False
            try:
                with self._transaction(where, key, intent, patience, isolation) as tx:
                    inside = True
                    yield tx
            except psycopg.Error as error:
                if inside:
                    # Too late for this block, but the caller's next attempt goes to the right place.
                    self._learn(error, where, key, intent)
                    if classify(error) in (Failure.OTHER, Failure.STALE_MAP):
                        raise
                    raise given_up(error, where, intent, patience.attempts) from error
                self._recover(error, where, key, intent, patience)
            else:
                return

    @contextmanager
    def _transaction(
        self,
        where: Route,
        key: Key,
        intent: Intent,
        patience: Patience,
        isolation: Isolation = Isolation.READ_COMMITTED,
    ) -> Iterator[Transaction]:
        routing_map = self.map
        redirection = routing_map.redirection_of(where.bucket)
        read_only = intent is Intent.READ
        wait_s = min(patience.remaining, _CONNECTION_WAIT_S)
        with (
            self._pools.connection(where.shard, wait_s) as connection,
            transaction(
                connection,
                where,
                key,
                routing_map.key_type,
                redirected=redirection is not None
                and redirection.bound < SLOTS
                and where.shard == redirection.target,
                read_only=read_only,
                # A bucket at rest is read without the question, as long as we would have heard of a move.
                ask_owner=not read_only or redirection is not None or not self._source.fresh(),
                isolation=isolation,
            ) as tx,
        ):
            yield tx

    def _recover(
        self, error: psycopg.Error, where: Route, key: Key, intent: Intent, patience: Patience
    ) -> None:
        """Return when another attempt makes sense; else raise."""
        failure = classify(error)
        if failure is Failure.OTHER:
            raise error
        elsewhere = self._learn(error, where, key, intent)
        if failure is Failure.STALE_MAP and not elsewhere:
            raise error  # the newest map leads here too: it is the application's own mistake
        if not patience.wait():
            raise given_up(error, where, intent, patience.attempts) from error

    def _learn(self, error: psycopg.Error, where: Route, key: Key, intent: Intent) -> bool:
        """Bring the map up to what the error says; True if ``key`` now has another route."""
        failure = classify(error)
        if failure is Failure.NOT_OWNER:
            # Nothing newer can be asked: the shards are ahead of the control database while a flip is under way.
            refusal = Refusal.read(error, where.shard)
            if refusal is None:
                self._source.refresh()
            else:
                with self._lock:
                    if self._healing.learn(refusal, self._base.epoch):
                        self._map = self._healing.applied_to(self._base)
        if failure is Failure.STALE_MAP and self.route(key, intent).shard == where.shard:
            self._source.refresh()
        return self.route(key, intent).shard != where.shard

    def _offer(
        self,
        where: Route,
        key: Key,
        query: str,
        parameters: Parameters,
        rows: Rows,
        seconds: float,
        *,
        ordered: bool,
    ) -> None:
        redirection = self.map.redirection_of(where.bucket)
        if self._shadow is None or where.shadow is None or redirection is None:
            return
        if random.uniform(0, 100) >= redirection.shadow_percent:
            return
        assert where.migration is not None  # a shadow exists only within a migration
        self._shadow.offer(
            ShadowRead(
                migration=where.migration,
                what=f"{where.bucket} key {key!r}: {query}",
                rows=rows,
                seconds=seconds,
                ordered=ordered,
                read_owner=partial(self._read_owner, key, query, parameters),
                read_other=partial(self._read_unowned, where, where.shadow, query, parameters),
            )
        )

    def _read_owner(self, key: Key, query: str, parameters: Parameters) -> Rows:
        with self.read(key) as tx:
            return tx.execute(query, parameters).fetchall()

    def _read_unowned(
        self, where: Route, shard: str, query: str, parameters: Parameters
    ) -> tuple[Rows, float]:
        with self._unowned(where, shard) as tx:
            begun = perf_counter()
            rows = tx.execute(query, parameters).fetchall()
            return rows, perf_counter() - begun

    @contextmanager
    def _unowned(self, where: Route, shard: str) -> Iterator[Transaction]:
        """READ ONLY on ``shard``, whoever owns the key."""
        with (
            self._pools.connection(shard, _CONNECTION_WAIT_S) as connection,
            transaction(
                connection, where, "", self.map.key_type, redirected=False, read_only=True, ask_owner=False
            ) as tx,
        ):
            yield tx
