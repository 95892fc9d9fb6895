"""Finalise: end the reverse stream, drop the source's copy, remove everything the migration made. No way back."""

from __future__ import annotations

from typing import Any

from foreshard.control.verification_store import VerificationStore
from foreshard.errors import ForeshardError, IllegalTransition, InvalidInput, StreamBroken, VerificationFailed
from foreshard.migration import routers, teardown, verification, way_back
from foreshard.migration.lifecycle import Stage
from foreshard.migration.progress import Report
from foreshard.migration.work import Work
from foreshard.postgres import guard
from foreshard.postgres.guard import Side
from foreshard.topology.keys import SLOTS


def run(work: Work, report: Report) -> dict[str, Any]:
    """Drop the source's copy. By a person's word (`end_way_back`) without checks, and without a source that is gone.

    Routers that have not heard of the cutover are waited for, ``router_ack_timeout_s`` at the longest: without the copy
    they are refused, and find their way by that.

    Raises:
        GateRefused: the checks after the cutover were not run, or did not pass.
        VerificationFailed: a verification failed, none since has passed, and nobody has said that it may be overruled.
        StreamBroken: there is no way back any more, and nobody has said yet that none is wanted.
        ForeshardError: the target does not own everything, or something could not be removed.
    """
    record = work.record
    said_by = work.facts().get("way_back_ended_by")
    if not work.facts().get("finalising"):
        verification.refuse_failed(work)
        if said_by is None:
            work.flips.require_gate(record.id, "after_cutover", record.flip_no)
            bounds = work.bounds()
            _require_all(work, bounds.target if bounds.source == SLOTS else bounds.source)
            way_back.check(work)
        else:
            _require_all(work, _target_bound(work))
        for bucket in record.buckets:  # from here on the source's is a copy that may have to be found again
            work.store.record_resource(work.lease, work.source.name, "copy", bucket)
        # From here on a resumed run goes on dropping: the gate has said yes, and half a way back is none.
        work.store.put_facts(work.lease, finalising=True)
    # The newest epoch is that of the cutover or a later one.
    behind = routers.await_acknowledged(
        work, work.topology.routing_epoch(), report, work.settings.router_ack_timeout_s
    )
    alone = said_by is not None and not work.answers(Side.SOURCE)
    left = teardown.run(work, loser=Side.SOURCE, without=Side.SOURCE if alone else None)
    result: dict[str, Any] = {"leftovers": len(left)}
    if behind:
        result |= {"routers_behind": [one.name for one in behind], "not_waited_for": routers.named(behind)}
    if said_by is not None:
        result["way_back_ended_by"] = said_by
    if alone:
        note = f"{work.source.name} does not answer: what stands there is left to the janitor"
        result |= {"note": note, "left_to_the_janitor": left}
    return result


def end_way_back(
    work: Work, said_by: str, *, without_source: bool, despite_differences: bool = False
) -> None:
    """A person's word that no way back is wanted: finalise may go on although the source does not follow.

    ``despite_differences``: a verification that failed is overruled, too: without a way back no other can be made.
    ``without_source``: the source does not answer at all; else it does, but its reverse stream is broken. A migration
    in soak goes to finalise. The checks after the cutover are skipped: they compare with the source's copy.

    Raises:
        InvalidInput: nobody's name.
        IllegalTransition: it is not cut over, or has ended.
        VerificationFailed: a verification stands against it, and it was not said that it may be overruled.
        ForeshardError: the target does not own everything; or the word does not fit what is found.
    """
    record = work.record
    if not said_by.strip():
        raise InvalidInput("said_by", "is empty.", remedy="Say who decides.")
    if record.stage not in (Stage.SOAK, Stage.FINALISE):
        raise IllegalTransition(
            f"Migration {record.id} is in {record.stage}: only one in soak or finalise can be finalised.",
            remedy="`foreshard abort` gives up one before the cutover.",
        )
    if not work.facts().get("finalising"):
        _require_all(work, _target_bound(work))
    if work.answers(Side.SOURCE) == without_source:
        raise ForeshardError(
            f"{work.source.name} {'answers' if without_source else 'does not answer'}.",
            remedy=f"Say --without-{'way-back' if without_source else 'source'}, if that is what you mean.",
        )
    if not without_source and not work.facts().get("finalising"):
        try:
            way_back.check(work)
        except StreamBroken:
            pass
        else:
            raise ForeshardError(
                f"The way back of migration {record.id} is whole.",
                remedy="Let it soak and finalise by itself: then the checks after the cutover are made, too.",
            )
    failed = VerificationStore(work.control).failed(record.id)
    if failed is not None and not despite_differences:
        raise VerificationFailed(
            f"Verification {failed.id} of migration {record.id} failed, and without a way back no other can be made.",
            remedy=f"`foreshard migration show {record.id}` shows it; --despite-differences overrules it.",
            verification=failed.id,
        )
    if failed is not None:
        work.store.put_facts(work.lease, verification_overruled=failed.id)
    work.store.put_facts(work.lease, way_back_ended_by=said_by)
    if record.stage is Stage.SOAK:
        work.store.go_to(work.lease, Stage.FINALISE)


def _target_bound(work: Work) -> int | None:
    with work.connection(Side.TARGET) as target:
        state = guard.state(target, work.names)
    return None if state is None else state.bound


def _require_all(work: Work, bound: int | None) -> None:
    """The target's bound is 1024, so the source's is, too."""
    if bound != SLOTS:
        raise ForeshardError(
            f"Migration {work.lease.migration} is not cut over: a bound is {bound} of {SLOTS}.",
            remedy="Resume it; finalise comes after the cutover.",
        )
