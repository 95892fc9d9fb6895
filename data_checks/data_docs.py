"""Data Docs of one gate run: pages that a person reads before approving. Only imported in the gate's own process.

A page for each suite: what should be, in words, with the rows that fail; below it the same as Great Expectations
renders it. Great Expectations' own site loads styles, scripts and fonts from other hosts, copies four megabytes
beside each run, and puts names and keys into the page unescaped: so only its renderers are used here. The pages
need nothing but `assets/`, run no script, and can be opened from a disk.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from markupsafe import Markup

from data_checks.docs_view import SectionsView
from data_checks.page_templates import page_templates
from data_checks.raised import raised
from data_checks.scope import Scope
from data_checks.suite_titles import in_words, suite_title

INDEX = "index.html"
SHOWN = 500
"""Failing rows that Great Expectations keeps of a check, and a page shows; the evidence has them all."""

_ASSETS = Path(__file__).with_name("assets")
_STYLES = ("bootstrap/bootstrap.min.css", "bootstrap/LICENSE", "data_docs.css")


@dataclass(frozen=True)
class CheckView:
    """One check on a page. ``rows`` are the failing ones under ``columns``, and there are ``more`` than shown.

    ``observed`` is what was seen where no row is to blame. States: ok, warning, failed, broken (it raised).
    """

    number: int
    name: str
    critical: bool
    state: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    more: int
    observed: str


@dataclass(frozen=True)
class SuiteView:
    """A page. ``details`` is HTML of Great Expectations, its values escaped."""

    title: str
    suite: str
    page: str
    checks: Sequence[CheckView]
    details: Markup

    @property
    def failed(self) -> int:
        """Critical checks that failed, or could not be evaluated."""
        return sum(check.state in ("failed", "broken") for check in self.checks)

    @property
    def warnings(self) -> int:
        """Checks that failed and stop nothing."""
        return sum(check.state == "warning" for check in self.checks)


def build(docs: Path, scope: Scope, results: Iterable[Any], made_at: datetime) -> Path:
    """Writes the pages of ``results`` (GX validation results, one a suite, in order) into ``docs``; returns the first.

    ``made_at`` is when the checks ran. Raises OSError where the directory cannot be written.
    """
    views = [_view(number, validation, scope) for number, validation in enumerate(results, 1)]
    docs.mkdir(parents=True, exist_ok=True)
    for name in _STYLES:
        (docs / "assets" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_ASSETS / name, docs / "assets" / name)
    pages = page_templates()
    shared = {
        "scope": scope,
        "checkpoint": in_words(scope.checkpoint.value),
        "made_at": made_at,
        "views": views,
    }
    for view in views:
        text = pages.get_template("suite.html").render(view=view, **shared)
        (docs / view.page).write_text(text, encoding="utf-8")
    index = docs / INDEX
    index.write_text(pages.get_template("index.html").render(**shared), encoding="utf-8")
    return index.resolve()


def _view(number: int, validation: Any, scope: Scope) -> SuiteView:
    suite = str(validation.suite_name)
    content = ValidationResultsPageRenderer().render(validation)
    content.sections = content.sections[1:]  # the overview: links to pages of a site that is not built
    plain = re.sub("[^a-z0-9_]+", "-", suite.lower())
    return SuiteView(
        suite_title(suite, scope.tables),
        suite,
        f"{number:02}-{plain}.html",
        [_check(number, evaluated) for number, evaluated in enumerate(validation.results, 1)],
        Markup(SectionsView().render(content)),  # type: ignore[no-untyped-call]
    )


def _check(number: int, evaluated: Any) -> CheckView:
    config = evaluated.expectation_config
    critical = config.severity is None or config.severity.value == "critical"
    name = (config.meta or {}).get("check") or config.notes or in_words(config.type)
    trouble = [str(caught.get("exception_message") or "an exception") for caught in raised(evaluated)]
    found: list[Mapping[str, Any]] = evaluated.result.get("partial_unexpected_index_list") or []
    columns = list(dict.fromkeys(column for row in found for column in row))
    if trouble:
        state = "broken"
    elif evaluated.success is True:
        state = "ok"
    else:
        state = "failed" if critical else "warning"
    return CheckView(
        number,
        str(name),
        critical,
        state,
        columns,
        [[_text(row.get(column)) for column in columns] for row in found],
        max((evaluated.result.get("unexpected_count") or 0) - len(found), 0),
        "; ".join(trouble) or _observed(evaluated.result),
    )


def _observed(result: Mapping[str, Any]) -> str:
    """What was seen where no row is to blame."""
    lists = (("partial_missing_list", "missing"), ("partial_unexpected_list", "unexpected"))
    named = [f"{word} {', '.join(map(_text, result[key]))}" for key, word in lists if result.get(key)]
    seen = result.get("observed_value")
    if named or seen is None:
        return "; ".join(named)
    return ", ".join(map(_text, seen)) if isinstance(seen, list) else _text(seen)


def _text(value: object) -> str:
    return "NULL" if value is None else str(value)
