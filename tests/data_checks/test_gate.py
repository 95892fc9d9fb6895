"""The gate as its callers use it, in a process of its own: go for equal copies, no for everything else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data_checks.evidence import sha256, times
from data_checks.gate import GX_VERSION
from data_checks.run_gate import _environment, run_gate
from data_checks.scope import Checkpoint, Scope
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
    odd = tmp_path / "Zoë's 100 %41 #1"
    odd.mkdir()
    evidence = make_evidence(scope).rename(odd / "evidence.sqlite")
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
    assert os.listdir(odd) == [evidence.name]
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "docs", odd.name}


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
    "another zone in a session": (
        "UPDATE sessions SET target_value = 'Asia/Tokyo' WHERE setting = 'timezone'",
        "sessions",
        "the target's sessions print as they should: bucket=*, item=session 0 timezone,",
    ),
    "a session that was not asked": (
        "DELETE FROM sessions WHERE setting = 'datestyle'",
        "sessions",
        "all that decides how a value prints: missing datestyle",
    ),
    "a policy that is not there": (
        "UPDATE schema_tables SET target_definition = 'absent' WHERE bucket = 'b0001'",
        "schema_tables",
        "defined alike on both sides: bucket=b0001,",
    ),
    "another function": (
        "INSERT INTO schema_routines VALUES ('b0001', 'f()', 'SELECT 1', 'SELECT 2')",
        "schema_routines",
        "defined alike on both sides: bucket=b0001, item=f(),",
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
    "UPDATE collected SET found = 1 WHERE bucket = 'b0001'"
    " AND item IN ('differences', 'schema_triggers', 'schema_routines')",
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
    noted = ("schema_comments", "schema_privileges", "schema_storage")
    evidence = make_evidence(
        scope,
        "UPDATE replication SET apply_errors = 2",
        "UPDATE shadow_reads SET reads = 0, matches = 0",
        "UPDATE databases SET target_value = 'en_US' WHERE item = 'collation'",
        *(f"INSERT INTO {table} VALUES ('b0001', 'flights', 'one', 'absent')" for table in noted),
        *(f"UPDATE collected SET found = 1 WHERE bucket = 'b0001' AND item = '{table}'" for table in noted),
    )
    verdict = run_gate(evidence, scope, blocked, time_to_live=HOUR)
    assert verdict.passed, verdict.failed
    assert verdict.docs is None
    assert {finding.table for finding in verdict.warnings} == {
        *("replication", "shadow_reads", "databases", str(blocked)),
        *noted,
    }
    (comment,) = [one for one in verdict.warnings if one.table == "schema_comments"]
    assert "bucket=b0001, item=flights, source_definition=one, target_definition=absent" in comment.what


def test_many_differences_are_counted_and_the_first_are_named(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path
) -> None:
    """The verdict goes to the control database and to a page: it must stay small."""
    numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30000) "
    evidence = make_evidence(
        scope,
        f"INSERT INTO differences {numbers} SELECT 'b0001', 'flights id=' || n, n % 4, 'changed' FROM n",
        f"INSERT INTO schema_routines {numbers}"
        " SELECT 'b0001', 'f' || n || '()', printf('%.*c', 1000, 'a'), printf('%.*c', 1000, 'b') FROM n",
        "UPDATE collected SET found = 30000 WHERE bucket = 'b0001' AND item IN ('differences', 'schema_routines')",
    )
    verdict = run_gate(evidence, scope, tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    (rows,) = [finding.what for finding in verdict.failed if finding.table == "differences"]
    assert "item=flights id=1, kind=changed" in rows
    assert rows.endswith("; and 29,995 more")
    (routines,) = [finding.what for finding in verdict.failed if finding.table == "schema_routines"]
    assert "… (1,000 characters)" in routines
    assert len(verdict.as_json()) < 10_000
    assert sum(path.stat().st_size for path in (tmp_path / "docs").rglob("*") if path.is_file()) < 8 << 20


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
    "no beginning": ("DELETE FROM meta WHERE key = 'begun_at'", "does not say when"),
    "complete before it was begun": (
        "UPDATE meta SET value = strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now', '+1 hour') WHERE key = 'begun_at'",
        "complete before it was begun",
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


@pytest.mark.parametrize("cut", [0.95, 0.5, 0.1])
def test_a_truncated_file_is_a_no(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path, cut: float
) -> None:
    path = make_evidence(replace(scope, chunks=400))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    verdict = run_gate(path, replace(scope, chunks=400), tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert verdict.evaluated == 0
    assert "it cannot be read: " in verdict.failed[0].what


ARGUMENTS = (
    *("--json", "--time-to-live=3600", "--migration=12", "--flip=3", "--marker=a-marker", "--chunks=4"),
    *(
        "--checkpoint=after_cutover",
        "--bucket=b0001",
        "--bucket=b0002",
        "--table=flights",
        "--table=aircraft",
    ),
)
# Great Expectations is imported once, and each case has a process of its own all the same.
EACH_FORKED = """
import json, os, sys
from data_checks import gate, provenance, validate
cases, *arguments = sys.argv[1:]
for number, broken in enumerate(json.loads(cases)):
    said = os.open(f"{number}.json", os.O_WRONLY | os.O_CREAT, 0o600)
    if not os.fork():
        os.dup2(said, 1)
        code = 99
        try:
            exec(broken)
            code = gate.main([*arguments, f"--docs={number}.json"])  # where nothing can be built
        finally:
            os._exit(code)
    os.close(said)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)  # or the next child would say it once more
"""


def _python(program: str, *arguments: str, cwd: Path) -> str:
    """What that program says, which is run by a Python of its own."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{program}", *arguments],
        cwd=cwd,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.stdout


_RUN = """
from data_checks import provenance, validate
import great_expectations as gx
whole = validate.Validation.run
def run(self, suites):
    {}
    return whole(self, suites)
validate.Validation.run = run
"""
_CHECKPOINT = """
from data_checks import validate
import great_expectations as gx
whole = gx.Checkpoint.run
def run(self, **arguments):
    {}
gx.Checkpoint.run = run
"""
BROKEN: dict[str, tuple[str, int, str]] = {
    # what is done to the gate, its exit code, words of the verdict
    "a suite with one expectation dropped": (
        """
from data_checks import validate
whole = validate.gx.ExpectationSuite
validate.gx.ExpectationSuite = lambda name, expectations: whole(
    name=name, expectations=expectations[1:] if name == "rows_flights" else expectations)
""",
        1,
        "evaluated 0 times, not 1",
    ),
    "an error": (
        _RUN.format("raise RuntimeError('out of order')"),
        2,
        "it broke: RuntimeError: out of order",
    ),
    "a context before ours": (
        "import great_expectations as gx\nfirst = gx.get_context(mode='ephemeral')",
        1,
        "this process has a Great Expectations context already",
    ),
    "a context before ours that is not the current one": (
        "import great_expectations as gx\nfirst = gx.get_context(mode='ephemeral')\n"
        "provenance.project_manager.set_project(None)",
        1,
        "this process has a Great Expectations context already",
    ),
    "another context made the current one": (
        _RUN.format("gx.get_context(mode='ephemeral')"),
        1,
        "another Great Expectations context was made the current one",
    ),
    "a second context that hides": (
        _RUN.format(
            "global second; second = gx.get_context(mode='ephemeral');"
            " provenance.project_manager.set_project(self._context)"
        ),
        1,
        "a second Great Expectations context is in the process",
    ),
    "a second context during the run": (
        _CHECKPOINT.format("gx.get_context(mode='ephemeral'); return whole(self, **arguments)"),
        1,
        "another Great Expectations context was made the current one",
    ),
    "another data source": (
        _RUN.format("self._context.data_sources.add_sqlite('other', connection_string='sqlite://')"),
        1,
        "the context's data sources are migration-12-flip-3, other",
    ),
    "an asset that reads another table": (
        """
from data_checks import validate
from great_expectations.datasource.fluent import SqliteDatasource
whole = SqliteDatasource.add_table_asset
SqliteDatasource.add_table_asset = lambda self, name, table_name: whole(
    self, name=name, table_name="rows_aircraft" if name == "rows_flights" else table_name)
""",
        1,
        "the definition of rows_flights reads rows_flights from migration-12-flip-3",
    ),
    "the same result twice": (
        _CHECKPOINT.format(
            "r = whole(self, **arguments); k = list(r.run_results);"
            " r.run_results[k[1]] = r.run_results[k[0]]; return r"
        ),
        1,
        "there are results of",
    ),
    "a result of another table": (
        _CHECKPOINT.format(
            "r = whole(self, **arguments); one, other = list(r.run_results.values())[2:4];"
            " one.meta['active_batch_definition'] = other.meta['active_batch_definition']; return r"
        ),
        1,
        "the result of rows_flights is of migration-12-flip-3 rows_aircraft",
    ),
    "an expectation of another batch": (
        _CHECKPOINT.format(
            "r = whole(self, **arguments); one, other = list(r.run_results.values())[2:4];"
            " one.results[0] = other.results[0]; return r"
        ),
        1,
        "an expectation of rows_flights was evaluated on migration-12-flip-3-rows_aircraft",
    ),
    "an exception that is nested by metric, below a success": (
        _CHECKPOINT.format(
            "r = whole(self, **arguments); one = list(r.run_results.values())[2].results[4]; one.exception_info ="
            " {'a metric': {'raised_exception': True, 'exception_message': 'no such table'}}; return r"
        ),
        1,
        "it could not be evaluated",
    ),
    "another version of Great Expectations": (
        "gate.version = lambda name: '2.0.0'",
        1,
        "Great Expectations is 2.0.0 here: pip install great_expectations==",
    ),
}


def test_broken_gates_say_no(make_evidence: MakeEvidence, scope: Scope, tmp_path: Path) -> None:
    evidence = make_evidence(
        replace(scope, checkpoint=Checkpoint.AFTER_CUTOVER)
    )  # the one with fewest suites
    cases = json.dumps(["", *(broken for broken, _, _ in BROKEN.values())])
    codes = _python(EACH_FORKED, cases, str(evidence), *ARGUMENTS, cwd=tmp_path).split()
    whole, *verdicts = (
        Verdict.from_json((tmp_path / f"{number}.json").read_text(encoding="utf-8"))
        for number in range(len(codes))
    )
    assert (whole.passed, codes.pop(0)) == (True, "0"), whole.failed
    missed = {
        case: (code, verdict.failed)
        for (case, (_, wanted, words)), code, verdict in zip(BROKEN.items(), codes, verdicts, strict=True)
        if verdict.passed or code != str(wanted) or not any(words in one.what for one in verdict.failed)
    }
    assert missed == {}


def test_without_great_expectations_the_gate_says_so(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path
) -> None:
    hidden = """
import importlib.metadata
whole = importlib.metadata.version
def version(name):
    if name == "great_expectations":
        raise importlib.metadata.PackageNotFoundError(name)
    return whole(name)
importlib.metadata.version = version
sys.modules["great_expectations"] = None
from data_checks import gate
gate.main(sys.argv[1:])
"""
    evidence = make_evidence(replace(scope, checkpoint=Checkpoint.AFTER_CUTOVER))
    said = _python(hidden, str(evidence), *ARGUMENTS, "--docs=docs", cwd=tmp_path)
    verdict = Verdict.from_json(said)
    assert not verdict.passed
    assert "Great Expectations is not installed here" in verdict.failed[0].what


def test_the_version_that_was_tried_is_the_one_that_is_pinned() -> None:
    pinned = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"great-expectations=={GX_VERSION}"' in pinned


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
        ({"evidence_made_at": None}, 0, "was made at None, which it was not"),
        # A younger evidence than it is would make the verdict last longer.
        ({"evidence_made_at": "2100-01-01T00:00:00+00:00"}, 0, "which it was not"),
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
    made = times(evidence)
    assert made is not None
    go = replace(
        Verdict.no(scope, count),
        passed=True,
        evaluated=count,
        evidence_sha256=sha256(evidence),
        evidence_made_at=made.made_at.isoformat(),
    )
    _fake_gate(tmp_path, monkeypatch, f"cat <<'END'\n{go.as_json()}\nEND\nexit 0")
    assert run_gate(evidence, scope, tmp_path / "docs", time_to_live=HOUR).passed, "the fake must work"
    answer = replace(go, **changes)  # type: ignore[arg-type]
    _fake_gate(tmp_path, monkeypatch, f"cat <<'END'\n{answer.as_json()}\nEND\nexit {code}")
    verdict = run_gate(evidence, scope, tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert words in verdict.failed[0].what


@pytest.mark.parametrize(
    ("body", "timeout_s", "words"),
    [
        ("kill -9 $$", 60, "no verdict"),
        ("echo GO", 60, "no verdict"),
        ("echo '{\"passed\": true}'", 60, "no verdict"),
        ("echo true", 60, "no verdict"),
        ("exit 0", 60, "no verdict"),
        ("exec sleep 600", 2, "did not answer within"),
    ],
)
def test_a_gate_that_dies_hangs_or_babbles_is_a_no(
    make_evidence: MakeEvidence,
    scope: Scope,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    timeout_s: float,
    words: str,
) -> None:
    _fake_gate(tmp_path, monkeypatch, body)
    verdict = run_gate(make_evidence(scope), scope, tmp_path / "docs", time_to_live=HOUR, timeout_s=timeout_s)
    assert not verdict.passed
    assert words in verdict.failed[0].what


def test_no_password_reaches_the_gates_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARD1_PASSWORD", "canary")
    passwords.use([PasswordSource(role="foreshard", env="SHARD1_PASSWORD")])
    try:
        assert "canary" not in _environment().values()
    finally:
        passwords.use(())
