"""docs/preflight.md says what the tests know, and names tests that there are."""

from __future__ import annotations

from pathlib import Path

from tests.integration.hazard_cases import WITH_A_TEST_OF_ITS_OWN, doc_rows

ROOT = Path(__file__).parents[3]


def test_the_table_holds_every_hazard_of_the_tests_and_no_other() -> None:
    lines = (ROOT / "docs" / "preflight.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("| ") and "`test_" in line]
    wanted = list(doc_rows())
    assert table == wanted, "\n".join(["docs/preflight.md should read:", *wanted])


def test_the_named_tests_are_there() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/integration").glob("test_*.py"))
    named = {test for _, _, test in WITH_A_TEST_OF_ITS_OWN.values()}
    missing = {test for test in named if f"def {test}(" not in tests}
    assert missing == set()
