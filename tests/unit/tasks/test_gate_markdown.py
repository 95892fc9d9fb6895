"""A verdict in words: what a person needs to say yes or no, and nothing of it as markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import mistune
import pytest

from data_checks.compared import Compared, DifferingRow
from data_checks.migration_gate import GateReport
from data_checks.scope import Checkpoint, Scope
from data_checks.suites import expected_count, rows_table
from data_checks.verdict import Finding, Verdict
from tasks.gate_markdown import as_markdown, in_short, in_words

EVIL = "<script>alert(1)</script>|`x`[y](http://example.com)"
ADDRESS = "http://127.0.0.1:4210/migrations/12/before_cutover-4-m/index.html"
NO_ROW = ("b0001", "flights", 3, "id=7", "ghost")


def to_html(markdown: str) -> str:
    return str(mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])(markdown))


@pytest.fixture
def report() -> GateReport:
    """A go over two tables."""
    scope = Scope(12, 4, "m", Checkpoint.BEFORE_CUTOVER, ("b0001", "b0002"), ("flights", EVIL), 16)
    count = expected_count(scope)
    verdict = replace(
        Verdict.no(scope, count),
        passed=True,
        evaluated=count,
        seconds=7.1,
        evidence_sha256="a83750a0e5a0a8993a13f6bfb56d7aa8",
        evidence_made_at="2026-11-23T11:26:06+00:00",
        docs="/state/migrations/12/before_cutover-4-m/docs/index.html",
    )
    figures = Compared(2, 4, 64, 12_345_678, 3_456_789_012, 2, 17, 0, 0, (), 0.0, 14.3)
    return GateReport(verdict, scope, figures, 14.3, timedelta(minutes=5), ADDRESS)


def a_no(report: GateReport, findings: int = 1) -> GateReport:
    """The same with rows that differ and a warning."""
    failed = [
        Finding("e", rows_table(EVIL), f"the same rows on both sides: bucket={EVIL}, item=chunk {n}")
        for n in range(findings)
    ]
    warning = Finding("e", "replication", "nothing failed to apply: bucket=*, item=fwd, apply_errors=3")
    rows = tuple(DifferingRow("b0001", EVIL, n, f"{EVIL}{n}", "changed") for n in range(min(findings, 50)))
    assert report.compared is not None
    return replace(
        report,
        verdict=replace(report.verdict, passed=False, failed=tuple(failed), warnings=(warning,)),
        compared=replace(report.compared, differences=findings, differing=rows, undecided=2),
    )


def test_a_go_says_what_was_compared_and_how_long_it_counts(report: GateReport) -> None:
    text = as_markdown(report)
    for said in (
        "## Go: before cutover, migration 12, flip 4",
        f"{report.verdict.expected} of {report.verdict.expected} checks evaluated, none failed.",
        f"[Every check in detail (Data Docs)]({ADDRESS})",
        "**12,345,678 rows** (3.46 GB) of 4 tables in 2 buckets, in 64 chunks",
        "2 chunks that differed at first, 17 rows: none differs",
        "collecting 14 s, the checks 7.1 s",
        "of 2026-11-23 11:26:06 UTC, counts until 11:31:06, sha256 `a83750a0e5a0a899`",
        "| Rows of flights | 7 | ok |",
        "| Sequences | 3 | ok |",
    ):
        assert said in text
    assert "What failed" not in text


def test_a_no_names_table_chunk_and_keys(report: GateReport) -> None:
    html = to_html(as_markdown(a_no(report)))
    evil = "&lt;script&gt;alert(1)&lt;/script&gt;|`x`[y](http://example.com)"
    for said in (
        "NO: before cutover, migration 12, flip 4",
        "<strong>1 failed</strong>, 1 warning.",
        f"<strong>Rows of {evil}</strong>: the same rows on both sides. Found: bucket={evil}, item=chunk 0",
        "<strong>1 differ</strong>, <strong>2 undecided</strong>",
        f"{evil}0</td>",
        "Warnings: they stop nothing",
        "item=fwd, apply_errors=3",
    ):
        assert said in html
    assert "counts until" not in html


def test_names_and_keys_are_no_markup(report: GateReport) -> None:
    for write in (as_markdown, in_short):
        html = to_html(write(a_no(report)))
        assert "<script" not in html
        assert "<code>x" not in html
        assert ">y</a>" not in html
        assert html.count("<th ") + html.count("<th>") >= 5


def test_many_findings_are_counted_not_listed(report: GateReport) -> None:
    long, short = as_markdown(a_no(report, 140)), in_short(a_no(report, 140))
    assert "And 120 more findings: the Data Docs have them." in long
    assert "And 120 more rows" in long
    assert "And 130 more findings" in short
    assert "**140 failed**" in short
    assert "All checks" not in short
    assert len(long) < 20_000


def test_digests_are_left_out(report: GateReport) -> None:
    what = "the same rows: bucket=b0001, item=chunk 1, source_digest=-12, target_digest=13"
    verdict = replace(report.verdict, passed=False, failed=(Finding("e", "rows_flights", what),))
    text = as_markdown(replace(report, verdict=verdict))
    assert "item=chunk 1\n" in text
    assert "digest" not in text


def test_a_gate_that_broke_says_so_and_nothing_is_called_ok(report: GateReport) -> None:
    broken = Verdict.no(
        report.scope, 45, Finding("gate", "evidence.sqlite", "it did not answer within 180 s")
    )
    text = as_markdown(replace(report, verdict=broken, compared=None, address=None))
    assert "it did not answer within 180 s" in text
    assert "There are no Data Docs" in text
    assert "| ok |" not in text
    assert "not evaluated" in text


def test_without_a_server_the_path_is_named(report: GateReport) -> None:
    assert "before_cutover-4-m/docs/index.html" in as_markdown(replace(report, address=None))


def test_one_line(report: GateReport) -> None:
    count = report.verdict.expected
    assert in_words(report.verdict) == f"go, {count} of {count} checks evaluated, 0 failed"
    assert in_words(a_no(report).verdict).startswith("NO, ")
    assert in_words(a_no(report).verdict).endswith("1 failed, 1 warning")


def test_rows_that_differ_are_counted_over_all_tables() -> None:
    from data_checks.compared import compared
    from foreshard.postgres.chunk_digest import ChunkDigest
    from foreshard.postgres.digests import RowDifference, TableComparison
    from foreshard.postgres.last_word import Word

    chunk = ChunkDigest(0, 10, "1", 9, "2", True, 0)
    rows = tuple(RowDifference(0, f"id={n}", Word.GHOST) for n in range(60))
    one = TableComparison("b0001", "flights", (chunk, chunk), rows, 10, 1000, 1, 3, 0.5)
    figures = compared([one, replace(one, bucket="b0002", differences=())], 2.0)
    assert (figures.buckets, figures.tables, figures.chunks, figures.rows, figures.bytes) == (
        2,
        2,
        4,
        20,
        2000,
    )
    assert (figures.rechecked, figures.rechecked_rows, figures.differences, len(figures.differing)) == (
        2,
        6,
        60,
        50,
    )
