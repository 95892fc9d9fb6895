"""The gate's answer, and its form on the wire: one line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from data_checks.scope import Scope


@dataclass(frozen=True)
class Finding:
    """An expectation that was not met, the table of the evidence, and what is wrong, in words."""

    expectation: str
    table: str
    what: str


@dataclass(frozen=True)
class Verdict:
    """Go or no. ``passed`` needs every expected expectation evaluated, none critical failed, nothing raised.

    ``evidence_begun_at``, ``evidence_made_at``: when reading it began, and when it was complete; ISO 8601, UTC.
    ``docs``: the first page of the Data Docs, None if there are none.
    ``own_suites``: what of the team's own had to be covered.
    """

    passed: bool
    migration: int
    flip: int
    marker: str
    checkpoint: str
    evaluated: int
    expected: int
    failed: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    seconds: float
    evidence_sha256: str | None
    evidence_made_at: str | None
    docs: str | None
    evidence_begun_at: str | None = None
    own_suites: tuple[str, ...] = ()

    def as_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def but(self, *failed: Finding) -> Verdict:
        """The same with more failures: a no."""
        return replace(self, passed=False, failed=(*self.failed, *failed))

    @classmethod
    def from_json(cls, line: str) -> Verdict:
        """Raises `ValueError`, `TypeError` or `KeyError` for anything that is not a whole verdict."""
        fields: dict[str, Any] = json.loads(line)
        for name in ("failed", "warnings"):
            fields[name] = tuple(Finding(**finding) for finding in fields[name])
        fields["own_suites"] = tuple(fields["own_suites"])
        return cls(**fields)

    @classmethod
    def no(cls, scope: Scope, expected: int, *failed: Finding) -> Verdict:
        """A no before anything was evaluated."""
        return cls(
            passed=False,
            migration=scope.migration,
            flip=scope.flip,
            marker=scope.marker,
            checkpoint=scope.checkpoint.value,
            evaluated=0,
            expected=expected,
            failed=failed,
            warnings=(),
            seconds=0.0,
            evidence_sha256=None,
            evidence_made_at=None,
            docs=None,
            own_suites=tuple(f"{s.name} ({s.expectations} of {s.table})" for s in scope.own),
        )
