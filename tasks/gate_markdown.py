"""A verdict of the gate in words, for a person who must say yes or no to a flip."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from data_checks.compared import Compared
from data_checks.migration_gate import GateReport
from data_checks.suite_titles import in_words as words
from data_checks.suite_titles import suite_title
from data_checks.suites import suites_for
from data_checks.verdict import Finding, Verdict
from foreshard.markdown import plain
from foreshard.quantities import duration, many, size

SHOWN = 20
"""Findings, and differing rows, that an artifact holds; the Data Docs have more."""

IN_SHORT = 10
"""The same above the approval form."""

_LONGEST = 400  # characters of one finding

_DIGESTS = re.compile(r", (source|target)_digest=-?[0-9]+")  # they say nothing to a person


def in_words(verdict: Verdict) -> str:
    """One line."""
    counts = f"{verdict.evaluated} of {verdict.expected} checks evaluated"
    warned = f", {many(len(verdict.warnings), 'warning')}" if verdict.warnings else ""
    return f"{'go' if verdict.passed else 'NO'}, {counts}, {len(verdict.failed)} failed{warned}"


def as_markdown(report: GateReport) -> str:
    """The artifact: go or no, what was compared, every suite, the findings, where to read on."""
    return "\n".join(
        [
            *_headline(report),
            *_facts(report),
            *_findings(report, SHOWN),
            *_suites(report),
        ]
    )


def in_short(report: GateReport) -> str:
    """The same above the approval form: without the suites, and with fewer findings."""
    return "\n".join([*_headline(report), *_facts(report), *_findings(report, IN_SHORT)])


def _headline(report: GateReport) -> list[str]:
    verdict = report.verdict
    where = f"{words(verdict.checkpoint).lower()}, migration {verdict.migration}, flip {verdict.flip}"
    failed = f"**{len(verdict.failed)} failed**" if verdict.failed else "none failed"
    warned = f", {many(len(verdict.warnings), 'warning')}" if verdict.warnings else ""
    return [
        f"## {'Go' if verdict.passed else 'NO'}: {where}",
        "",
        f"{verdict.evaluated} of {verdict.expected} checks evaluated, {failed}{warned}. {_docs(report)}",
        "",
    ]


def _docs(report: GateReport) -> str:
    if report.verdict.docs is None:
        return "There are no Data Docs of this run."
    if report.address is None:
        return f"Every check in detail: {plain(report.verdict.docs)}"
    return f"[Every check in detail (Data Docs)]({report.address})"


def _facts(report: GateReport) -> list[str]:
    """What was compared, and how long it counts."""
    verdict, compared = report.verdict, report.compared
    rows = []
    if compared is not None:
        rows.append(
            (
                "compared",
                f"**{compared.rows:,} rows** ({size(compared.bytes)}) of {many(compared.tables, 'table')} in "
                f"{many(compared.buckets, 'bucket')}, in {many(compared.chunks, 'chunk')} on both sides",
            )
        )
        rows.append(("read again", _read_again(compared)))
    if verdict.own_suites:
        rows.append(
            ("your own suites", f"{plain(', '.join(verdict.own_suites))}, in every bucket on both sides")
        )
    gate = f", the checks {duration(verdict.seconds)}" if verdict.seconds else ""
    rows.append(("took", f"collecting {duration(report.collected_s)}{gate}"))
    if verdict.evidence_made_at is not None:
        made_at = datetime.fromisoformat(verdict.evidence_made_at)
        until = f", counts until {made_at + report.time_to_live:%H:%M:%S}" if verdict.passed else ""
        rows.append(
            (
                "evidence",
                f"of {made_at:%Y-%m-%d %H:%M:%S} UTC{until}, sha256 `{(verdict.evidence_sha256 or '')[:16]}`",
            )
        )
    return [*(f"- {name}: {text}" for name, text in rows), ""]


def _read_again(compared: Compared) -> str:
    """What became of chunks that differed while both sides were written."""
    if not compared.rechecked:
        return "nothing: no chunk differed"
    said = f"{many(compared.rechecked, 'chunk')} that differed at first, {many(compared.rechecked_rows, 'row')}: "
    said += f"**{compared.differences:,} differ**" if compared.differences else "none differs"
    if compared.undecided:
        said += f", **{compared.undecided:,} undecided**"
    return said + (f"; writers waited {compared.fence_ms:.0f} ms" if compared.fence_ms else "")


def _findings(report: GateReport, most: int) -> list[str]:
    verdict = report.verdict
    return [
        *_list("What failed", verdict.failed, report, most),
        *_rows(report.compared, most),
        *_list("Warnings: they stop nothing", verdict.warnings, report, most),
    ]


def _list(title: str, findings: Sequence[Finding], report: GateReport, most: int) -> list[str]:
    """A list, since one of Prefect's two pages cuts off what is wide in a table."""
    if not findings:
        return []
    return [
        f"### {title}",
        "",
        *(_line(finding, report) for finding in findings[:most]),
        *_more(len(findings) - most, "findings"),
        "",
    ]


def _line(finding: Finding, report: GateReport) -> str:
    should, _, found = _DIGESTS.sub("", finding.what).partition(": ")
    shown = found if len(found) <= _LONGEST else f"{found[:_LONGEST]} …"
    if finding.table == "differences" and report.compared is not None and report.compared.differing:
        shown = f"{report.compared.differences:,} rows, named below"
    looked_at = plain(suite_title(finding.table, report.scope.tables))
    return f"- **{looked_at}**: {plain(should)}" + (f". Found: {plain(shown)}" if shown else "")


def _rows(compared: Compared | None, most: int) -> list[str]:
    """The rows that differ, by key; their values are shown by `foreshard check diff` only."""
    if compared is None or not compared.differing:
        return []
    return [
        f"### Rows that differ: {compared.differences:,}",
        "",
        "| bucket | table | chunk | key | on the other side |",
        "|---|---|---:|---|---|",
        *(
            f"| {plain(row.bucket)} | {plain(row.table)} | {row.chunk} | {plain(row.key[:_LONGEST])} | {row.kind} |"
            for row in compared.differing[:most]
        ),
        *_more(compared.differences - min(most, len(compared.differing)), "rows"),
        "",
    ]


def _more(number: int, what: str) -> list[str]:
    return ["", f"And {number:,} more {what}: the Data Docs have them."] if number > 0 else []


def _suites(report: GateReport) -> list[str]:
    """Every suite with its checks; what failed without one, such as the evidence itself, stands at the end."""
    verdict = report.verdict
    failed = Counter(finding.table for finding in verdict.failed)
    warned = Counter(finding.table for finding in verdict.warnings)
    checks = {suite.table: len(suite.checks) for suite in suites_for(report.scope)}
    order = [*checks, *sorted((failed.keys() | warned.keys()) - checks.keys())]
    evaluated = verdict.evaluated > 0
    return [
        "### All checks",
        "",
        "| what was looked at | checks | result |",
        "|---|---:|---|",
        *(
            f"| {plain(suite_title(suite, report.scope.tables))} | {checks.get(suite, '')} | "
            f"{_result(failed[suite], warned[suite], evaluated)} |"
            for suite in order
        ),
    ]


def _result(failed: int, warned: int, evaluated: bool) -> str:
    if failed:
        return f"**{failed} failed**" + (f", {many(warned, 'warning')}" if warned else "")
    if not evaluated:
        return "not evaluated"
    return many(warned, "warning") if warned else "ok"
