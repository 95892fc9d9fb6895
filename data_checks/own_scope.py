"""What a gate run must cover of a team's own suites: names, tables, how many expectations, and which bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class OwnScope:
    """One suite. ``name`` is its file's, without the ending; ``sha256`` the hash of the file as it was read."""

    name: str
    table: str
    expectations: int
    sha256: str

    @property
    def items(self) -> list[str]:
        """What its expectations are called in the evidence."""
        return [item(self.name, number) for number in range(1, self.expectations + 1)]

    def as_argument(self) -> str:
        """For the gate's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> OwnScope:
        """Raises `ValueError` or `TypeError` for anything else than `as_argument` gives."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return f"{self.name} ({self.expectations} of {self.table}, sha256 {self.sha256})"


def item(suite: str, number: int) -> str:
    """An expectation by its place in the file, from 1: names of a suite's expectations need not be unique."""
    return f"{suite} #{number}"
