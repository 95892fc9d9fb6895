"""What a request would do to a migration, told before it is made. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from foreshard.control.flip_store import FlipRecord
from foreshard.control.migration_models import Resource
from foreshard.control.migration_store import MigrationRecord
from foreshard.control.request_store import RequestRecord
from foreshard.migration.lifecycle import Stage
from foreshard.migration.requests import INTERRUPTIBLE, Ask, Ruling
from foreshard.topology.keys import SLOTS


def foresee(
    record: MigrationRecord,
    kind: Ask,
    ruling: Ruling,
    open_: RequestRecord | None,
    driver: str | None,
    resources: Sequence[Resource],
    flips: Sequence[FlipRecord],
) -> dict[str, Any]:
    """Plain JSON. ``driver``: who drives the migration now; ``resources``: all that it ever made."""
    seen = {
        "migration": record.id,
        "asked": kind.value,
        "ruling": ruling.value,
        "stage": record.stage.value,
        "driven_by": driver,
        "open_request": None if open_ is None else open_.in_words,
        "effective": _when(record.stage, kind, driver),
    }
    if not kind.gives_back:
        return seen
    pauses = [flip.pause_ms for flip in flips if flip.pause_ms is not None]
    left = Counter((one.shard, one.kind) for one in resources if one.removed_at is None)
    return {
        **seen,
        "ends_as": _end(record).value,
        "slots_back": record.bound,
        "slots": SLOTS,
        "to": record.source,
        "writers_waited_ms_last": round(pauses[-1], 1) if pauses else None,
        "removed": [
            {"shard": shard, "kind": what, "count": count} for (shard, what), count in sorted(left.items())
        ],
    }


def in_words(document: dict[str, Any], source: str, target: str) -> list[str]:
    """The same for people, a line each."""
    lines = [f"Migration {document['migration']} is at {document['stage']}; {document['effective']}."]
    if document["open_request"]:
        stands = {"same": "stands already", "replaces": "is replaced", "resumes": "is over then"}
        lines.append(f"Open: {document['open_request']}: it {stands.get(document['ruling'], 'stays')}.")
    if "ends_as" not in document:
        return lines
    if document["slots_back"]:
        share = 100 * document["slots_back"] / document["slots"]
        waited = document["writers_waited_ms_last"]
        last = "" if waited is None else f" (the last flip: {waited:g} ms)"
        lines.append(
            f"One flip gives {document['slots_back']} of {document['slots']} slots ({share:.3g} %) back to {source}; "
            f"their writers wait for some milliseconds{last}."
        )
    else:
        lines.append(f"No key has moved: {source} owns all of them, nothing flips.")
    things = ", ".join(f"{one['count']} {one['kind']} on {one['shard']}" for one in document["removed"])
    lines.append(
        f"Then removed: {things}." if things else f"Nothing stands on {source} or {target} to be removed."
    )
    lines.append(f"It ends as {document['ends_as']}: {source} owns all keys, {target}'s copy is gone.")
    return lines


def _end(record: MigrationRecord) -> Stage:
    cut_over = record.stage in (Stage.SOAK, Stage.REVERSING) or (
        record.stage is Stage.CUTOVER and record.bound == SLOTS
    )
    return Stage.REVERSED if cut_over else Stage.ABORTED


def _when(stage: Stage, kind: Ask, driver: str | None) -> str:
    if kind is Ask.RESUME:
        return "its run goes on at once"
    if driver is None:
        return "nobody drives it, so it is done at once"
    if stage in INTERRUPTIBLE:
        return f"{driver} stops at its next safe point, within seconds"
    return f"{driver} ends {stage} first"
