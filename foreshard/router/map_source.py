"""Where a router's map comes from. When the source is away, the last map stays in use."""

from __future__ import annotations

import logging
import os
import selectors
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol

import psycopg
from psycopg import sql

from foreshard.errors import ForeshardError, ShardUnavailable
from foreshard.postgres import passwords
from foreshard.topology.routing_map import RoutingMap

log = logging.getLogger(__name__)

_CHANNEL = "foreshard_routing"
_POLL_S = 3.0
_RECONNECT_S = 0.5
_REFRESH_WAIT_S = 0.5
_LEASE_S = 10.0


class MapSource(Protocol):
    """Gives the newest routing map it knows."""

    def current(self) -> RoutingMap:
        """The map, from memory."""
        ...

    def refresh(self) -> RoutingMap:
        """The map, asked for anew if that is possible within a fraction of a second; else as `current`."""
        ...

    def fresh(self) -> bool:
        """Whether the map was confirmed lately. If not, even reads must ask the shard who owns the key."""
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

    def close(self) -> None:
        """Nothing to stop."""


class ControlMapSource:
    """The map of the control database: told by NOTIFY, polled every few seconds, cached.

    ``conninfo`` is used to LISTEN (a direct connection, not a transaction pooler), ``load`` reads the map.
    All of it happens in one daemon thread, so that a control database that hangs cannot hang a transaction.
    An outage is logged once when it begins and once when it ends.

    Raises:
        ShardUnavailable: no map could be read within ``first_map_s`` seconds.
    """

    def __init__(self, conninfo: str, load: Callable[[], RoutingMap], first_map_s: float = 30.0) -> None:
        self._conninfo = conninfo
        self._load = load
        self._map: RoutingMap | None = None
        self._confirmed = -_LEASE_S
        self._changed = threading.Condition()
        self._asked = 0  # refreshes asked for
        self._answered = 0  # refreshes answered, by a map or by a failure
        self._closing = False
        self._away = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._follow, name="foreshard-routing-map", daemon=True)
        self._thread.start()
        with self._changed:
            if not self._changed.wait_for(lambda: self._map is not None, first_map_s):
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
        """Whether the control database confirmed the map within the lease of ten seconds."""
        return monotonic() - self._confirmed < _LEASE_S

    def close(self) -> None:
        """Stop the thread; the last map stays readable."""
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
                        self._read()
                        self._sleep(_POLL_S, connection)
            except Exception as error:  # whatever it is: the last map stays, and the thread must not die
                self._failed(error)
                self._sleep(_RECONNECT_S, None)

    def _read(self) -> None:
        with self._changed:
            asked = self._asked
        begun = monotonic()  # what is read may be as old as this, however late it comes
        newest = self._load()
        with self._changed:
            if self._map is None or newest.epoch >= self._map.epoch:
                self._map = newest
            self._confirmed = begun
            self._answered = asked
            self._changed.notify_all()
        if self._away:
            self._away = False
            log.warning("The control database answers again; routing epoch %d.", newest.epoch)

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self._answered = self._asked
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
