"""Refuses to go on when somebody changed the buckets' definitions while they move.

It stands in for DDL event triggers, which only a superuser can create.
"""

from __future__ import annotations

from foreshard.errors import DataMismatch
from foreshard.migration.lifecycle import Stage
from foreshard.migration.work import Work
from foreshard.postgres import catalog
from foreshard.postgres.guard import Side

_WATCHED = frozenset(
    {
        Stage.BACKFILL,
        Stage.CATCH_UP,
        Stage.VERIFY,
        Stage.READ_SHADOW,
        Stage.WRITE_REDIRECT,
        Stage.CUTOVER,
        Stage.SOAK,
    }
)


def refuse_change(work: Work) -> None:
    """Compare the source's catalog with what it was at prepare.

    Raises:
        DataMismatch: DDL was run on a bucket in migration.
    """
    record = work.record
    if record.stage not in _WATCHED:
        return
    with work.connection(Side.SOURCE) as source:
        now = catalog.fingerprint(source, work.buckets)
    if now != record.facts.get("fingerprint"):
        raise DataMismatch(
            f"The definition of a bucket of migration {record.id} was changed while it moves.",
            remedy="Take the change back, or abort the migration and start again.",
            migration=record.id,
        )
