"""Imports of many samples, in any order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice

from foreshard.control.engine import ControlDatabase
from foreshard.control.load_keeper import IMPORT, LoadKeeper
from foreshard.control.load_levels import window_of
from foreshard.control.load_sql import transaction
from foreshard.control.load_writing import LoadWriter, Source, mark_windows
from foreshard.load.sample import Sample

_AT_ONCE = 100_000

_SHARE = "SELECT pg_advisory_lock_shared(hashtext(%s))"


class LoadImport:
    """One import under way: `importing` makes it."""

    def __init__(self, writer: LoadWriter, source: Source) -> None:
        self._writer = writer
        self._source: Source = source
        self.windows: set[datetime] = set()
        """All that it touched, whether it brought something new to them or not: see `importing`."""
        self.new = 0
        """Values stored that were not there."""

    def add(self, samples: Iterable[Sample]) -> int:
        """Store them; returns how many values are new. Each part of 100,000 is a transaction."""
        new = 0
        remaining = iter(samples)
        while part := list(islice(remaining, _AT_ONCE)):
            new += self._writer.put(part, self._source, mark=False) or 0
            self.windows |= {window_of(one.ts) for one in part}
        self.new += new
        return new


@contextmanager
def undropped(control: ControlDatabase) -> Iterator[None]:
    """In the block no samples and no means of five minutes are dropped, however old they are.

    For whoever adds the past part by part: of a window that is dropped halfway only the first half would count.
    """
    holder = control.connect()
    try:
        holder.autocommit = True
        holder.execute(_SHARE, [IMPORT])  # until this connection ends, however that comes about
        yield
    finally:
        holder.close()


@contextmanager
def importing(control: ControlDatabase, writer: LoadWriter, source: Source) -> Iterator[LoadImport]:
    """Import in the block; what came is rolled up at its end.

    If the block fails or the process dies, what was added stays as samples and is not rolled up: of a window that is
    half imported there is no mean. The same import done again completes it.
    """
    with undropped(control):
        batch = LoadImport(writer, source)
        yield batch
        if batch.windows:
            with transaction(control) as conn:
                mark_windows(conn, batch.windows)
            LoadKeeper(control).roll_up()
