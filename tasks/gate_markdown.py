"""A verdict of the gate in words."""

from __future__ import annotations

from data_checks.verdict import Verdict


def in_words(verdict: Verdict) -> str:
    """One line."""
    counts = f"{verdict.evaluated} of {verdict.expected} checks evaluated"
    return f"{'go' if verdict.passed else 'NO'}, {counts}, {len(verdict.failed)} failed"


def as_markdown(verdict: Verdict) -> str:
    """The verdict with every finding, for the UI."""
    lines = [
        f"## {'Go' if verdict.passed else 'No'}: {verdict.checkpoint.replace('_', ' ')}",
        f"{in_words(verdict)}, {len(verdict.warnings)} warnings. Flip {verdict.flip} of migration {verdict.migration}, "
        f"evidence `{(verdict.evidence_sha256 or 'none')[:16]}` made at {verdict.evidence_made_at or 'unknown'}.",
    ]
    if verdict.own_suites:
        lines[1] += f" With your own suites: {', '.join(verdict.own_suites)}, in every bucket on both sides."
    findings = [("failed", f) for f in verdict.failed] + [("warning", f) for f in verdict.warnings]
    if findings:
        lines += ["| | what was looked at | finding |", "|---|---|---|"]
        lines += [f"| {kind} | {f.table} | {f.what.replace('|', '/')} |" for kind, f in findings]
    if verdict.docs:
        lines.append(f"Every check in detail: `{verdict.docs}`")
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])
