"""How a table's comparison is told: in few chunks, whatever number was compared. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from foreshard.postgres.digest_scan import Digests
from foreshard.postgres.last_word import Word
from foreshard.postgres.recheck import Findings


@dataclass(frozen=True)
class ChunkDigest:
    """One chunk of the result on both sides; digests are decimal text. The target's are None if it has no such table.

    It stands for all chunks of the comparison with this remainder. Where a re-check by row found the rows equal, both
    sides show what the source showed.
    """

    chunk: int
    source_rows: int
    source_digest: str
    target_rows: int | None
    target_digest: str | None
    rechecked: bool = False
    undecided: int = 0


def told(
    digests: Digests, findings: Findings, chunks: int, *, target_is_there: bool
) -> Iterator[ChunkDigest]:
    """The chunks of the comparison, folded into so many."""
    source, target = digests.sums.source, digests.sums.target
    bad = {findings.chunk_of[key] for key, word in findings.words.items() if word is not Word.UNSETTLED}
    undecided = Counter(findings.chunk_of[key] for key in findings.unsettled)
    totals: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0, 0])
    for chunk in source.keys() | target.keys():
        here = source.get(chunk, (0, 0))
        there = target.get(chunk, (0, 0))
        read = chunk in findings.read
        unread = here != there and not read and target_is_there
        shown = here if read and chunk not in bad else there
        # Rows of a chunk that differs and was left unread, after very many differences, nobody has judged.
        nobody = max(here[0], there[0]) if unread else 0
        total = totals[chunk % chunks]
        for place, value in enumerate((*here, *shown, int(read), undecided[chunk] + nobody)):
            total[place] += value
    for chunk in range(chunks):
        rows, digest, target_rows, target_digest, rechecked, open_ones = totals[chunk]
        yield ChunkDigest(
            chunk,
            rows,
            str(digest),
            target_rows if target_is_there else None,
            str(target_digest) if target_is_there else None,
            rechecked > 0,
            open_ones,
        )
