"""Markers: "everything committed on one side before this moment has been applied on the other".

A marker is a row in a published table; a trigger on the other side, fired by the apply worker alone, notifies.
This is milliseconds where a comparison of LSNs is tenths of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID, uuid4

from psycopg import sql

from foreshard.errors import FlipFailed
from foreshard.postgres.connect import Connection
from foreshard.postgres.names import MigrationNames


class MarkerLine:
    """Markers of one migration from a sender to a listener.

    Both connections belong to the line while it is used: the listener's is in LISTEN, the sender's autocommits.
    """

    def __init__(self, sender: Connection, listener: Connection, names: MigrationNames) -> None:
        self._sender = sender
        self._listener = listener
        self._table = sql.Identifier(names.schema, "marker")
        listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(names.schema)))

    def send(self) -> UUID:
        """Commit a new marker on the sender's side."""
        marker = uuid4()
        self._sender.execute(sql.SQL("INSERT INTO {} (id) VALUES (%s)").format(self._table), (marker,))
        return marker

    def applied(self, marker: UUID, timeout_s: float) -> bool:
        """Wait until exactly this marker was applied on the listener's side; False after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            # A notification may be lost with its connection, the row is not: look at the table now and then.
            for notice in self._listener.notifies(timeout=min(left, 0.25), stop_after=1):
                if notice.payload == str(marker):
                    return True
            if self._seen(marker):
                return True
        return False

    def drain(self, timeout_s: float) -> float:
        """Send a marker and wait for it; returns milliseconds.

        Raises:
            FlipFailed: it did not arrive in time.
        """
        start = time.perf_counter()
        if not self.applied(self.send(), timeout_s):
            raise FlipFailed(
                f"A marker was not applied within {timeout_s:g} s.",
                remedy="Look at the subscription's worker and its errors (`foreshard migration show`).",
            )
        return (time.perf_counter() - start) * 1000

    def _seen(self, marker: UUID) -> bool:
        query = sql.SQL("SELECT 1 FROM {} WHERE id = %s").format(self._table)
        return self._listener.execute(query, (marker,)).fetchone() is not None


def drain_both(there: MarkerLine, back: MarkerLine, timeout_s: float) -> Callable[[], None]:
    """A callable that returns when all that either side had committed is applied on the other."""

    def drain() -> None:
        there.drain(timeout_s)
        back.drain(timeout_s)

    return drain
