"""What is told of chunks: equal where they were found equal, different where not, undecided where left unread."""

from __future__ import annotations

from foreshard.postgres.chunk_digest import ChunkDigest, told
from foreshard.postgres.chunks import ByRange
from foreshard.postgres.digest_scan import Digests
from foreshard.postgres.last_word import Seen, Word, word_at_one_moment
from foreshard.postgres.pair import Sides
from foreshard.postgres.recheck import Findings

DIGESTS = Digests(
    ByRange(10),
    Sides(
        {-3: (1, 10), 0: (2, 20), 2: (3, 30), 1: (4, 40), 5: (1, 7)},
        {-3: (1, 10), 0: (2, 21), 2: (4, 39), 1: (4, 40), 7: (2, 9)},
    ),
)


def test_differing_chunks_are_those_of_either_side() -> None:
    assert DIGESTS.differing == {0: 2, 2: 4, 5: 1, 7: 2}


def test_chunks_are_folded_by_their_remainder() -> None:
    findings = Findings(
        read={0, 2, 5, 7},
        words={("1",): Word.CHANGED, ("2",): Word.UNSETTLED},
        chunk_of={("1",): 2, ("2",): 0},
    )
    even, odd = told(DIGESTS, findings, 2, target_is_there=True)
    # Chunk 2 keeps its difference; 0 is equal but for a key that is undecided.
    assert even == ChunkDigest(0, 5, "50", 6, "59", True, 1)
    assert odd == ChunkDigest(1, 6, "57", 6, "57", True, 0)


def test_rows_of_a_chunk_that_was_left_unread_are_undecided() -> None:
    even, odd = told(DIGESTS, Findings(read={0, 2, 5}), 2, target_is_there=True)
    assert (even.undecided, odd.undecided) == (0, 2)
    assert odd.target_digest != odd.source_digest


def test_a_table_that_is_not_there_has_no_digests() -> None:
    (only,) = told(Digests(ByRange(0), Sides({1: (2, 3)}, {})), Findings(), 1, target_is_there=False)
    assert only == ChunkDigest(0, 2, "3", None, None)


def test_settled_keys_that_are_equal_are_forgotten() -> None:
    findings = Findings(
        words={("1",): Word.UNSETTLED, ("2",): Word.UNSETTLED}, chunk_of={("1",): 1, ("2",): 2}
    )
    row = Seen(600, "1", 5, 2)
    findings.settle({("1",): Word.EQUAL, ("2",): Word.GHOST}, Sides({}, {("2",): row}))
    assert (findings.words, findings.chunk_of, findings.unsettled) == (
        {("2",): Word.GHOST},
        {("2",): 2},
        [],
    )
    assert findings.seen == {("2",): Sides(None, row)}


def test_between_fenced_snapshots_what_differs_differs() -> None:
    row, other = Seen(600, "1", 5, 0), Seen(600, "2", 6, 0)
    here, there, none = {("1",): row}, {("1",): other}, {}

    def word(source: dict[tuple[str, ...], Seen], target: dict[tuple[str, ...], Seen], bound: int) -> Word:
        return word_at_one_moment(("1",), Sides(source, target), bound)

    assert [word(here, here, 0), word(none, none, 0), word(here, there, 0)] == [
        Word.EQUAL,
        Word.EQUAL,
        Word.CHANGED,
    ]
    assert [word(here, none, 512), word(none, here, 512)] == [Word.MISSING, Word.GHOST]
    assert [word(here, none, 700), word(none, here, 700)] == [
        Word.GHOST,
        Word.MISSING,
    ]  # the target owns slot 600
