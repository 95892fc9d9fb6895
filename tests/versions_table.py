"""The matrix of versions as a table, from pytest's report: ``python -m tests.versions_table build/versions.xml``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

from foreshard.errors import ForeshardError
from foreshard.fleet.binaries import SUPPORTED, binaries_of

OUTCOMES = ("migrate", "reverse", "abort")
CASE = re.compile(r"test_every_pairing\[(\d+)-to-(\d+)-(\w+)\]")

Results = dict[tuple[int, int, str], str]


def read(report: Path) -> Results:
    """(source, target, outcome) -> ``passed, 4.2 s``. The seconds are the whole test's, its databases' making too."""
    found: Results = {}
    for case in ElementTree.parse(report).iter("testcase"):
        if match := CASE.fullmatch(case.get("name", "")):
            wrong = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), None)
            found[int(match[1]), int(match[2]), match[3]] = (
                wrong or f"passed, {float(case.get('time', 0)):.1f} s"
            )
    return found


def table(results: Results) -> str:
    """Markdown, one line a pairing."""
    lines = [f"| source | target | {' | '.join(OUTCOMES)} |", "|" + "---|" * (2 + len(OUTCOMES))]
    for source in SUPPORTED:
        for target in SUPPORTED:
            cells = [results.get((source, target, outcome), "not run") for outcome in OUTCOMES]
            lines.append(f"| {source} | {target} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _versions() -> str:
    names = []
    for major in SUPPORTED:
        try:
            names.append(binaries_of(major).version)
        except ForeshardError:
            names.append(f"no {major}")
    return ", ".join(names)


if __name__ == "__main__":
    print(f"PostgreSQL {_versions()}\n\n{table(read(Path(sys.argv[1])))}")
