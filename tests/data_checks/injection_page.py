"""The page docs/faults.md, from a run of all faults."""

from __future__ import annotations

from collections.abc import Sequence

from data_checks.verdict import Finding
from tests.data_checks.injection_runs import Injection

PAGE = """# Faults and who finds them

Each of these was put alone into the target's copy of a migration (real servers, both streams, guards, half of the
keys moved), in a table of {rows} rows and two small ones, and the real gate was asked. The verdict named the fault in
the expectations below and in no others. The last one named in each row is the fault's own: it says where it is. A row
that differs is told twice: by `rows_TABLE`, which compares counts and digests of all chunks, and by `differences`,
which names the row after the re-check. Seconds are from the first look at the data to the verdict; {gate_s:.0f} of them
are the gate's process. The first and the last run had no fault, and passed.

A row of a table without a key is named by the digest of its contents, with how often it is there on each side and the
place of one of them; its values are not shown. Its owner is that of its distribution key, as everywhere. Such a table
cannot be moved (preflight refuses it: nothing replicates its updates), but whoever compares one is told the truth.

| fault | expectations that said so (table of the evidence: check) | as | s |
| --- | --- | --- | --- |
{table}

By hand: `python -m tests.data_checks.injections --markdown docs/faults.md`, which wrote this page
(`--rows 100000` for a small table; `--help`). `make test` puts in many at a time and asks the same of each. Neither
can pass by accident: `tests/integration/test_injections.py` leaves one column after the other out of the digest, and
each time the fault in that column goes unseen.

No false alarm: `python -m tests.data_checks.injections --rows 200000 --alarms 100` asks the gate on equal data while
applications write at both owners through the guards, 500 writes a second, some rows and sequences all the time. It
fails at any finding, be it a warning. `make slow` asks five times.
"""


def page(rows: int, injections: Sequence[Injection]) -> str:
    """In markdown."""
    return PAGE.format(
        rows=f"{rows:,}",
        gate_s=sorted(one.gate_s for one in injections)[len(injections) // 2],
        table="\n".join(_line(one) for one in injections),
    )


def _line(injection: Injection) -> str:
    found = [*injection.failed, *injection.warnings]
    said = "<br>".join(f"`{f.table}`: {_check(f)}{_warning(f, injection)}" for f in found)
    named = f"`{found[-1].what.partition(': ')[2]}`".replace("|", "\\|") if found else ""
    missed = f" **{injection.missed}**" if injection.missed else ""
    return f"| {injection.fault} | {said or 'none: go'}{missed} | {named} | {injection.seconds:.1f} |"


def _check(finding: Finding) -> str:
    return f"{finding.what.partition(': ')[0]} ({finding.expectation})"


def _warning(finding: Finding, injection: Injection) -> str:
    return " (warning)" if finding in injection.warnings else ""
