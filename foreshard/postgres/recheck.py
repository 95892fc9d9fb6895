"""The re-check of chunks that differ: their rows are read on both sides, and rows that differ are watched until it is
certain what they are (`foreshard.postgres.last_word`). What is in memory at once is bounded by `ROWS_AT_ONCE`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from foreshard.postgres.chunks import Chunking, batches, by_hash
from foreshard.postgres.connect import Connection
from foreshard.postgres.digest_scan import Digests, read_sums
from foreshard.postgres.last_word import Key, Reading, Readings, Seen, Word
from foreshard.postgres.pair import Sides
from foreshard.postgres.snapshot_pair import SnapshotPair
from foreshard.postgres.table_shape import Among, TableShape
from foreshard.postgres.wanted_keys import parameters
from foreshard.topology.keys import KeyType

ROUNDS = 40
"""How often a key that is being written is looked at again before it is called unsettled."""

ROWS_AT_ONCE = 20_000
"""Rows of one side that are held at a time; a chunk with more is cut into parts by a hash of the key."""

MOST_NAMED = 10_000
"""Keys of one table that are named. Whoever has so many differences will not read on, and neither do we."""

PARTS_SEED = 101
"""Far from the seeds of chunks by hash, or every row of a chunk would fall into the same part of it."""

Drain: TypeAlias = Callable[[], None]
"""Returns when everything committed on either side before the call has been applied on the other."""

Bound: TypeAlias = Callable[[], int]
"""The ownership bound now: the target owns the slots below it."""


@dataclass
class Findings:
    """What is known of the differing chunks of one table.

    ``words``: of every key that is not known to be equal; ``chunk_of`` says where it is, ``seen`` how it looked last.
    ``read``: chunks that were read; ``rows``: how many rows that were. ``fence_ms``: this table's share of a fence.
    """

    read: set[int] = field(default_factory=set)
    rows: int = 0
    words: dict[Key, Word] = field(default_factory=dict)
    chunk_of: dict[Key, int] = field(default_factory=dict)
    seen: dict[Key, Sides[Seen | None]] = field(default_factory=dict)
    fence_ms: float = 0.0

    @property
    def unsettled(self) -> list[Key]:
        """Keys that were written too often to be judged."""
        return [key for key, word in self.words.items() if word is Word.UNSETTLED]

    def settle(self, words: Mapping[Key, Word], seen: Sides[Reading]) -> None:
        """Put in what is known now, by the reading that decided it."""
        for key, word in words.items():
            if word is Word.EQUAL:
                self.words.pop(key, None)
                self.chunk_of.pop(key, None)
                self.seen.pop(key, None)
            else:
                self.words[key] = word
                self.seen[key] = Sides(seen.source.get(key), seen.target.get(key))


class Recheck:
    """Re-checks one table. Rows of slots that are not ``judged`` are left out."""

    def __init__(
        self,
        sessions: SnapshotPair,
        shape: TableShape,
        chunking: Chunking,
        distribution: tuple[str, KeyType],
        bound: Bound,
        drain: Drain,
        judged: range,
    ) -> None:
        self._sessions, self._distribution = sessions, distribution
        self._shape, self._chunking, self._identity = shape, chunking, shape.identity
        self._bound, self._drain, self._judged = bound, drain, judged

    def run(self, differing: Mapping[int, int]) -> Findings:
        """Look at the rows of these chunks, which are about so many each."""
        findings = Findings()
        self._drain()  # what was only late is no longer to be seen
        for chunks, among in self._lots(differing):
            seen = self._read(among)
            keys = seen.source.keys() | seen.target.keys()
            findings.rows += len(keys)
            suspects = {key: seen.source.get(key) or seen.target[key] for key in keys if _unlike(seen, key)}
            suspects = {key: row for key, row in suspects.items() if row.slot in self._judged}
            findings.chunk_of.update((key, row.chunk) for key, row in suspects.items())
            self._watch(findings, seen, suspects)
            findings.read.update(chunks)
            if len(findings.words) >= MOST_NAMED:
                break
        return findings

    def judge(self, findings: Findings, bound: int) -> None:
        """The last word on what is unsettled, while the sessions read as of a moment when nothing was under way."""
        keys = findings.unsettled
        seen = self._read_named(keys)
        word = self._identity.word_at_one_moment
        findings.settle({key: word(key, seen, bound) for key in keys}, seen)

    def _lots(self, differing: Mapping[int, int]) -> Iterator[tuple[list[int], Among]]:
        """What to read at a time, and which chunks are finished with it.

        That is some chunks or, one after the other, the differing parts of a large one.
        """
        for chunks in batches(differing, ROWS_AT_ONCE):
            rows = sum(differing[chunk] for chunk in chunks)
            if rows <= ROWS_AT_ONCE:
                yield chunks, self._shape.among_chunks(self._chunking, chunks)
                continue
            parts = by_hash(rows, PARTS_SEED)
            among = self._shape.among_chunks(self._chunking, chunks)
            sums = self._both(among, partial(read_sums, shape=self._shape, chunking=parts, among=among))
            lots = list(batches(Digests(parts, sums).differing, ROWS_AT_ONCE)) or [[]]
            for number, lot in enumerate(lots, 1):
                among_parts = self._shape.among_chunks(self._chunking, chunks, (parts, lot))
                yield chunks if number == len(lots) else [], among_parts

    def _watch(self, findings: Findings, seen: Sides[Reading], suspects: Collection[Key]) -> None:
        """The last word on each suspect, or that there is none."""
        findings.settle(dict.fromkeys(suspects, Word.UNSETTLED), seen)
        before, unsettled = seen, list(suspects)
        for _ in range(ROUNDS):
            if not unsettled:
                break
            bound = self._bound()
            first = self._read_named(unsettled)
            self._drain()
            middle = self._read_named(unsettled)
            last = self._read_named(unsettled)
            if self._bound() == bound:
                readings = Readings(before, first, middle, last, bound)
                words = {key: self._identity.last_word(key, readings) for key in unsettled}
                findings.settle(words, middle)
                unsettled = [key for key, word in words.items() if word is Word.UNSETTLED]
            before = last

    def _read(self, among: Among) -> Sides[Reading]:
        query = self._shape.rows_query(*self._distribution, self._chunking, among)
        return self._both(among, lambda session: _reading(session.execute(query, among.parameters)))

    def _both(self, among: Among, read: Callable[[Connection], Any]) -> Sides[Any]:
        """With the index where it leads to the rows: an estimate of how many they are must not say otherwise."""

        def by_the_right_way(session: Connection) -> Any:
            with session.transaction():
                session.execute("SET LOCAL enable_seqscan = " + ("off" if among.by_index else "on"))
                return read(session)

        return self._sessions.both(by_the_right_way)

    def _read_named(self, keys: Sequence[Key]) -> Sides[Reading]:
        return self._sessions.both(lambda session: self._fetch_named(session, keys))

    def _fetch_named(self, session: Connection, keys: Sequence[Key]) -> Reading:
        query = self._shape.named_query(*self._distribution, self._chunking)
        return _reading(session.execute(query, parameters(keys)))


def _reading(rows: Iterable[tuple[Any, ...]]) -> Reading:
    return {tuple(key): Seen(slot, version, digest, chunk) for key, slot, version, digest, chunk in rows}


def _unlike(seen: Sides[Reading], key: Key) -> bool:
    source, target = seen.source.get(key), seen.target.get(key)
    return source is None or target is None or source.digest != target.digest
