"""Two read-only sessions, one on each side of a migration, that print every value alike.

Digests and definitions are compared as text, so all settings that change how a value prints are pinned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from foreshard.postgres.connect import Connection, connect
from foreshard.postgres.names import COMPARING
from foreshard.postgres.printing import PRINTING

T = TypeVar("T")

PINNED_SETTINGS: dict[str, str] = {
    **PRINTING,
    "quote_all_identifiers": "off",
    # Names print qualified, and no schema of the application can shadow a function that we call.
    "search_path": "pg_catalog, pg_temp",
    # A policy that would hide rows from us must be an error, never a digest of fewer rows.
    "row_security": "off",
    "default_transaction_read_only": "on",
    "jit": "off",
    # The caller says how many processors of a shard a comparison takes: one a session.
    "max_parallel_workers_per_gather": "0",
}


@dataclass(frozen=True)
class Sides(Generic[T]):
    """One value from each side."""

    source: T
    target: T


class Pair:
    """Pinned sessions on source and target that are read at the same time. Of one thread at a time."""

    def __init__(self, source: Connection, target: Connection, other_thread: ThreadPoolExecutor) -> None:
        self.source = source
        self.target = target
        self._other_thread = other_thread

    def both(self, read: Callable[[Connection], T]) -> Sides[T]:
        """``read`` run on both sides at once. Raises what either of them raises."""
        on_target = self._other_thread.submit(read, self.target)
        try:
            on_source = read(self.source)
        finally:
            on_target.exception()  # never leave a session busy behind an error of the other one
        return Sides(on_source, on_target.result())


def pinned_session(conninfo: str) -> Connection:
    """A new autocommit session with ``PINNED_SETTINGS``; a transaction pooler would forget them.

    Raises `ShardUnavailable`.
    """
    session = connect(conninfo, application=COMPARING)
    try:
        session.execute(
            "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
            [list(PINNED_SETTINGS), list(PINNED_SETTINGS.values())],
        )
    except BaseException:
        session.close()
        raise
    return session


@contextmanager
def open_pair(source_conninfo: str, target_conninfo: str) -> Iterator[Pair]:
    """Both sessions, closed at the end."""
    with (
        pinned_session(source_conninfo) as source,
        pinned_session(target_conninfo) as target,
        ThreadPoolExecutor(1, thread_name_prefix="foreshard-pair") as other_thread,
    ):
        yield Pair(source, target, other_thread)
