"""What a copy of rows was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Copied:
    """``bytes`` on the source's disk without indexes; ``rows`` None where nobody counted them.

    ``seconds`` that this runner took, ``throttled_s`` of them spent waiting. ``interrupted``: something had been copied
    before that did not come to its end, and may have left dead rows.
    """

    bytes: int
    rows: int | None
    seconds: float
    throttled_s: float
    interrupted: bool
