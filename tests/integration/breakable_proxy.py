"""A TCP proxy that can be a partition, a dead address or a moved one; it also counts round trips.

One thread serves all connections of a proxy; whatever changes how it works is done in that thread, so a method
that has returned has taken effect.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from enum import StrEnum
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import TypeAlias

HOST = "127.0.0.1"
CHUNK = 1 << 18
PATIENCE_S = 10.0
CONNECTION_LOST = (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.ENOTCONN)


class Direction(StrEnum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


BOTH = (Direction.TO_SERVER, Direction.TO_CLIENT)


class BreakableProxy:
    """Forwards ``port`` to the server at ``to_port``, both on loopback. A context manager; all ends with it.

    ``round_trips``: how often the client spoke after the server had. With ``lose_commit`` set, the next COMMIT is
    passed on and its answer waited for, but the client's connection is cut instead of answered.
    """

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        # Never listens: it keeps the port ours while the listener is closed (refuse), and lets the kernel refuse.
        self._reserved = _bound(0)
        self.port: int = self._reserved.getsockname()[1]
        self.round_trips = 0
        self.lose_commit = threading.Event()
        self.lost_commit = threading.Event()
        self._held: frozenset[Direction] = frozenset()
        self._connections: set[_Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._orders: SimpleQueue[tuple[Callable[[], None], Future[None]]] = SimpleQueue()
        self._bell, self._ear = socket.socketpair()
        self._ear.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ, self._hear)
        self._listener: socket.socket | None = None
        self._running = True
        self._thread = threading.Thread(target=self._serve, name=f"proxy-{self.port}", daemon=True)

    def __enter__(self) -> BreakableProxy:
        self._open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end)
        self._thread.join(PATIENCE_S)
        for each in (self._bell, self._ear, self._reserved):
            each.close()
        self._selector.close()

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._connections)

    def hold(self, directions: Collection[Direction] = BOTH) -> None:
        """Read and forward nothing more in these directions; connections stay open, also if an end has gone.

        Where nothing goes to the server, new connections hang too. What is still on the way is kept.
        """
        self._do(partial(self._hold, frozenset(directions)))

    def release(self) -> None:
        """Go on; what was held back is forwarded first."""
        self._do(partial(self._hold, frozenset()))

    def cut(self) -> None:
        """Reset every connection, on both ends. What was held back is lost."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Refuse new connections, as the address of a machine without a server does; open ones stay."""
        self._do(self._shut)

    def accept(self) -> None:
        """Take new connections again."""
        self._do(self._open)

    def point_to(self, port: int) -> None:
        """New connections go to the server at ``port``; open ones stay where they are."""
        self._do(partial(setattr, self, "to_port", port))

    # -- in the proxy's thread --------------------------------------------------------------------------

    def _do(self, order: Callable[[], None]) -> None:
        done: Future[None] = Future()
        self._orders.put((order, done))
        self._bell.send(b"!")
        done.result(PATIENCE_S)

    def _serve(self) -> None:
        while self._running:
            for key, mask in self._selector.select():
                key.data(mask)

    def _hear(self, mask: int) -> None:
        del mask
        with suppress(BlockingIOError):
            self._ear.recv(CHUNK)
        while not self._orders.empty():
            order, done = self._orders.get()
            try:
                order()
            except Exception as error:  # the caller's
                done.set_exception(error)
            else:
                done.set_result(None)

    def _open(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen(256)
            self._listener.setblocking(False)
            self._watch()

    def _shut(self) -> None:
        if self._listener is not None:
            _want(self._selector, self._listener, 0, _nothing)
            self._listener.close()
            self._listener = None

    def _watch(self) -> None:
        # The kernel greets clients that nobody accepts: to them we look like a partition.
        wanted = 0 if Direction.TO_SERVER in self._held else selectors.EVENT_READ
        if self._listener is not None:
            _want(self._selector, self._listener, wanted, self._greet)
        for connection in self._connections:
            connection.watch(self._selector, self._held, self._forward)

    def _hold(self, directions: frozenset[Direction]) -> None:
        self._held = directions
        self._watch()

    def _cut(self) -> None:
        for connection in list(self._connections):
            self._drop(connection, reset=True)

    def _end(self) -> None:
        self._shut()
        self._cut()
        self._running = False

    def _greet(self, mask: int) -> None:
        del mask
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has given up
            return
        try:
            server = socket.create_connection((HOST, self.to_port), PATIENCE_S)
        except OSError:
            _close(client, reset=True)
            return
        connection = _Connection(client, server)
        self._connections.add(connection)
        connection.watch(self._selector, self._held, self._forward)

    def _forward(self, connection: _Connection, end: socket.socket, mask: int) -> None:
        if connection not in self._connections:  # dropped earlier in this round
            return
        try:
            if mask & selectors.EVENT_READ:
                self._read(connection, end)
            if mask & selectors.EVENT_WRITE:
                connection.write(end)
        except OSError as error:
            if error.errno not in CONNECTION_LOST:
                raise
            self._drop(connection, reset=True)
            return
        if connection.is_over:
            self._drop(connection, reset=False)
        else:
            connection.watch(self._selector, self._held, self._forward)

    def _read(self, connection: _Connection, end: socket.socket) -> None:
        direction = connection.read_from(end)
        said = connection.pending[direction]
        if direction is Direction.TO_SERVER and said:
            self.round_trips += connection.server_spoke
            connection.server_spoke = False
            if self.lose_commit.is_set() and b"COMMIT" in said:
                self.lose_commit.clear()
                connection.losing = True
        elif direction is Direction.TO_CLIENT:
            connection.server_spoke = True
            if connection.losing:
                said.clear()
                connection.ended = True
                self.lost_commit.set()
        if said and direction not in self._held:  # at once: mostly the other end has room
            connection.write(connection.other(end))

    def _drop(self, connection: _Connection, *, reset: bool) -> None:
        self._connections.discard(connection)
        for end in (connection.client, connection.server):
            _want(self._selector, end, 0, _nothing)
            _close(end, reset=reset)


_Forward: TypeAlias = "Callable[[_Connection, socket.socket, int], None]"


class _Connection:
    """A client, the server, and what was read of either and not passed on yet."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.pending = {direction: bytearray() for direction in BOTH}
        self.ended = False
        self.server_spoke = True
        self.losing = False
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def is_over(self) -> bool:
        """One end has closed, and the other has all that it said."""
        return self.ended and not any(self.pending.values())

    def other(self, end: socket.socket) -> socket.socket:
        return self.server if end is self.client else self.client

    def read_from(self, end: socket.socket) -> Direction:
        """Take a chunk of what this end says; returns where it goes."""
        direction = Direction.TO_SERVER if end is self.client else Direction.TO_CLIENT
        with suppress(BlockingIOError):
            said = end.recv(CHUNK)
            self.pending[direction] += said
            self.ended = self.ended or not said
        return direction

    def write(self, end: socket.socket) -> None:
        """Pass on to this end as much as it takes."""
        pending = self.pending[Direction.TO_CLIENT if end is self.client else Direction.TO_SERVER]
        with suppress(BlockingIOError):
            del pending[: end.send(pending)]

    def watch(self, selector: selectors.BaseSelector, held: Collection[Direction], forward: _Forward) -> None:
        """Wait for what may go on: a reader while nothing is pending its way, a writer while something is."""
        for end, inward, outward in (
            (self.client, Direction.TO_SERVER, Direction.TO_CLIENT),
            (self.server, Direction.TO_CLIENT, Direction.TO_SERVER),
        ):
            wanted = 0
            if inward not in held and not self.pending[inward] and not self.ended:
                wanted |= selectors.EVENT_READ
            if outward not in held and self.pending[outward]:
                wanted |= selectors.EVENT_WRITE
            _want(selector, end, wanted, partial(forward, self, end))


def _want(
    selector: selectors.BaseSelector, end: socket.socket, wanted: int, data: Callable[[int], None]
) -> None:
    """Watch a socket for just this. Unwatched (0), even its end goes unnoticed: that is what half-open means."""
    watched = selector.get_map().get(end)
    if watched is None:
        if wanted:
            selector.register(end, wanted, data)
    elif not wanted:
        selector.unregister(end)
    elif watched.events != wanted:
        selector.modify(end, wanted, data)


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound


def _close(end: socket.socket, *, reset: bool) -> None:
    if reset:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def _nothing(mask: int) -> None:
    del mask
