"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """``wrong``: something does not work, or will not when it is needed; ``warn``: worth knowing."""

    OK = "ok"
    WARN = "warn"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """``check`` is what ``--only`` takes; ``remedy`` is empty when there is nothing to do."""

    check: str
    what: str
    severity: Severity = Severity.OK
    remedy: str = ""


def ok(check: str, what: str) -> Finding:
    """In order."""
    return Finding(check, what)


def warn(check: str, what: str, remedy: str) -> Finding:
    """Worth knowing."""
    return Finding(check, what, Severity.WARN, remedy)


def wrong(check: str, what: str, remedy: str) -> Finding:
    """To be mended."""
    return Finding(check, what, Severity.WRONG, remedy)


def or_ok(check: str, found: Iterable[Finding], otherwise: str) -> list[Finding]:
    """What was found; nothing: one finding that says so."""
    return list(found) or [ok(check, otherwise)]
