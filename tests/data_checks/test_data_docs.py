"""Data Docs are read on a machine without a network, and names and keys in them are never markup."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

import data_checks
from data_checks.evidence import EvidenceWriter
from data_checks.run_gate import run_gate
from data_checks.scope import Checkpoint, Scope
from data_checks.suite_titles import suite_title
from data_checks.suites import rows_table, suites_for
from data_checks.verdict import Verdict
from tests.data_checks.browser import CHROMIUM, complaints
from tests.data_checks.conftest import write_equal

ASSETS = Path(data_checks.__file__).with_name("assets")
TABLE = "<script>alert('table')</script>"
BUCKET = '"><img src=x onerror=alert(1)>'
KEY = "flights id=<b onmouseover='alert(1)'>7</b>&amp;"
DEFINITION = "CHECK (a < 5 AND b <> '</td><script src=http://example.com/x.js></script>')"
SCOPE = Scope(12, 3, "a-marker", Checkpoint.BEFORE_CUTOVER, ("b0001", BUCKET), ("flights", TABLE), 4)


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """Of evidence whose every name wants to be markup, with findings of every kind."""
    directory = tmp_path_factory.mktemp("docs")
    path = directory / "evidence.sqlite"
    with EvidenceWriter(path, SCOPE, datetime.now(UTC)) as evidence:
        write_equal(evidence, SCOPE)
        evidence.add("differences", [(BUCKET, f"{KEY} {n}", 0, "changed") for n in range(600)])
    with closing(sqlite3.connect(path)) as database:
        database.execute(f'UPDATE "{rows_table(TABLE)}" SET target_digest = ? WHERE chunk = 1', [DEFINITION])
        database.execute("UPDATE schema_constraints SET item = ?, target_definition = ?", [TABLE, DEFINITION])
        database.execute("UPDATE schema_indexes SET bucket = ?", [KEY])
        database.execute("UPDATE replication SET wal_status = ?, apply_errors = 1", [TABLE])
        database.execute("UPDATE collected SET found = 2 WHERE item = 'schema_indexes' AND bucket <> 'b0001'")
        database.execute("UPDATE collected SET bucket = ? WHERE item = 'schema_indexes'", [KEY])
        database.commit()
    found = run_gate(path, SCOPE, directory / "docs", time_to_live=timedelta(hours=1))
    assert found.docs is not None, found
    return found


@pytest.fixture
def docs(verdict: Verdict) -> Path:
    assert verdict.docs is not None
    return Path(verdict.docs).parent


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(docs: Path) -> Iterator[Page]:
    found = sorted(docs.glob("*.html"))
    assert len(found) == len(suites_for(SCOPE)) + 1, "one a suite, and the first page"
    return (Page(path.read_text(encoding="utf-8")) for path in found)


def elsewhere(css: str) -> list[str]:
    """What a style sheet would load from outside its own directory."""
    loaded = [url for _, url in re.findall(r"url\(\s*([\"']?)(.*?)\1\s*\)", css)]
    return [url for url in loaded if not url.startswith("data:")] + re.findall(r"@import.*", css)


def test_no_page_refers_to_another_host(docs: Path) -> None:
    for page in pages(docs):
        for name, value in page.attributes:
            if name in ("href", "src", "srcset", "action", "formaction", "poster", "data", "background"):
                assert value.startswith(("#", "data:,")) or (docs / value.split("#")[0]).is_file(), value
            assert name != "style" or not elsewhere(value)
    sheets = sorted((docs / "assets").rglob("*.css"))
    assert len(sheets) == 2
    assert [url for sheet in sheets for url in elsewhere(sheet.read_text(encoding="utf-8"))] == []


def test_no_name_and_no_key_becomes_markup(docs: Path) -> None:
    text = ""
    for page in pages(docs):
        assert page.tags.isdisjoint({"script", "img", "iframe", "object", "base", "form"})
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        text += page.text
    for said in (TABLE, BUCKET, DEFINITION, f"{KEY} 0"):
        assert said in text


def test_the_first_page_says_what_it_is_about_and_what_failed(docs: Path, verdict: Verdict) -> None:
    page = Page((docs / "index.html").read_text(encoding="utf-8"))
    for said in (
        "Migration 12, flip 3: before cutover",
        f"{len(verdict.failed)} of {verdict.evaluated} checks failed",
        f"Rows of {TABLE}",
        "the same rows on both sides",
        "1 warning",
    ):
        assert said in re.sub(r"\s+", " ", page.text)
    linked = [value for name, value in page.attributes if name == "href" and "#" in value]
    assert len(linked) == len(verdict.failed) + len(verdict.warnings)
    for target in linked:
        file, anchor = target.split("#")
        there = Page((docs / file).read_text(encoding="utf-8"))
        assert ("id", anchor) in there.attributes


def test_failing_rows_are_named_and_counted(docs: Path, verdict: Verdict) -> None:
    (finding,) = [one for one in verdict.failed if one.table == "differences"]
    assert finding.what.endswith("; and 595 more")
    (path,) = docs.glob("*-differences.html")
    text = Page(path.read_text(encoding="utf-8")).text
    assert f"{KEY} 499" in text
    assert f"{KEY} 500" not in text
    assert "And 100 more" in text


def test_suites_stand_in_their_order(docs: Path) -> None:
    names = [path.stem.split("-", 1)[1] for path in sorted(docs.glob("??-*.html"))]
    assert names == [suite.table for suite in suites_for(SCOPE)]


def test_the_pages_are_small(docs: Path) -> None:
    assert sum(path.stat().st_size for path in docs.rglob("*") if path.is_file()) < 600_000


def test_assets_are_those_of_the_manifest() -> None:
    manifest = json.loads((ASSETS / "manifest.json").read_text(encoding="utf-8"))
    vendored = {path for directory in manifest for path in (ASSETS / directory).iterdir()}
    named = set()
    for directory, one in manifest.items():
        for name, wanted in one["files"].items():
            path = ASSETS / directory / Path(name).name
            assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted
            named.add(path)
    assert vendored == named


def test_titles() -> None:
    assert suite_title(rows_table("Odd Name"), ["plain", "Odd Name"]) == "Rows of Odd Name"
    assert suite_title("schema_constraints", []) == "Constraints"
    assert suite_title("shadow_reads", []) == "Shadow reads"


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_without_a_network_misses_nothing(docs: Path, tmp_path: Path) -> None:
    (rows,) = docs.glob("*-rows_flights.html")
    assert complaints((docs / "index.html").as_uri(), tmp_path / "one") == []
    assert complaints(rows.as_uri(), tmp_path / "two") == []
    text = rows.read_text(encoding="utf-8")
    for number, broken in enumerate(
        (
            text.replace("assets/bootstrap/", "http://example.com/"),
            text.replace("</body>", "<script>alert(1)</script></body>"),
            text.replace("</body>", '<img src="http://example.com/x.png"></body>'),
        )
    ):
        page = docs / "broken.html"
        page.write_text(broken, encoding="utf-8")
        try:
            assert complaints(page.as_uri(), tmp_path / f"broken-{number}"), (
                "this test must see what is missing"
            )
        finally:
            page.unlink()
