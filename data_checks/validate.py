"""Runs the suites over one evidence file with Great Expectations. Only ever imported in the gate's own process.

Great Expectations is not thread-safe, and a second context in a process has been seen to make a gate compare
the target with itself: so one process, one context, one thread, and names that carry the migration's number
(`data_checks.provenance` looks after that).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
from great_expectations.core.run_identifier import RunIdentifier

from data_checks import data_docs, provenance
from data_checks.gx_context import new_context
from data_checks.raised import raised
from data_checks.scope import Scope
from data_checks.suites import Check, Severity, Suite

NAMED = 5
"""How many failing rows a finding names, beside how many there are; the Data Docs have more."""

VALUE_CHARACTERS = 300
"""The longest value that a finding shows: the body of a function may be pages."""


@dataclass(frozen=True)
class Outcome:
    """One evaluated expectation."""

    table: str
    check: str
    expectation: str
    severity: Severity
    success: bool
    raised: bool
    what: str


class Validation:
    """One run. ``docs`` is the directory for its Data Docs, the only place that is written to."""

    def __init__(self, evidence: Path, scope: Scope, docs: Path) -> None:
        provenance.refuse_any_context()
        self._scope = scope
        self._docs = docs
        self._results: list[Any] = []
        self._run_time = datetime.now(UTC)
        # As an address of SQLite's own: a blank in a path is no part of an address, and nothing can be written.
        self._address = (
            f"sqlite:///{evidence.resolve().as_uri().replace('file://', 'file:')}?mode=ro&uri=true"
        )
        self._context = new_context()
        self._source = self._context.data_sources.add_sqlite(
            name=f"migration-{scope.migration}-flip-{scope.flip}",
            connection_string=self._address,
        )

    def run(self, suites: Sequence[Suite]) -> list[Outcome]:
        """Validate every suite; one outcome for each expectation that was evaluated.

        Raises `provenance.NotOurs` if the results may be of anything else than our evidence.
        """
        scope = self._scope
        definitions = {suite.table: self._definition(suite) for suite in suites}
        checkpoint = self._context.checkpoints.add(
            gx.Checkpoint(
                name=scope.checkpoint.value,
                validation_definitions=list(definitions.values()),
                result_format={
                    "result_format": "SUMMARY",  # COMPLETE keeps every value that is not as expected
                    "unexpected_index_column_names": ["bucket", "item"],
                    "partial_unexpected_count": data_docs.SHOWN,
                },
            )
        )
        provenance.require_only(self._context, self._source)
        # Without run_time a name that looks like a date would become the time of the run.
        run_id = RunIdentifier(
            run_name=f"migration-{scope.migration}-flip-{scope.flip}", run_time=self._run_time
        )
        result = checkpoint.run(run_id=run_id)
        provenance.require_only(self._context, self._source)
        for table, definition in definitions.items():
            provenance.require_source(self._source, self._context, definition, table, self._address)
        self._results = list(result.run_results.values())
        provenance.require_ours(self._source, suites, self._results)
        return [
            _outcome(validation.suite_name, evaluated)
            for validation in self._results
            for evaluated in validation.results
        ]

    def build_docs(self) -> str:
        """Build the Data Docs of what `run` found; returns the path of the first page."""
        return str(data_docs.build(self._docs, self._scope, self._results, self._run_time))

    def _definition(self, suite: Suite) -> Any:
        asset = self._source.add_table_asset(name=suite.table, table_name=suite.table)
        return self._context.validation_definitions.add(
            gx.ValidationDefinition(
                name=suite.table,
                data=asset.add_batch_definition_whole_table(provenance.BATCH),
                suite=self._context.suites.add(
                    gx.ExpectationSuite(
                        name=suite.table, expectations=[_expectation(check) for check in suite.checks]
                    )
                ),
            )
        )


def _expectation(check: Check) -> Any:
    kind = getattr(gx.expectations, check.expectation)
    return kind(
        **check.arguments, severity=check.severity.value, meta={"check": check.name}, notes=check.name
    )


def _outcome(table: str, evaluated: Any) -> Outcome:
    config = evaluated.expectation_config
    check = str(config.meta["check"])
    broken = bool(raised(evaluated))
    return Outcome(
        table=table,
        check=check,
        expectation=config.type,
        severity=Severity(config.severity.value),
        success=evaluated.success is True,
        raised=broken,
        what=f"{check}: {'it could not be evaluated' if broken else _seen(evaluated.result)}",
    )


def _seen(result: dict[str, Any]) -> str:
    rows = (result.get("partial_unexpected_index_list") or [])[:NAMED]
    named = [", ".join(f"{name}={_shortened(value)}" for name, value in row.items()) for row in rows]
    more = (result.get("unexpected_count") or len(rows)) - len(rows)
    if named:
        return "; ".join([*named, f"and {more:,} more"] if more > 0 else named)
    for lists in (("partial_unexpected_list", "unexpected"), ("partial_missing_list", "missing")):
        if result.get(lists[0]):
            named.append(f"{lists[1]} {', '.join(map(_shortened, result[lists[0]][:NAMED]))}")
    return "; ".join(named) or f"observed {_shortened(result.get('observed_value'))}"


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}… ({len(text):,} characters)"
