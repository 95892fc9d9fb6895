"""Code that the docs quote is code that runs: word for word what stands in examples/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUOTED = [
    (page, file, code)
    for page in sorted(ROOT.glob("docs/*.md"))
    for file, code in re.findall(
        r"```python\n# (examples/\S+\.py)\n(.*?)```", page.read_text(encoding="utf-8"), re.S
    )
]


def test_the_orm_example_is_quoted() -> None:
    assert ("orm.md", "examples/orm_boarding.py") in [(page.name, file) for page, file, _ in QUOTED]


@pytest.mark.parametrize(("page", "file", "code"), QUOTED, ids=lambda value: getattr(value, "name", None))
def test_what_is_quoted_stands_in_the_file(page: Path, file: str, code: str) -> None:
    del page
    assert code in (ROOT / file).read_text(encoding="utf-8")
