"""The gate as its callers use it, in a process of its own: go for equal copies, no for everything else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data_checks.evidence import sha256
from data_checks.run_gate import _environment, run_gate
from data_checks.scope import Scope
from data_checks.suites import expected_count
from data_checks.verdict import Verdict
from foreshard.postgres import passwords
from foreshard.postgres.passwords import PasswordSource

MakeEvidence = Callable[..., Path]
HOUR = timedelta(hours=1)


def test_equal_copies_are_a_go_and_nothing_is_written_but_the_docs(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other two checkpoints pass in ``tests/integration/test_evidence.py``, on real servers."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(elsewhere))
    evidence = make_evidence(scope)
    verdict = run_gate(evidence, scope, tmp_path / "docs", time_to_live=HOUR)
    assert verdict.failed == ()
    assert verdict.warnings == ()
    assert verdict.passed
    assert verdict.evaluated == verdict.expected == expected_count(scope)
    assert verdict.docs is not None
    page = Path(verdict.docs)
    assert page.is_relative_to(tmp_path / "docs")
    assert f"Migration {scope.migration}, flip {scope.flip}: before cutover" in page.read_text(
        encoding="utf-8"
    )
    assert os.listdir(elsewhere) == []
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "docs", evidence.name}


FAULTS: dict[str, tuple[str, str, str]] = {
    # what is wrong: statement, table, words of the finding
    "changed row": (
        "UPDATE rows_flights SET target_digest = '18446744073709551619' WHERE bucket = 'b0002' AND chunk = 0",
        "rows_flights",
        "the same rows on both sides: bucket=b0002, item=chunk 0,",
    ),
    "missing row": (
        "UPDATE rows_aircraft SET target_rows = '8' WHERE bucket = 'b0001' AND chunk = 1",
        "rows_aircraft",
        "as many rows on both sides: bucket=b0001, item=chunk 1,",
    ),
    "nothing known of either side": (
        "UPDATE rows_aircraft SET source_digest = NULL, target_digest = NULL WHERE chunk = 2",
        "rows_aircraft",
        "the same rows on both sides: bucket=b0001, item=chunk 2,",
    ),
    "undecided keys": (
        "UPDATE rows_flights SET undecided = 2 WHERE bucket = 'b0001' AND chunk = 3",
        "rows_flights",
        "no row was written too often to be judged: bucket=b0001, item=chunk 3,",
    ),
    "ghost row": (
        "INSERT INTO differences VALUES ('b0001', 'flights id=7', 0, 'ghost')",
        "differences",
        "no row differs: bucket=b0001, item=flights id=7, kind=ghost",
    ),
    "missing column": (
        "UPDATE schema_columns SET target_definition = 'absent' WHERE bucket = 'b0001'",
        "schema_columns",
        "defined alike on both sides: bucket=b0001, item=flights.id,",
    ),
    "constraint not validated": (
        "UPDATE schema_constraints SET target_definition = source_definition || ' (not validated)'",
        "schema_constraints",
        "defined alike on both sides: bucket=b0001,",
    ),
    "invalid index": (
        "UPDATE schema_indexes SET target_definition = source_definition || ' (invalid)'",
        "schema_indexes",
        "defined alike on both sides: bucket=b0001,",
    ),
    "disabled trigger": (
        "INSERT INTO schema_triggers VALUES ('b0001', 'flights.t', 'enabled O', 'enabled D')",
        "schema_triggers",
        "defined alike on both sides: bucket=b0001, item=flights.t,",
    ),
    "sequence behind": (
        "UPDATE sequences SET target_position = source_position WHERE bucket = 'b0001'",
        "sequences",
        "the target's sequences are ahead of the source's: bucket=b0001,",
    ),
    "sequence hidden": (
        "UPDATE sequences SET source_position = NULL WHERE bucket = 'b0002'",
        "sequences",
        "the source's position is known: bucket=b0002,",
    ),
    "subscription disabled": (
        "UPDATE replication SET enabled = 0 WHERE item = 'fwd'",
        "replication",
        "subscriptions are enabled: bucket=*, item=fwd,",
    ),
    "worker gone": (
        "UPDATE replication SET running = 0 WHERE item = 'rev'",
        "replication",
        "their workers run: bucket=*, item=rev,",
    ),
    "slot lost": (
        "UPDATE replication SET wal_status = 'lost', slot_active = 0 WHERE item = 'rev'",
        "replication",
        "slots have all their WAL: bucket=*, item=rev,",
    ),
    "shadow read mismatch": (
        "UPDATE shadow_reads SET mismatches = 1",
        "shadow_reads",
        "none gave another answer: bucket=*, item=all reads,",
    ),
}
COUNTED = [
    # What a collector that wrote these rows would have noted.
    "UPDATE collected SET found = 1 WHERE bucket = 'b0001' AND item IN ('differences', 'schema_triggers')",
]


def test_every_fault_is_a_failure_that_names_it(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path
) -> None:
    """All at once, since a run costs seconds; each must be named by a critical finding of its own table."""
    evidence = make_evidence(scope, *(statement for statement, _, _ in FAULTS.values()), *COUNTED)
    verdict = run_gate(evidence, scope, tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert verdict.evaluated == verdict.expected
    missed = [
        fault
        for fault, (_, table, words) in FAULTS.items()
        if not any(finding.table == table and words in finding.what for finding in verdict.failed)
    ]
    assert missed == []


def test_one_wrong_digest_is_enough(make_evidence: MakeEvidence, scope: Scope, tmp_path: Path) -> None:
    evidence = make_evidence(scope, FAULTS["changed row"][0])
    verdict = run_gate(evidence, scope, tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert [finding.table for finding in verdict.failed] == ["rows_flights"]


def test_warnings_do_not_stop_and_neither_do_docs_that_cannot_be_built(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path
) -> None:
    blocked = tmp_path / "docs"
    blocked.write_text("a file where the directory should be")
    evidence = make_evidence(
        scope, "UPDATE replication SET apply_errors = 2", "UPDATE shadow_reads SET reads = 0, matches = 0"
    )
    verdict = run_gate(evidence, scope, blocked, time_to_live=HOUR)
    assert verdict.passed, verdict.failed
    assert verdict.docs is None
    assert {finding.table for finding in verdict.warnings} == {"replication", "shadow_reads", str(blocked)}


NO_EVIDENCE = {
    "another migration": (
        "UPDATE meta SET value = '11' WHERE key = 'migration'",
        "its migration is 11, not 12",
    ),
    "another flip": ("UPDATE meta SET value = '2' WHERE key = 'flip'", "its flip is 2, not 3"),
    "another attempt": ("UPDATE meta SET value = 'x' WHERE key = 'marker'", "its marker is x"),
    "another checkpoint": (
        "UPDATE meta SET value = 'after_cutover' WHERE key = 'checkpoint'",
        "its checkpoint is after_cutover",
    ),
    "no time": ("DELETE FROM meta WHERE key = 'made_at'", "does not say when"),
    "a time without a zone": (
        "UPDATE meta SET value = '2026-01-01' WHERE key = 'made_at'",
        "does not say when",
    ),
    "a missing table": ("DROP TABLE rows_aircraft", "no table rows_aircraft"),
    "an emptied table": ("DELETE FROM rows_aircraft", "rows_aircraft does not hold"),
    "a missing row": ("DELETE FROM rows_aircraft WHERE chunk = 3", "rows_aircraft does not hold"),
    "a bucket of somebody else": ("UPDATE sequences SET bucket = 'b0009'", "sequences does not hold"),
}


@pytest.mark.parametrize("case", NO_EVIDENCE)
def test_what_is_no_evidence_of_this_scope_is_a_no(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path, case: str
) -> None:
    statement, words = NO_EVIDENCE[case]
    verdict = run_gate(make_evidence(scope, statement), scope, tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert any(words in finding.what for finding in verdict.failed), verdict.failed


@pytest.mark.parametrize(("age", "words"), [(HOUR * 2, "s old and may be 3600 s"), (-HOUR, "in the future")])
def test_evidence_expires(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path, age: timedelta, words: str
) -> None:
    evidence = make_evidence(scope, made_at=datetime.now(UTC) - age)
    verdict = run_gate(evidence, scope, tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert words in verdict.failed[0].what


@pytest.mark.parametrize("content", [None, b"", b"this is no database"])
def test_a_file_that_is_no_evidence_is_a_no(scope: Scope, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "evidence.sqlite"
    if content is not None:
        path.write_bytes(content)
    verdict = run_gate(path, scope, tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert "cannot be read" in verdict.failed[0].what
    assert verdict.evaluated == 0


def test_evidence_without_a_bucket_of_the_plan_is_a_no(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path
) -> None:
    """A collector that forgot a bucket is consistent with itself: the caller's scope is what finds it."""
    evidence = make_evidence(scope)
    wider = replace(scope, buckets=(*scope.buckets, "b0003"))
    verdict = run_gate(evidence, wider, tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    missed = {
        f.table for f in verdict.failed if f.what == "all buckets of the plan, and no others: missing b0003"
    }
    assert {"collected", "rows_flights", "rows_aircraft", "schema_columns"} <= missed


DROP_ONE = """
import sys
from data_checks import gate, validate
whole = validate.gx.ExpectationSuite
validate.gx.ExpectationSuite = lambda name, expectations: whole(
    name=name, expectations=expectations[1:] if name == "rows_flights" else expectations)
sys.exit(gate.main(sys.argv[1:]))
"""
BREAK = """
import sys
from data_checks import gate, validate
def broken(self, suites):
    raise RuntimeError("out of order")
validate.Validation.run = broken
sys.exit(gate.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [(DROP_ONE, 1, "evaluated 0 times, not 1"), (BREAK, 2, "it broke: RuntimeError: out of order")],
)
def test_a_gate_that_leaves_something_out_or_breaks_says_no(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path, program: str, code: int, words: str
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, str(make_evidence(scope)), "--json", "--time-to-live=60"),
            *("--migration=12", "--flip=3", "--marker=a-marker", "--checkpoint=before_cutover", "--chunks=4"),
            *("--bucket=b0001", "--bucket=b0002", "--table=flights", "--table=aircraft"),
            f"--docs={tmp_path / 'docs'}",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    verdict = Verdict.from_json(done.stdout)
    assert not verdict.passed
    assert any(words in finding.what for finding in verdict.failed)


def _fake_gate(directory: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    program = directory / "python"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, 1, "ended with code 1"),
        ({"migration": 11}, 0, "it answered for"),
        ({"flip": 2}, 0, "it answered for"),
        ({"marker": "older"}, 0, "it answered for"),
        ({"evaluated": 3}, 0, "it evaluated 3 of"),
        ({"evaluated": 3, "expected": 3}, 0, "it evaluated 3 of"),
        ({"evidence_sha256": "0"}, 0, "it judged other evidence"),
        ({"evidence_made_at": None}, 0, "does not say how old"),
    ],
)
def test_a_go_that_contradicts_itself_or_the_question_is_a_no(
    make_evidence: MakeEvidence,
    scope: Scope,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    code: int,
    words: str,
) -> None:
    evidence = make_evidence(scope)
    count = expected_count(scope)
    go = replace(
        Verdict.no(scope, count),
        passed=True,
        evaluated=count,
        evidence_sha256=sha256(evidence),
        evidence_made_at="2026-01-01T00:00:00+00:00",
    )
    _fake_gate(tmp_path, monkeypatch, f"cat <<'END'\n{go.as_json()}\nEND\nexit 0")
    assert run_gate(evidence, scope, tmp_path / "docs", time_to_live=HOUR).passed, "the fake must work"
    answer = replace(go, **changes)  # type: ignore[arg-type]
    _fake_gate(tmp_path, monkeypatch, f"cat <<'END'\n{answer.as_json()}\nEND\nexit {code}")
    verdict = run_gate(evidence, scope, tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert words in verdict.failed[0].what


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kill -9 $$", "no verdict"),
        ("echo GO", "no verdict"),
        ("echo '{\"passed\": true}'", "no verdict"),
        ("echo true", "no verdict"),
        ("exit 0", "no verdict"),
        ("exec sleep 60", "did not answer within"),
    ],
)
def test_a_gate_that_dies_hangs_or_babbles_is_a_no(
    make_evidence: MakeEvidence,
    scope: Scope,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    words: str,
) -> None:
    _fake_gate(tmp_path, monkeypatch, body)
    verdict = run_gate(make_evidence(scope), scope, tmp_path / "docs", time_to_live=HOUR, timeout_s=2)
    assert not verdict.passed
    assert words in verdict.failed[0].what


def test_no_password_reaches_the_gates_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARD1_PASSWORD", "canary")
    passwords.use([PasswordSource(role="foreshard", env="SHARD1_PASSWORD")])
    try:
        assert "canary" not in _environment().values()
    finally:
        passwords.use(())
