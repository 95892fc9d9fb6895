"""Asks the gate: starts its process, and takes anything but a clean go for a no."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from data_checks.evidence import Times, sha256, times
from data_checks.scope import Scope
from data_checks.suites import expected_count
from data_checks.verdict import Finding, Verdict
from foreshard.postgres import passwords

_ROOT = Path(__file__).resolve().parent.parent
_TAIL = 2000  # characters of a broken gate's last words


def run_gate(
    evidence: Path, scope: Scope, docs: Path, *, time_to_live: timedelta, timeout_s: float = 180
) -> Verdict:
    """The gate's verdict on ``evidence`` for ``scope``; Data Docs of the run go into ``docs``.

    Never raises for a gate that misbehaves: a crash, a timeout, a garbled, foreign or contradictory answer is
    a verdict that says no and why.
    """
    expected = expected_count(scope)

    def no(what: str) -> Verdict:
        return Verdict.no(scope, expected, Finding("gate", evidence.name, what))

    try:
        hash_before = sha256(evidence)
    except OSError as error:
        return no(f"the evidence cannot be read: {error}")
    try:
        # -P: what lies in the working directory must not be imported in place of a library.
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "data_checks.gate",
                *_arguments(evidence, scope, docs, time_to_live),
            ],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return no(f"it did not answer within {timeout_s:g} s")
    except OSError as error:
        return no(f"it could not be started: {error}")
    lines = done.stdout.splitlines()
    try:
        verdict = Verdict.from_json(lines[-1] if lines else "")
    except (ValueError, TypeError, KeyError):
        return no(f"it ended with code {done.returncode} and no verdict: {done.stderr[-_TAIL:].strip()}")
    doubts = _doubts(verdict, scope, expected, hash_before, times(evidence), done.returncode)
    return verdict.but(*(Finding("gate", evidence.name, doubt) for doubt in doubts)) if doubts else verdict


def _doubts(
    verdict: Verdict, scope: Scope, expected: int, evidence_sha256: str, made: Times | None, exit_code: int
) -> list[str]:
    """Where a go contradicts itself or what was asked. A no needs no doubts."""
    if not verdict.passed:
        return []
    asked = (scope.migration, scope.flip, scope.marker, scope.checkpoint.value)
    answered = (verdict.migration, verdict.flip, verdict.marker, verdict.checkpoint)
    doubts = {
        f"it said go and ended with code {exit_code}": exit_code != 0,
        f"it answered for {answered}, not {asked}": answered != asked,
        f"it evaluated {verdict.evaluated} of {expected} expectations": not (
            verdict.evaluated == verdict.expected == expected
        ),
        "it said go beside failures": bool(verdict.failed),
        "it judged other evidence": verdict.evidence_sha256 != evidence_sha256,
        f"it says that the evidence was made at {verdict.evidence_made_at}, which it was not": (
            made is None or verdict.evidence_made_at != made.made_at.isoformat()
        ),
    }
    return [doubt for doubt, holds in doubts.items() if holds]


def _arguments(evidence: Path, scope: Scope, docs: Path, time_to_live: timedelta) -> list[str]:
    single = {
        "--migration": scope.migration,
        "--flip": scope.flip,
        "--marker": scope.marker,
        "--checkpoint": scope.checkpoint.value,
        "--chunks": scope.chunks,
        "--time-to-live": time_to_live.total_seconds(),
        "--docs": docs,
    }
    # "--name=value": a name that begins with a dash is a value too.
    return [
        *(f"{name}={value}" for name, value in single.items()),
        *(f"--bucket={bucket}" for bucket in scope.buckets),
        *(f"--table={table}" for table in scope.tables),
        *(f"--own-suite={suite.as_argument()}" for suite in scope.own),
        "--json",
        "--",
        str(evidence),
    ]


def _environment() -> dict[str, str]:
    """Ours without passwords: the gate reads a file and logs in nowhere."""
    with passwords.for_child(None) as login:
        return library_environment(login.environment)


def library_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` without what steers Great Expectations or Python; one thread for numeric libraries."""
    kept = {
        name: value for name, value in environment.items() if not name.startswith(("GX_", "GE_", "PYTHON"))
    }
    inherited = os.environ.get("PYTHONPATH")
    paths = [str(_ROOT), *([inherited] if inherited else [])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
