"""Sequences are not replicated: before a side takes writes, its sequences jump ahead of the other side's."""

from __future__ import annotations

from foreshard.migration.work import Work
from foreshard.postgres import sequences
from foreshard.postgres.guard import Side

MARGIN = 1_000_000
"""Increments to jump ahead by, so that both sides never give out the same value while both are written."""


def give(work: Work, opening: Side) -> None:
    """Move the sequences of the side that is going to open; never backwards, so it may be done again.

    Raises:
        DataMismatch: a sequence of the target has no room for it.
    """
    with work.connections() as (source, target):
        if opening is Side.TARGET:
            sequences.advance(target, source, work.buckets, MARGIN)
        else:
            sequences.advance(source, target, work.buckets, MARGIN, at_any_rate=True)
