"""How far both streams of a migration are behind, for the artifact of its progress."""

from __future__ import annotations

from foreshard.migration.lifecycle import PATH, Stage
from foreshard.migration.work import Work
from foreshard.postgres import replication
from foreshard.quantities import UNKNOWN, size

_STREAMING = PATH[PATH.index(Stage.BACKFILL) : PATH.index(Stage.FINALISE)]

TIMEOUT_S = 2.0


def lines(work: Work) -> list[str]:
    """A line of markdown where streams run. Bytes of WAL that the other side has not confirmed: all of the server's."""
    record = work.record
    if record.stage not in _STREAMING:
        return []
    with work.connections(TIMEOUT_S) as (source, target):
        forward = replication.slot_lag_bytes(source, work.names.forward)
        back = replication.slot_lag_bytes(target, work.names.reverse)
    return [f"Lag of the streams: to the target **{_size(forward)}**, back to the source **{_size(back)}**."]


def _size(lag_bytes: int | None) -> str:
    return UNKNOWN if lag_bytes is None else size(lag_bytes)
