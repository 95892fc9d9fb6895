"""A team's own suites: what their files must be, and how the gate judges what became of them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from data_checks import own_run
from data_checks.evidence import problems
from data_checks.migration_gate import GateReport
from data_checks.own_expectations import ACCEPTED, REFUSED
from data_checks.own_scope import OwnScope
from data_checks.own_suites import read_suites
from data_checks.run_gate import run_gate
from data_checks.scope import Scope
from data_checks.verdict import Verdict
from deployments.demo_settings import OWN_SUITES
from foreshard.errors import ConfigurationError, ForeshardError, InvalidInput
from foreshard.fleet.airline import TABLES
from tasks.gate_markdown import as_markdown

MakeEvidence = Callable[..., Path]
HOUR = timedelta(hours=1)
GOOD: dict[str, Any] = {
    "name": "anything",
    "expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "tailnum"}}],
}
# As great_expectations 1.24.1 writes a suite to disk.
AS_WRITTEN = """{
  "name": "any name", "id": null, "notes": null,
  "expectations": [{
    "type": "expect_column_values_to_be_between", "kwargs": {"column": "dep_delay", "min_value": -60.0, "mostly": 0.9},
    "meta": {"a": 1}, "notes": "n", "severity": "warning"}],
  "meta": {"foreshard": {"table": "flights"}, "great_expectations_version": "1.24.1"}
}"""


def write(folder: Path, content: object, name: str = "flights.json") -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def changed(**changes: Any) -> dict[str, Any]:
    """The good suite with its one expectation changed."""
    return {**GOOD, "expectations": [{**GOOD["expectations"][0], **changes}]}


def test_a_suite_as_great_expectations_writes_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, AS_WRITTEN, "late.json")
    write(tmp_path, GOOD)
    (tmp_path / "README.md").write_text("no suite")
    flights, late = read_suites(tmp_path, TABLES)
    assert (flights.table, late.table) == ("flights", "flights")
    (expectation,) = late.expectations
    assert (expectation.severity, expectation.notes) == ("warning", "n")
    assert str(expectation) == "expect_column_values_to_be_between (dep_delay)"
    assert flights.expectations[0].severity == "critical"
    assert late.scope.items == ["late #1"]
    assert OwnScope.from_argument(late.scope.as_argument()) == late.scope
    write(tmp_path, AS_WRITTEN + " ", "late.json")
    assert read_suites(tmp_path, TABLES)[1].sha256 != late.sha256


def test_the_demos_own_suites_can_be_read() -> None:
    assert {suite.table for suite in read_suites(OWN_SUITES, TABLES)} == {"aircraft", "flights"}


TWICE = '{"name": "a", "name": "b", "expectations": []}'
WRONG: dict[str, tuple[object, str, str]] = {
    # what is wrong: content, field, words
    "no JSON": ("{", "", "is not valid JSON"),
    "NaN": (json.dumps(changed(kwargs={"column": "a", "mostly": float("nan")})), "", "NaN is not JSON"),
    "infinity": (json.dumps(changed(kwargs={"max_value": 7})).replace("7", "1e999"), "", "1e999 is no finite"),
    "a name twice": (TWICE, "", "name stands twice"),
    "half a letter": (changed(kwargs={"column": "\ud800"}), "", "is not valid JSON in UTF-8"),
    "too deep": ("[" * 100_000, "", "is not valid JSON"),
    "a list": ([], "", "is not a suite"),
    "no name": ({"expectations": GOOD["expectations"]}, "name", "is missing"),
    "another field": ({**GOOD, "expectation": []}, "expectation", "is no field"),
    "nothing to check": ({**GOOD, "expectations": []}, "expectations", "nothing would be checked"),
    "parameters": ({**GOOD, "suite_parameters": {"a": 1}}, "suite_parameters", "are given by nobody"),
    "a parameter": (changed(kwargs={"column": {"$PARAMETER": "c"}}), "expectations[0].kwargs.column", "parameter"),
    "an expectation that is none": ({**GOOD, "expectations": ["a"]}, "expectations[0]", "is not an object"),
    "an old one": (
        {**GOOD, "expectations": [{"expectation_type": "a"}]},
        "expectations[0].expectation_type",
        "before 1.0",
    ),
    "no type": ({**GOOD, "expectations": [{"kwargs": {}}]}, "expectations[0].type", "is missing"),
    "a class of one's own": (changed(type="expect_tails_to_be_painted"), "expectations[0].type", "is not built"),
    "SQL": (changed(type="unexpected_rows_expectation"), "expectations[0].type", "runs SQL of its own"),
    "kwargs that are none": (changed(kwargs=[1]), "expectations[0].kwargs", "is not an object"),
    "how to evaluate": (changed(kwargs={"result_format": "X"}), "expectations[0].kwargs.result_format", "is set by"),
    "another severity": (changed(severity="fatal"), "expectations[0].severity", "'fatal' is not one of critical"),
    "a severity that is none": (changed(severity=None), "expectations[0].severity", "None is not one of"),
    "another field below": (changed(kwarg={}), "expectations[0].kwarg", "is no field"),
    "an unknown table": ({**GOOD, "meta": {"foreshard": {"table": "x"}}}, "meta.foreshard.table", "'x' is no table"),
    "a table that is none": ({**GOOD, "meta": {"foreshard": {"table": []}}}, "meta.foreshard.table", "[] is no table"),
    "a misspelled table": ({**GOOD, "meta": {"foreshard": {"tabel": "flights"}}}, "meta.foreshard", "one thing"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_cannot_be_run_is_refused_by_name_and_field(tmp_path: Path, case: str) -> None:
    content, field, words = WRONG[case]
    with pytest.raises(InvalidInput) as refused:
        read_suites(write(tmp_path, content), TABLES)
    file = str(tmp_path / "flights.json")
    assert refused.value.field == (f"{file}: {field}" if field else file)
    assert words in refused.value.message


def test_a_file_whose_name_is_no_table_must_say_its_table(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"late\.json: meta: 'late' is no table of the fleet's buckets"):
        read_suites(write(tmp_path, GOOD, "late.json"), TABLES)


@pytest.mark.parametrize(
    ("files", "words"),
    [([], "holds no suite"), (["below/flights.json", "flights.json"], "below/flights.json would not be run")],
)
def test_a_folder_that_would_leave_something_out_is_refused(
    tmp_path: Path, files: list[str], words: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, GOOD, name)
    with pytest.raises(ConfigurationError, match=words):
        read_suites(tmp_path, TABLES)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^checks\.suites: names .*nowhere, which is no folder"):
        read_suites(tmp_path / "nowhere", TABLES)


def test_what_great_expectations_has_built_in_is_accepted_or_refused_by_name() -> None:
    """A newer version may bring expectations that run SQL: somebody must look at each."""
    program = (
        "import great_expectations.expectations.registry as r, great_expectations as g, json;"
        "print(json.dumps(r.list_registered_expectation_implementations()))"
    )
    listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(json.loads(listed.stdout)) == ACCEPTED | set(REFUSED)
    assert not ACCEPTED & set(REFUSED)


def test_arguments_that_great_expectations_does_not_take_are_refused_by_field(tmp_path: Path) -> None:
    wrong = {
        "kwargs.column": {"type": "expect_column_values_to_not_be_null", "kwargs": {}},
        "kwargs.colum": {**GOOD["expectations"][0], "kwargs": {"column": "a", "colum": "a"}},
        "kwargs.mostly": {**GOOD["expectations"][0], "kwargs": {"column": "a", "mostly": 2}},
    }
    write(tmp_path, {**GOOD, "expectations": [GOOD["expectations"][0], *wrong.values()]})
    suites = read_suites(tmp_path, TABLES)
    process = own_run.SideProcess("look", None, own_run.job(0, (), suites), 60)
    process.wait()
    process.close()
    (answer,) = process.answers
    assert [(w["number"], w["field"]) for w in answer["refused"]] == list(enumerate(wrong, 2))
    with pytest.raises(
        InvalidInput, match=r"^flights\.json: expectations\[1\]\.kwargs\.column: Great Expect"
    ):
        own_run.refuse(process)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo Traceback >&2; echo out of order >&2; exit 4", "ended with code 4: out of order"),
        ("kill -9 $$", "ended with code -9: it said nothing"),
        ("exit 0", "ended with code 0: it said nothing"),
        ("read -r job; echo babble", "said what nobody understands"),
    ],
)
def test_a_look_that_breaks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    suites = read_suites(write(tmp_path, GOOD), TABLES)
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ForeshardError, match=words):
        own_run.look(suites)


class Answered:
    """A process on the source that has answered."""

    side = "source"
    problem = "its process ended with code 1: it said nothing"

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = answers

    def wait(self, _: float) -> bool:
        return True


def test_before_the_copy_some_of_what_does_not_hold_is_named(tmp_path: Path) -> None:
    suites = read_suites(write(tmp_path, GOOD), TABLES)
    buckets = [f"b{number:04d}" for number in range(40)]
    outcomes = {
        "b0000": {"held": True, "raised": False, "seen": ""},
        "b0001": {"held": False, "raised": False, "seen": "3 of 9 rows"},
        "b0002": {"held": False, "raised": True, "seen": "UndefinedTable"},
    }
    process: Any = Answered(
        *({"bucket": b, "suite": "flights", "results": {"1": outcome}} for b, outcome in outcomes.items()),
        {"bucket": "b0003", "suite": "flights", "results": {}},
        {"bucket": "b0004", "suite": "flights", "results": {}, "broke": "no such table"},
    )
    run = own_run.OwnRun(own_run.OwnChecks(suites, 1), buckets, [process])
    found = own_run.warnings(run)
    what = "expect_column_values_to_not_be_null (tailnum)"
    assert [finding.what for finding in found[:5]] == [
        f"bucket=b0001, item=flights #1 on the source, {what}: 3 of 9 rows",
        f"bucket=b0002, item=flights #1 on the source, {what}: not evaluated: UndefinedTable",
        f"bucket=b0003, item=flights #1 on the source, {what}: not evaluated: Great Expectations left it out",
        f"bucket=b0004, item=flights #1 on the source, {what}: not evaluated: no such table",
        f"bucket=b0005, item=flights #1 on the source, {what}: not evaluated: {process.problem}",
    ]
    assert (len(found), found[-1].what) == (21, "and 19 more")
    assert own_run.warnings(None) == []
    assert [row[2] for row in run.rows()] == [1, 1] + [0] * 38


OWN = (OwnScope("flights", "flights", 2, "a" * 64), OwnScope("late", "flights", 1, "b" * 64))


def test_own_suites_that_do_not_hold_are_told_by_severity(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path
) -> None:
    """That a run whose suites hold is a go is shown on real servers, in ``tests/integration``."""
    evidence = make_evidence(
        replace(scope, own=OWN),
        "UPDATE own_suites SET critical = 'no nulls: 3 of 9 rows'"
        " WHERE bucket = 'b0001' AND item = 'flights #1 on the target'",
        "UPDATE own_suites SET critical = '-', warning = 'late: 1 of 9 rows' WHERE item = 'late #1 on the source'",
        "UPDATE own_suites SET evaluated = 0, critical = '-', warning = 'not evaluated'"
        " WHERE bucket = 'b0002' AND item = 'flights #2 on the source'",
    )
    verdict = run_gate(evidence, replace(scope, own=OWN), tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert verdict.evaluated == verdict.expected
    assert [finding.what for finding in verdict.failed] == [
        "every one was evaluated: bucket=b0002, item=flights #2 on the source, evaluated=0",
        "the critical ones hold: bucket=b0001, item=flights #1 on the target, critical=no nulls: 3 of 9 rows",
    ]
    (warning,) = verdict.warnings
    assert "b0001, item=late #1 on the source, warning=late: 1 of 9 rows" in warning.what


def test_an_own_expectation_that_was_dropped_is_a_no(
    make_evidence: MakeEvidence, scope: Scope, tmp_path: Path
) -> None:
    """Evidence that is consistent with itself: the files, as the caller read them, are what finds it."""
    evidence = make_evidence(
        replace(scope, own=OWN),
        "DELETE FROM own_suites WHERE item LIKE 'late%'",
        "UPDATE collected SET found = found - 2 WHERE item = 'own_suites'",
    )
    verdict = run_gate(evidence, replace(scope, own=OWN), tmp_path / "docs", time_to_live=HOUR)
    assert not verdict.passed
    assert {finding.table for finding in verdict.failed} == {"own_suites"}
    assert any("missing late #1 on the source" in finding.what for finding in verdict.failed)


def test_the_verdict_says_what_own_suites_it_is_about(scope: Scope) -> None:
    verdict = Verdict.from_json(Verdict.no(replace(scope, own=OWN), 9).as_json())
    assert verdict.own_suites == ("flights (2 of flights)", "late (1 of flights)")

    def told(verdict: Verdict) -> str:
        return as_markdown(GateReport(verdict, scope, None, 1.0, HOUR, None))

    assert "your own suites: flights \\(2 of flights\\), late \\(1 of flights\\), in every bucket" in told(
        verdict
    )
    assert "own suites" not in told(Verdict.no(scope, 9))


@pytest.mark.parametrize(
    "other",
    [(), OWN[:1], (OWN[0], replace(OWN[1], sha256="c" * 64)), (OWN[0], replace(OWN[1], table="aircraft"))],
)
def test_evidence_of_other_suites_is_no_evidence(
    make_evidence: MakeEvidence, scope: Scope, other: tuple[OwnScope, ...]
) -> None:
    evidence = make_evidence(replace(scope, own=OWN))
    assert problems(evidence, replace(scope, own=OWN), HOUR) == []
    found = problems(evidence, replace(scope, own=other), HOUR)
    assert any(problem.startswith("its own_suites is flights (2 of flights, sha256 aaa") for problem in found)


@pytest.mark.parametrize("outcome", [("-", "-"), ("held", "held"), (None, "-")])
def test_an_outcome_without_a_severity_is_never_written(
    make_evidence: MakeEvidence, scope: Scope, outcome: tuple[str | None, str]
) -> None:
    values = ", ".join("NULL" if text is None else f"'{text}'" for text in outcome)
    with pytest.raises(sqlite3.IntegrityError):
        make_evidence(replace(scope, own=OWN), f"INSERT INTO own_suites VALUES ('b0001', 'x', 1, {values})")


@pytest.mark.parametrize("own", [(OWN[0], OWN[0]), (replace(OWN[0], expectations=0),)])
def test_a_scope_that_would_check_nothing_of_a_suite_is_refused(
    scope: Scope, own: tuple[OwnScope, ...]
) -> None:
    with pytest.raises(InvalidInput, match=r"^own: "):
        replace(scope, own=own)
