"""Where the Data Docs of gate runs stand: in the state directory, and under the address that serves them.

STATE_DIR/migrations/12/before_cutover-3-a1b2c3d4/docs/index.html    beside verdict.json and evidence.sqlite
http://HOST:PORT/migrations/12/before_cutover-3-a1b2c3d4/index.html  the same page, and nothing else of it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreshard.quantities import many
from foreshard.settings import ChecksSettings

MIGRATIONS = "migrations"
DOCS = "docs"
FIRST = "index.html"
_VERDICT = "verdict.json"


@dataclass(frozen=True)
class DocsRun:
    """One gate run that has pages. ``verdict`` is empty where none was kept; ``made_at`` is UTC."""

    migration: int
    name: str
    directory: Path
    verdict: Mapping[str, Any]
    made_at: datetime

    @property
    def first_page(self) -> Path:
        """What a person opens."""
        return self.directory / DOCS / FIRST

    @property
    def checkpoint(self) -> str:
        """In words: ``before cutover``."""
        return str(self.verdict.get("checkpoint", self.name)).replace("_", " ")

    @property
    def verdict_in_words(self) -> str:
        """``go``, ``NO, 2 of 45 checks failed``, with the number of warnings."""
        if not self.verdict:
            return "unknown"
        failed, warnings = len(self.verdict["failed"]), len(self.verdict["warnings"])
        said = "go" if self.verdict["passed"] else "NO"
        if failed:
            said += f", {failed} of {self.verdict['expected']} checks failed"
        return f"{said}, {many(warnings, 'warning')}" if warnings else said


def directory_of(state_dir: Path, migration: int, name: str) -> Path:
    """Where a gate run keeps its evidence, its verdict and its pages."""
    return state_dir / MIGRATIONS / str(migration) / name


def keep_verdict(directory: Path, verdict: Mapping[str, Any]) -> None:
    """Writes the verdict beside the pages, where the list of all runs reads it."""
    (directory / _VERDICT).write_text(json.dumps(verdict, indent=1, ensure_ascii=False), encoding="utf-8")


def runs(state_dir: Path, migration: int | None = None) -> list[DocsRun]:
    """All gate runs with pages, newest first; those of one migration where it is given."""
    found = [
        _run(page.parent.parent)
        for page in (state_dir / MIGRATIONS).glob(
            f"{'*' if migration is None else migration}/*/{DOCS}/{FIRST}"
        )
        if page.parts[-4].isdecimal()
    ]
    return sorted(found, key=lambda run: run.made_at, reverse=True)


def address(checks: ChecksSettings, migration: int, name: str, page: str = FIRST) -> str | None:
    """The URL of a page of one run; None if Data Docs are not served."""
    root = root_address(checks)
    return None if root is None else f"{root}{MIGRATIONS}/{migration}/{name}/{page}"


def root_address(checks: ChecksSettings) -> str | None:
    """The URL of the list of all runs; None if Data Docs are not served."""
    if not checks.docs_port:
        return None
    host = f"[{checks.docs_host}]" if ":" in checks.docs_host else checks.docs_host
    return f"http://{host}:{checks.docs_port}/"


def _run(directory: Path) -> DocsRun:
    page = directory / DOCS / FIRST
    made_at = datetime.fromtimestamp(page.stat().st_mtime, UTC)
    try:
        verdict = json.loads((directory / _VERDICT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        verdict = {}
    return DocsRun(int(directory.parent.name), directory.name, directory, verdict, made_at)
