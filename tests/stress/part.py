"""A part of the stress run: what one writes to have a proof run, reported and written down with the others.

A part is any object with a ``name`` (for ``--only``), a sentence ``what``, and ``run``. It is listed in `parts.PARTS`.
It takes servers from the context, tells how it goes by ``context.say``, and puts what it measured into a `PartResult`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from foreshard.fleet.throwaway import ThrowawayServers


@dataclass(frozen=True)
class Context:
    """What every part is given. ``directory`` is empty and its own; ``say`` prints a line of progress."""

    servers: ThrowawayServers
    directory: Path
    flips: int
    seed: int
    say: Callable[[str], None]


@dataclass(frozen=True)
class PartResult:
    """``figures`` are printed, ``lines`` too, worst first; all of it goes into the JSON, and ``details`` only there."""

    passed: bool
    figures: Mapping[str, Any]
    lines: Sequence[str] = field(default=())
    details: Mapping[str, Any] = field(default_factory=dict)


class Part(Protocol):
    """One proof."""

    @property
    def name(self) -> str:
        """One word, for ``--only`` and the JSON."""
        ...

    @property
    def what(self) -> str:
        """What it proves, in a sentence."""
        ...

    def run(self, context: Context) -> PartResult:
        """Run it. Whatever it raises is reported as a failed part; the others are run all the same."""
        ...
