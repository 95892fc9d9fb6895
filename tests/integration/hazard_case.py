"""One hazard as a test makes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """``says``: a part of "subject: why" of the finding. Statements are run one by one, as superuser."""

    says: str
    blocking: bool = True
    source: tuple[str, ...] = ()
    target: tuple[str, ...] = ()


WARNS = False
"""For `Case.blocking`."""
