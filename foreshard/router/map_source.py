"""Where a router's map comes from, and how the runners of migrations know what a router believes.

What a router may believe without asking a shard ends with its lease. Runners wait for routers that have not
acknowledged an epoch, until their lease is over. Three orders make that safe:

1. a heartbeat is committed *before* the map is read that it makes fresh: a runner that publishes an epoch and then
   looks at the routers either sees that heartbeat, or the map that was read after it has the epoch;
2. an epoch is acknowledged *after* its map is in use;
3. after the map could not be read, nothing is told to the database before a map was read again.

And one order is the caller's: `MapSource.fresh` is asked before `MapSource.current`.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import psycopg
from psycopg import sql

from foreshard.control.router_store import Registration
from foreshard.errors import ForeshardError, RegistrationRefused, ShardUnavailable
from foreshard.postgres import passwords
from foreshard.topology.routing_map import RoutingMap

log = logging.getLogger(__name__)

_CHANNEL = "foreshard_routing"
_RECONNECT_S = 0.5
_REFRESH_WAIT_S = 0.5
_BEATS_A_LEASE = 3

_now = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Of Linux' monotonic clocks the one that goes on while the machine sleeps: a lease must not sleep with it."""


@dataclass(frozen=True)
class MapState:
    """How a source stands. ``age_s``: since the map was confirmed; ``registered``: runners wait for this router."""

    epoch: int
    age_s: float
    fresh: bool
    registered: bool


class MapSource(Protocol):
    """Gives the newest routing map it knows."""

    def current(self) -> RoutingMap:
        """The map, from memory."""
        ...

    def refresh(self) -> RoutingMap:
        """The map, asked for anew if that is possible within a fraction of a second; else as `current`."""
        ...

    def fresh(self) -> bool:
        """Whether the map may be believed: no bucket that it shows at rest has moved.

        If not, even reads must ask the shard who owns the key. Ask this first, then for the map: the other way round,
        the map may be one that was still stale when it was taken.
        """
        ...

    def state(self) -> MapState:
        """For people and metrics."""
        ...

    def close(self) -> None:
        """Stop whatever keeps the map up to date."""
        ...


class StaticMapSource:
    """A map that only its owner changes, by assignment to `map`."""

    def __init__(self, routing_map: RoutingMap) -> None:
        self.map = routing_map

    def current(self) -> RoutingMap:
        """The map."""
        return self.map

    def refresh(self) -> RoutingMap:
        """The map."""
        return self.map

    def fresh(self) -> bool:
        """Always true: nobody else could change it."""
        return True

    def state(self) -> MapState:
        """Never old, and known to no runner."""
        return MapState(self.map.epoch, age_s=0.0, fresh=True, registered=False)

    def close(self) -> None:
        """Nothing to stop."""


class ControlMapSource:
    """The map of the control database: told by NOTIFY, polled, cached; this router is registered there.

    ``conninfo`` is used to LISTEN (a direct connection, not a transaction pooler), ``load`` reads the map and
    ``registration`` is the router's row. All of it happens in one daemon thread, so that a control database that hangs
    cannot hang a transaction. An outage is logged once when it begins and once when it ends. A router that may not
    write its row has its map all the same, and is never fresh.

    Raises:
        ShardUnavailable: no map could be read within ``first_map_s`` seconds.
    """

    def __init__(
        self,
        conninfo: str,
        load: Callable[[], RoutingMap],
        registration: Registration,
        first_map_s: float = 30.0,
    ) -> None:
        self._conninfo = conninfo
        self._load = load
        self._registration = registration
        self._map: RoutingMap | None = None
        self._confirmed = self._fresh_until = _now()
        self._changed = threading.Condition()
        self._begun = False  # the first round has ended, well or not
        self._asked = 0  # refreshes asked for
        self._answered = 0  # refreshes answered, by a map or by a failure
        self._registered = False
        self._refused = False
        self._closing = False
        self._away = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._follow, name="foreshard-routing-map", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._begun and self._map is not None, first_map_s)
            problem = self._trouble
        if self._map is None:
            self.close()
            raise ShardUnavailable(
                "No routing map: the control database does not give one.",
                remedy="Check control.dsn, and that the fleet has been described (`foreshard status`).",
                waited_s=first_map_s,
                reason=problem,
            )

    _trouble: str | None = None

    def current(self) -> RoutingMap:
        """The newest map seen."""
        assert self._map is not None  # the constructor waited for it
        return self._map

    def refresh(self) -> RoutingMap:
        """Ask for the map now; callers that ask at the same time share one answer."""
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._wake()
            self._changed.wait_for(lambda: self._answered >= mine or self._closing, _REFRESH_WAIT_S)
        return self.current()

    def fresh(self) -> bool:
        """Whether the lease of a heartbeat that was stored is not over, and the map was read after it."""
        return _now() < self._fresh_until

    def state(self) -> MapState:
        """How old the map is, and whether runners know of this router."""
        age_s = max(0.0, _now() - self._confirmed)
        return MapState(self.current().epoch, age_s, self.fresh(), self._registered)

    def close(self) -> None:
        """Stop the thread, and end the registration if the database answers; the last map stays readable."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._wake()
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # then the pipe is full of reasons to wake up already
            os.write(self._wake_write, b".")

    def _follow(self) -> None:
        while not self._closing:
            try:
                with passwords.log_in(self._conninfo, autocommit=True, connect_timeout=3) as connection:
                    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(_CHANNEL)))
                    while not self._closing:
                        self._round()
                        self._sleep(self._registration.lease_s / _BEATS_A_LEASE, connection)
            except Exception as error:  # whatever it is: the last map stays, and the thread must not die
                self._failed(error)
                self._sleep(_RECONNECT_S, None)
        self._fresh_until = 0.0  # before nobody waits for this router any more
        if self._registered and not self._away:
            with suppress(Exception):  # then its lease ends by itself
                self._registration.end()

    def _round(self) -> None:
        with self._changed:
            asked = self._asked
        if self._map is None or self._away:
            self._take(self._load())
        begun = _now()  # the lease counts from here, however late the database stores it
        told = self.current().epoch
        stored = self._beat(told)
        newest = self._load()
        self._take(newest)
        with self._changed:
            self._confirmed = begun
            if stored:
                self._fresh_until = begun + self._registration.lease_s
            self._answered = asked
            self._begun = True
            self._changed.notify_all()
        if self._away:
            self._away = False
            log.warning("The control database answers again; routing epoch %d.", newest.epoch)
        if stored and newest.epoch != told:
            self._registration.acknowledge(newest.epoch)

    def _take(self, newest: RoutingMap) -> None:
        """Put a map into use."""
        if self._map is not None and newest.epoch < self._map.epoch:
            raise ForeshardError(
                f"The control database has routing epoch {newest.epoch}, older than {self._map.epoch} in use here.",
                remedy="Was it restored? Routers that are started again take its map.",
            )
        self._map = newest

    def _beat(self, epoch: int) -> bool:
        try:
            self._registration.beat(epoch)
        except RegistrationRefused as refused:
            self._registered = False
            if not self._refused:
                self._refused = True
                log.warning("%s Until then every read asks its shard first.", refused)
            return False
        if self._refused:
            self._refused = False
            log.warning("The control database registers this router now.")
        self._registered = True
        return True

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self._answered = self._asked
            self._begun = True
            self._trouble = error.message if isinstance(error, ForeshardError) else type(error).__name__
            self._changed.notify_all()
        if not self._away:
            self._away = True
            log.warning(
                "No routing map from the control database; the last one stays in use.", exc_info=error
            )

    def _sleep(self, seconds: float, connection: psycopg.Connection[object] | None) -> None:
        """Until a notification, a `refresh`, `close`, or the time is over."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            if connection is not None:
                selector.register(connection.fileno(), selectors.EVENT_READ)
            ready = {key.fd for key, _ in selector.select(seconds)}
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if connection is not None:
            for _ in connection.notifies(timeout=0):
                pass  # that something changed is all there is to know: the map is read as a whole
