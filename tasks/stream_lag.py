"""How far both streams of a migration are behind, for the artifact of its progress: as the runner read it last."""

from __future__ import annotations

from foreshard.control.stream_store import StreamStore
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.migration.work import Work
from foreshard.quantities import UNKNOWN, duration, size

_STREAMING = PATH[PATH.index(Stage.BACKFILL) : PATH.index(Stage.FINALISE)]


def lines(work: Work) -> list[str]:
    """A line of markdown where streams run. Bytes of WAL that the other side has not confirmed: all of the server's."""
    read = StreamStore(work.control).of(work.record.id)
    if work.record.stage not in _STREAMING or read is None:
        return []
    _, reading = read
    forward = _behind(reading.forward_lag_bytes, reading.forward_lag_s)
    back = _behind(reading.reverse_lag_bytes, reading.reverse_lag_s)
    return [f"Lag of the streams: to the target {forward}, back to the source {back}."]


def _behind(lag_bytes: int | None, lag_s: float | None) -> str:
    text = f"**{UNKNOWN if lag_bytes is None else size(lag_bytes)}**"
    return text if lag_s is None else f"{text} ({duration(lag_s)})"
