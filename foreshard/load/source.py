"""What a source of live load is, and the visit to a shard in which sources read it.

**Whose a series is.** Two sources may know the same metric of a shard, and mean different things: bytes that a process
moved to and from storage are not what PostgreSQL asked of the operating system. So each metric of a shard belongs to
one source: the first in the order in which sources are asked that ``owns`` it, by what is configured or by what the
source's earlier reading says. A source that fails keeps what it owns: there is a gap, never another source's value.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, Self

import psycopg

from foreshard.errors import ShardUnavailable
from foreshard.load.instant import Instant
from foreshard.load.sample import Sample
from foreshard.postgres.connect import connect

Connection = psycopg.Connection[tuple[Any, ...]]
Reading = Mapping[str, Any]
"""What a source keeps of a shard until its next visit, as JSON can hold it."""


class Shard(Protocol):
    """What sources need to know of a shard."""

    @property
    def name(self) -> str: ...

    @property
    def dsn(self) -> str: ...


@dataclass(frozen=True)
class Collected:
    """The reading that replaces the last one; samples of both; ``notes``: what could not be read, and why."""

    reading: Reading
    samples: Sequence[Sample]
    notes: tuple[str, ...] = ()


class LoadSource(Protocol):
    """One kind of live load."""

    @property
    def name(self) -> str:
        """Under which its readings are kept; never changed."""
        ...

    def owns(self, shard: Shard, reading: Reading | None) -> frozenset[str]:
        """The metrics of the whole shard that come from here; ``reading`` is the newest, if there is one."""
        ...

    def collect(self, visit: Visit, before: Reading | None) -> Collected:
        """Read the shard. Samples taken now bear ``visit.ts``; older ones, fetched from elsewhere, their own time.

        Raises:
            ForeshardError: nothing can be read now; the last reading stays.
        """
        ...


@dataclass
class Visit:
    """One collection of one shard; a context manager that closes the connection.

    ``ts``: the fleet time that samples bear, the same for all shards of a collection. ``covered_until``: earlier
    samples tell of the time up to it. ``alone``: no other shard is on the same server, so that the server's totals are
    this shard's.
    """

    shard: Shard
    buckets: Sequence[str]
    ts: datetime
    now: Callable[[], Instant]
    covered_until: datetime | None = None
    alone: bool = True
    _conn: Connection | None = None
    _refused: ShardUnavailable | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def server(self) -> Connection:
        """A connection to the shard, the same for all sources.

        Raises:
            ShardUnavailable: it does not answer; each time the same.
        """
        if self._refused is not None:
            raise self._refused
        if self._conn is None:
            if self._over.is_set():
                raise ShardUnavailable(f"{self.shard.name} was given up.")
            try:
                conn = connect(self.shard.dsn, application="foreshard collect", statement_timeout_s=10)
            except ShardUnavailable as refused:
                self._refused = refused
                raise
            with self._lock:
                self._conn = conn
            if self._over.is_set():  # meanwhile
                self.cut()
        return self._conn

    def cut(self) -> None:
        """Called from another thread: whoever waits for the server's answer gets an error at once."""
        with self._lock:
            self._over.set()
            if self._conn is not None and not self._conn.closed:
                # A duplicate: its number cannot be given to another file meanwhile.
                with socket.socket(fileno=os.dup(self._conn.fileno())) as line, suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()
