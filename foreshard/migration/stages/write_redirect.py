"""Write redirect: the target owns a small, growing share of the writes; one call is one canary step."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from foreshard.errors import WritesNotMeasured
from foreshard.migration import canary, head_start, streams
from foreshard.migration.canary import Share
from foreshard.migration.flip import flip
from foreshard.migration.headroom import HeadroomWatch
from foreshard.migration.progress import Progress, Report
from foreshard.migration.stages.read_shadow import refuse_mismatch
from foreshard.migration.work import Work
from foreshard.postgres import replication_slots, sequences, write_sample
from foreshard.postgres.guard import Side
from foreshard.postgres.sequences import Name

POLL_S = 0.5


def chosen(work: Work, percent: float) -> Share | None:
    """The bound that an earlier attempt at this step chose, before it flipped; None if the step has to choose yet."""
    document = work.facts().get("canary", {}).get(str(percent))
    return None if document is None else Share.from_json(document)


def run(work: Work, percent: float, report: Report) -> dict[str, Any]:
    """Flip so that the target takes ``percent`` of the writes, then watch until enough were redirected or time is up.

    Raises:
        FlipFailed, StreamBroken, DataMismatch: what was found; the bound stays where it is.
    """
    before = _redirected(work)
    share = chosen(work, percent) or _choose(work, percent, report)
    head_start.keep_apart(work)
    headroom = HeadroomWatch(work)
    headroom.await_room(report, partial(streams.check, work))
    # A step whose share has been passed already (its setting was changed meanwhile) takes nothing back.
    done = flip(work, max(share.bound, work.record.bound))
    deadline = time.monotonic() + work.settings.canary_soak_s
    while True:
        headroom.look(report)
        streams.check(work)
        refuse_mismatch(work)
        head_start.keep_apart(work)
        redirected = _redirected(work) - before
        report(
            Progress(f"writes redirected at {share}", redirected, work.settings.canary_min_writes, "writes")
        )
        if redirected >= work.settings.canary_min_writes or time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return {
        "percent": percent,
        **work.facts()["canary"][str(percent)],
        "pause_ms": None if done is None else round(done.pause_ms, 3),
        "redirected_transactions": redirected,
    }


def _choose(work: Work, percent: float, report: Report) -> Share:
    """Measure, choose, and store the choice before it is acted upon: a step that is resumed never flips twice."""
    sample, why_not = None, "canary_sample_s is 0"
    rates: dict[Name, float] = {}
    if work.settings.canary_sample_s > 0:
        try:
            sample, rates = _measure(work, report)
        except WritesNotMeasured as error:
            why_not = error.message
    share = canary.bound_for(percent, {} if sample is None else sample.writes, work.record.bound)
    if sample is not None and share.writes_percent is None:
        why_not = f"{sample.total} writes in {sample.seconds:g} s are too few"
    document = {
        **share.as_json(),
        "measured_writes": None if sample is None else sample.total,
        "not_by_writes": None if share.writes_percent is not None else why_not,
    }
    work.store.put_facts(work.lease, canary={**work.facts().get("canary", {}), str(percent): document})
    head_start.keep_apart(work, rates)
    return share


def _measure(work: Work, report: Report) -> tuple[write_sample.WriteSample, dict[Name, float]]:
    """Where the writes go, and how many values a second each sequence of the source gives out meanwhile."""
    seconds = work.settings.canary_sample_s
    with work.connections(write_sample.SLOT_PATIENCE_S) as (source, target):
        began, first = time.monotonic(), sequences.read(source, work.buckets)
        sample = write_sample.measure(
            [source, target] if work.record.bound else [source],
            work.names,
            work.lease.token,
            partial(write_sample.KeyDecoder, work.buckets, work.tables),
            work.key_type,
            seconds,
            lambda passed: report(Progress("measuring where writes go", passed, seconds, "s")),
        )
        last, passed = sequences.read(source, work.buckets), time.monotonic() - began
    rates = {
        name: (last[name].position - state.position) / state.step / passed
        for name, state in first.items()
        if name in last
    }
    return sample, rates


def _redirected(work: Work) -> int:
    """Transactions that began on the target: those its reverse slot has sent (applied ones are filtered out)."""
    with work.connection(Side.TARGET) as target:
        return replication_slots.transactions_sent(target, work.names.reverse)
