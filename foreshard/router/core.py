"""What a router decides: where a transaction goes, what an error teaches, whether to try again. No I/O of its own.

`Router` and `AsyncRouter` wait and talk to shards; everything they have to agree on is here. One `Call` is one call of
the application: attempt after attempt, until one succeeds or trying again makes no sense.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import perf_counter
from typing import NoReturn
from uuid import UUID

import psycopg

from foreshard.errors import ForeshardError, InvalidInput
from foreshard.router.failures import Failure, Refusal, classify, given_up
from foreshard.router.healing import Healing
from foreshard.router.map_source import MapSource
from foreshard.router.opening import Addressing, Isolation, Opening
from foreshard.router.patience import Patience
from foreshard.router.telemetry import Outcome, Telemetry
from foreshard.topology.bucketing import BucketOf
from foreshard.topology.keys import (
    SLOTS,
    Key,
    KeyType,
    KeyTypes,
    Part,
    distribution_part,
    distribution_type,
    parts_of,
)
from foreshard.topology.routing_map import Intent, Redirection, Route, RoutingMap, route

_ANY: dict[KeyType, Part] = {
    **dict.fromkeys((KeyType.INT2, KeyType.INT4, KeyType.INT8), 0),
    KeyType.TEXT: "",
    KeyType.UUID: UUID(int=0),
    KeyType.BYTEA: b"",
}

CONNECTION_WAIT_S = 2.0
"""The longest wait for a connection in one attempt."""


@dataclass(frozen=True)
class Pause:
    """What comes before the next attempt: a wait of ``seconds``, and before it the map anew if ``refresh``."""

    seconds: float
    refresh: bool


class RouterCore:
    """The map, what refusals taught, and the rules. Thread-safe.

    ``bucket_of`` finds a key's bucket in a fleet that does not hash keys as the map does; it may wait for a directory.
    """

    def __init__(
        self,
        source: MapSource,
        *,
        application: str,
        deadline_s: float,
        bucket_of: BucketOf | None,
        addressing: Addressing,
    ) -> None:
        self.source = source
        self.telemetry = Telemetry(application, source)
        self.deadline_s = deadline_s
        self.bucket_of = bucket_of
        self.addressing = addressing
        self._healing = Healing()
        self._lock = threading.Lock()
        self._base = source.current()
        self._map = self._base

    @property
    def map(self) -> RoutingMap:
        """The source's map with what refusals have taught since."""
        if self.source.current() is not self._base:
            with self._lock:
                # Asked again: a thread that was held up must not bring an older map back. The base is set last: who
                # sees it looks for no newer map.
                base = self.source.current()
                self._map = self._healing.applied_to(base)
                self._base = base
        return self._map

    def route(self, key: Key, intent: Intent) -> Route:
        """Where a transaction on ``key`` goes, as far as this router knows."""
        return route(self.map, key, intent, self.bucket_of)

    def learn(self, refusal: Refusal) -> None:
        """Take in a guard's refusal. It is newer than any map: while a flip is under way shards are ahead of it."""
        with self._lock:
            if self._healing.learn(refusal, self._base.epoch):
                self._map = self._healing.applied_to(self._base)


class Call:
    """One call of the application on one key."""

    def __init__(
        self,
        core: RouterCore,
        key: Key,
        intent: Intent,
        isolation: Isolation = Isolation.READ_COMMITTED,
    ) -> None:
        self._core = core
        self._key = key
        self._intent = intent
        self._isolation = isolation
        self._patience = Patience(core.deadline_s)
        self._doubt = False
        self._answer: psycopg.Error | None = None
        self._begun = perf_counter()
        self._opening: Opening | None = None
        self.redirection: Redirection | None = None
        """The migration that the bucket of the last opening is in."""

    @property
    def attempts(self) -> int:
        """How many there were, the present one included."""
        return self._patience.attempts

    @property
    def connection_wait_s(self) -> float:
        """How long this attempt may wait for a connection."""
        return min(self._patience.remaining, CONNECTION_WAIT_S)

    def opening(self) -> Opening:
        """How the next attempt opens its transaction.

        Raises:
            InvalidInput: (field ``key``) the key cannot be used.
        """
        fresh = self._core.source.fresh()  # before the map: see `MapSource.fresh`
        routing_map = self._core.map
        where = self._route(routing_map)
        moving = self.redirection = routing_map.redirection_of(where.bucket)
        self._opening = Opening(
            where,
            distribution_part(self._key, routing_map.key_type),
            distribution_type(routing_map.key_type),
            read_only=self._intent is Intent.READ,
            ask_owner=self._asks(fresh),
            redirected=moving is not None and moving.bound < SLOTS and where.shard == moving.target,
            isolation=self._isolation,
            addressing=self._core.addressing,
        )
        return self._opening

    def ended(self, error: BaseException | None) -> None:
        """Count the call, which ended with ``error`` or well."""
        if self._opening is not None:
            self._core.telemetry.transaction(
                self._intent, Outcome.of(error), self._opening.route.shard, perf_counter() - self._begun
            )

    def failed(self, error: psycopg.Error) -> Pause:
        """What to do after an attempt of which nothing was committed ended with ``error``.

        Raises:
            RefusedWrite, SpansOwners, ShardUnavailable: there is no time for another attempt.
            psycopg.Error: ``error`` itself, where trying again cannot help.
        """
        failure = classify(error)
        if failure is Failure.OTHER or (failure is Failure.GONE and self._doubt and not self._moved_on()):
            raise error  # where it was sent is right, as far as map and shard know: the application's own mistake
        refresh = self._learn(error, failure)
        pause = None if failure is Failure.DOWN else self._patience.next_pause()
        if pause is None:
            raise self._given_up(self._last_answer(error, failure)) from error
        self._answer = None if failure is Failure.CONNECTION else error
        self._core.telemetry.retried()
        return Pause(pause, refresh)

    def failed_inside(self, error: psycopg.Error) -> NoReturn:
        """Raise what the caller of a block is told, which cannot be repeated; the next call goes to the right place.

        Raises:
            RefusedWrite, SpansOwners, ShardUnavailable: nothing was committed, the caller may begin again.
            psycopg.Error: ``error`` itself, where that would not help.
        """
        failure = classify(error)
        self._learn(error, failure)
        if failure is Failure.OTHER or (failure is Failure.GONE and not self._moved_on()):
            raise error
        raise self._given_up(error) from error

    def _route(self, routing_map: RoutingMap) -> Route:
        return route(routing_map, self._key, self._intent, self._core.bucket_of)

    def _asks(self, fresh: bool) -> bool:
        """Whether the shard is asked who owns the key.

        A bucket at rest is read without the question, as long as the map is ``fresh``: we would know of a move.
        """
        return self._intent is Intent.WRITE or self.redirection is not None or self._doubt or not fresh

    def _learn(self, error: psycopg.Error, failure: Failure) -> bool:
        """Bring what is known up to what the error says; True if the map should be asked for anew."""
        assert self._opening is not None
        if failure is not Failure.OTHER:
            self._core.telemetry.refused(error.sqlstate)
        if failure is Failure.NOT_OWNER:
            refusal = Refusal.read(error, self._opening.route.shard)
            if refusal is None:
                return True
            self._core.learn(refusal)  # nothing newer can be asked
        if failure is Failure.GONE:
            self._doubt = True  # the shard itself may know where the bucket went
            return not self._moved_on()
        return False

    def _moved_on(self) -> bool:
        """Whether the key has another route by now."""
        assert self._opening is not None
        return self._route(self._core.map).shard != self._opening.route.shard

    def _last_answer(self, error: psycopg.Error, failure: Failure) -> psycopg.Error:
        """What the call is told at its end.

        An attempt that begins when time is over gets no connection any more, and that says nothing of the shard: then
        what the one before was told counts.
        """
        none_came = failure is Failure.CONNECTION and error.sqlstate is None
        return self._answer if none_came and self._answer is not None else error

    def _given_up(self, error: psycopg.Error) -> ForeshardError:
        assert self._opening is not None
        return given_up(error, self._opening.route, self._intent, self.attempts)


class BucketCall(Call):
    """One read of a whole bucket.

    While its keys have two owners it is read at the migration's source: that holds every row, those of redirected keys
    as they come back over the reverse stream.
    """

    def __init__(self, core: RouterCore, bucket: str) -> None:
        super().__init__(core, _any_key(core.map.key_type), Intent.READ)
        if bucket not in core.map.placement.of:
            raise InvalidInput("bucket", f"{bucket!r} is not in the map")
        self._bucket = bucket

    @property
    def exact(self) -> bool:
        """Whether all keys are owned where the last opening reads."""
        return self.redirection is None or self.redirection.bound in (0, SLOTS)

    def _route(self, routing_map: RoutingMap) -> Route:
        moving = routing_map.redirection_of(self._bucket)
        if moving is None:
            return Route(self._bucket, routing_map.placement.shard_of(self._bucket), None, None, None)
        return Route(self._bucket, moving.owner(SLOTS - 1), None, moving.migration, None)

    def _asks(self, fresh: bool) -> bool:
        del fresh  # a copy that does not serve is closed
        # One owner for all keys: any key will do to learn where the bucket went.
        return self._doubt and self.exact


def _any_key(key_types: KeyTypes) -> Key:
    parts = tuple(_ANY[one] for one in parts_of(key_types))
    return parts[0] if len(parts) == 1 else parts
