"""The gate, a process of its own: ``python -m data_checks.gate EVIDENCE.sqlite --migration 12 --flip 3 …``.

Exit code 0 is go, 1 is no, 2 is an error, which is a no too. A go needs: the evidence is of this scope and
fresh, every expectation of the suites was evaluated, once, none of them raised, and no critical one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from data_checks.evidence import problems, sha256, times
from data_checks.own_scope import OwnScope
from data_checks.scope import Checkpoint, Scope
from data_checks.suites import Severity, Suite, expected_count, suites_for
from data_checks.verdict import Finding, Verdict

if TYPE_CHECKING:
    from data_checks.validate import Outcome

GO, NO, ERROR = 0, 1, 2

GX_VERSION = "1.24.1"
"""As `pyproject.toml` pins it."""


def judge(evidence: Path, scope: Scope, time_to_live: timedelta, docs: Path) -> Verdict:
    """The verdict on ``evidence``. Loads Great Expectations: call it in a process of its own."""
    verdict = Verdict.no(scope, expected_count(scope))
    wrong = problems(evidence, scope, time_to_live)
    if wrong:
        return verdict.but(*(Finding("evidence", evidence.name, what) for what in wrong))
    made = times(evidence)
    hash_before = sha256(evidence)
    missing = _missing_library()
    if missing is not None:
        return verdict.but(Finding("gate", evidence.name, missing))

    # Takes seconds to import, and must not be in the caller.
    from data_checks.provenance import NotOurs
    from data_checks.validate import Validation

    suites = suites_for(scope)
    try:
        validation = Validation(evidence, scope, docs)
        outcomes = validation.run(suites)
    except NotOurs as foreign:
        return verdict.but(Finding("gate", evidence.name, str(foreign)))
    failed = [*_coverage(suites, outcomes), *_failures(outcomes)]
    warnings = [
        _finding(o) for o in outcomes if o.severity is Severity.WARNING and not (o.success or o.raised)
    ]
    page = None
    try:
        page = validation.build_docs()
    except Exception as error:  # the verdict does not depend on a picture of it
        warnings.append(Finding("data docs", str(docs), f"they could not be built: {error}"))
    if sha256(evidence) != hash_before:
        failed.append(Finding("evidence", evidence.name, "it changed while it was judged"))
    return replace(
        verdict,
        passed=not failed and len(outcomes) == verdict.expected,
        evaluated=len(outcomes),
        failed=tuple(failed),
        warnings=tuple(warnings),
        evidence_sha256=hash_before,
        evidence_made_at=made.made_at.isoformat() if made else None,
        docs=page,
        evidence_begun_at=made.begun_at.isoformat() if made else None,
    )


def _missing_library() -> str | None:
    """What is wrong with the Great Expectations that is installed here. What it does was tried with one version."""
    try:
        found = version("great_expectations")
    except PackageNotFoundError:
        return f"Great Expectations is not installed here: pip install great_expectations=={GX_VERSION}"
    if found == GX_VERSION:
        return None
    return f"Great Expectations is {found} here: pip install great_expectations=={GX_VERSION}"


def _coverage(suites: Sequence[Suite], outcomes: Sequence[Outcome]) -> list[Finding]:
    """Expectations that were left out, came twice, or were in no suite."""
    wanted = Counter((suite.table, check.name) for suite in suites for check in suite.checks)
    got = Counter((outcome.table, outcome.check) for outcome in outcomes)
    return [
        Finding(
            "coverage", table, f"{check}: evaluated {got[table, check]} times, not {wanted[table, check]}"
        )
        for table, check in sorted(wanted.keys() | got.keys())
        if got[table, check] != wanted[table, check]
    ]


def _failures(outcomes: Sequence[Outcome]) -> list[Finding]:
    return [_finding(o) for o in outcomes if o.raised or (o.severity is Severity.CRITICAL and not o.success)]


def _finding(outcome: Outcome) -> Finding:
    return Finding(outcome.expectation, outcome.table, outcome.what)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    scope = Scope(
        options.migration,
        options.flip,
        options.marker,
        options.checkpoint,
        tuple(options.bucket),
        tuple(options.table),
        options.chunks,
        tuple(options.own_suite),
    )
    code = ERROR
    # Whatever a library prints must not stand between the caller and the verdict.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            time_to_live = timedelta(seconds=options.time_to_live)
            verdict = judge(options.evidence, scope, time_to_live, options.docs)
            code = GO if verdict.passed else NO
        except Exception as error:
            finding = Finding("gate", options.evidence.name, f"it broke: {type(error).__name__}: {error}")
            verdict = Verdict.no(scope, expected_count(scope), finding)
    verdict = replace(verdict, seconds=round(time.monotonic() - started, 3))
    print(verdict.as_json() if options.json else _in_words(verdict), flush=True)
    return code


def _in_words(verdict: Verdict) -> str:
    lines = [
        f"{'GO' if verdict.passed else 'NO'}: migration {verdict.migration}, flip {verdict.flip},"
        f" {verdict.checkpoint}: {verdict.evaluated} of {verdict.expected} expectations evaluated"
    ]
    lines += [f"  failed   {finding.table}: {finding.what}" for finding in verdict.failed]
    lines += [f"  warning  {finding.table}: {finding.what}" for finding in verdict.warnings]
    return "\n".join([*lines, f"  docs     {verdict.docs}"] if verdict.docs else lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_checks.gate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("evidence", type=Path, help="the SQLite file")
    parser.add_argument("--migration", type=int, required=True)
    parser.add_argument("--flip", type=int, required=True, help="number of the flip that the verdict allows")
    parser.add_argument("--marker", required=True, help="name of this attempt, as it stands in the evidence")
    parser.add_argument("--checkpoint", type=Checkpoint, choices=list(Checkpoint), required=True)
    parser.add_argument(
        "--bucket", action="append", required=True, help="one that must be covered; repeatable"
    )
    parser.add_argument(
        "--table", action="append", required=True, help="one that must be covered; repeatable"
    )
    parser.add_argument(
        "--own-suite",
        type=OwnScope.from_argument,
        action="append",
        default=[],
        help="a suite of the team's own that must be covered, as JSON; repeatable",
    )
    parser.add_argument("--chunks", type=int, required=True, help="chunks of each table of each bucket")
    parser.add_argument("--time-to-live", type=float, required=True, help="seconds that the evidence lasts")
    parser.add_argument("--docs", type=Path, required=True, help="directory for this run's Data Docs")
    parser.add_argument("--json", action="store_true", help="print the verdict as one line of JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
