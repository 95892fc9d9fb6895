"""What one gate run is about. Collector, suites and gate each get it from the caller, never from the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from data_checks.own_scope import OwnScope
from foreshard.errors import InvalidInput


class Checkpoint(StrEnum):
    """When the gate is asked."""

    BEFORE_COPY = "before_copy"
    BEFORE_CUTOVER = "before_cutover"
    AFTER_CUTOVER = "after_cutover"


@dataclass(frozen=True)
class Scope:
    """The migration, the flip that the gate allows, and what must be covered.

    ``marker`` names this attempt: evidence that carries another one is refused. ``chunks`` is how many chunks
    each table of each bucket is digested in; ``own`` are the team's own suites. Raises `InvalidInput` if nothing
    would be checked.
    """

    migration: int
    flip: int
    marker: str
    checkpoint: Checkpoint
    buckets: tuple[str, ...]
    tables: tuple[str, ...]
    chunks: int
    own: tuple[OwnScope, ...] = ()

    def __post_init__(self) -> None:
        for field, names in (("buckets", self.buckets), ("tables", self.tables)):
            if not names:
                raise InvalidInput(field, "is empty, so nothing would be checked")
            if len(set(names)) != len(names):
                raise InvalidInput(field, f"names one twice: {', '.join(names)}")
        if self.chunks < 1:
            raise InvalidInput("chunks", f"{self.chunks} is less than 1")
        if len({suite.name for suite in self.own}) != len(self.own):
            raise InvalidInput("own", "names a suite twice")
        if any(suite.expectations < 1 for suite in self.own):
            raise InvalidInput("own", "holds a suite that would check nothing")
        if not self.marker:
            raise InvalidInput("marker", "is empty")
