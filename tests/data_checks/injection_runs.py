"""Runs of the real collector and the real gate on a checked pair: of each fault alone, and of none under writes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from data_checks.run_gate import run_gate
from data_checks.verdict import Finding, Verdict
from foreshard.postgres.digests import TableComparison
from tests.data_checks.checked_pair import SCOPE, TIME_TO_LIVE, CheckedPair
from tests.data_checks.checked_writers import writing
from tests.data_checks.faults import Fault, faults_of, inject, repair
from tests.unseen_session import unseen

WRITES_PER_S = 500
NONE = Fault("none: equal copies", "SELECT", "SELECT", (), "")

Say: TypeAlias = Callable[[str], None]
"""Is told of every run."""


@dataclass(frozen=True)
class Run:
    """A verdict, and the seconds since the first look at the data; ``gate_s`` of them are the gate's process."""

    verdict: Verdict
    seconds: float
    gate_s: float


@dataclass(frozen=True)
class Injection:
    """A fault, and what the gate said of it alone. ``missed``: empty if that was all that should be said."""

    fault: str
    failed: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    missed: str
    seconds: float
    gate_s: float


@dataclass(frozen=True)
class Alarms:
    """Runs on equal data. ``raised``: what they said that should not have been said; ``written``: writes meanwhile.

    ``rechecked``: chunks that differed at first sight, in all runs: in how far the writers were in the way.
    """

    runs: tuple[Run, ...]
    raised: tuple[Finding, ...]
    rechecked: int
    fence_ms: float
    written: int
    seconds: float


def run_faults(checked: CheckedPair, say: Say) -> list[Injection]:
    """Each alone, after equal copies and before them: what was repaired must be a fault no more."""
    faults = [NONE, *faults_of(checked.rows), NONE]
    injections = []
    with unseen(checked.pair.target) as target:
        for number, fault in enumerate(faults, 1):
            inject(target, [fault])
            run, _ = ask(checked)
            repair(target, [fault])
            missed = fault.missed(run.verdict)
            verdict = run.verdict
            injections.append(
                Injection(fault.name, verdict.failed, verdict.warnings, missed, run.seconds, run.gate_s)
            )
            say(f"{number}/{len(faults)} {fault.name}: {run.seconds:.1f} s, {missed or 'as it should be'}")
    return injections


def run_alarms(checked: CheckedPair, times: int, say: Say) -> Alarms:
    """So many runs under writes at both owners; none may find anything."""
    runs: list[Run] = []
    raised: list[Finding] = []
    rechecked, fence_ms = 0, 0.0
    begun = time.monotonic()
    with writing(checked, WRITES_PER_S) as written:
        for number in range(1, times + 1):
            run, compared = ask(checked)
            runs.append(run)
            found = [*run.verdict.failed, *run.verdict.warnings]
            raised += found
            rechecked += sum(one.rechecked for one in compared)
            fence_ms = max(fence_ms, sum(one.fence_ms for one in compared))
            if found or not run.verdict.passed or number % 5 == 0 or number == times:
                said = found or ("passed" if run.verdict.passed else "no, without a finding")
                say(f"{number}/{times}: {run.seconds:.1f} s, {rechecked} chunks rechecked so far, {said}")
        seconds = time.monotonic() - begun
    return Alarms(tuple(runs), tuple(raised), rechecked, fence_ms, written.acknowledged, seconds)


def fault_figures(rows: int, injections: Sequence[Injection]) -> dict[str, object]:
    """For a report."""
    return {
        "rows": rows,
        "faults": len(injections) - 2,
        "missed": [one.fault for one in injections if one.missed],
        "seconds.median": round(statistics.median(one.seconds for one in injections), 1),
        "gate_s.median": round(statistics.median(one.gate_s for one in injections), 1),
        "injections": [asdict(one) for one in injections],
    }


def alarm_figures(checked: CheckedPair, alarms: Alarms) -> dict[str, object]:
    """For a report."""
    return {
        "rows": checked.rows,
        "runs": len(alarms.runs),
        "passed": sum(run.verdict.passed for run in alarms.runs),
        "raised": [asdict(finding) for finding in alarms.raised],
        "writes_per_s": round(alarms.written / alarms.seconds),
        "rechecked_chunks": alarms.rechecked,
        "fence_ms.max": round(alarms.fence_ms, 1),
        "seconds.median": round(statistics.median(run.seconds for run in alarms.runs), 1),
        "gate_s.median": round(statistics.median(run.gate_s for run in alarms.runs), 1),
    }


def ask(checked: CheckedPair) -> tuple[Run, list[TableComparison]]:
    """Evidence made now, and the gate's verdict on it."""
    with tempfile.TemporaryDirectory() as name:
        evidence = Path(name) / "evidence.sqlite"
        begun = time.monotonic()
        compared = checked.compare(evidence)
        collected = time.monotonic()
        verdict = run_gate(evidence, SCOPE, Path(name) / "docs", time_to_live=TIME_TO_LIVE)
        ended = time.monotonic()
    return Run(verdict, round(ended - begun, 2), round(ended - collected, 2)), compared
