"""Finalise: end the reverse stream, drop the source's copy, remove everything the migration made. No way back."""

from __future__ import annotations

from typing import Any

from foreshard.errors import ForeshardError
from foreshard.migration import streams, teardown
from foreshard.migration.progress import Report
from foreshard.migration.work import Work
from foreshard.postgres.guard import Side
from foreshard.topology.keys import SLOTS


def run(work: Work, report: Report) -> dict[str, Any]:
    """Drop the source's copy.

    Raises:
        GateRefused: the checks after the cutover were not run, or did not pass.
        ForeshardError: the target does not own everything, or something could not be removed.
    """
    del report
    record = work.record
    if not work.facts().get("finalising"):
        work.flips.require_gate(record.id, "after_cutover", record.flip_no)
        bounds = work.bounds()
        if (bounds.source, bounds.target) != (SLOTS, SLOTS):
            raise ForeshardError(
                f"Migration {record.id} is not cut over: bounds {bounds.source} and {bounds.target}.",
                remedy="Resume it; finalise comes after the cutover.",
            )
        streams.check(work)
        # From here on a resumed run goes on dropping: the gate has said yes, and half a way back is none.
        work.store.put_facts(work.lease, finalising=True)
    teardown.run(work, loser=Side.SOURCE)
    return {"leftovers": 0}
