"""The recorded steps of a runner, found by looking at the stores: before and after each of them a party may die.

A recorded step is a write that a runner makes under its lease: every public method of `MigrationStore` and
`FlipStore` whose first argument is ``lease``, and the product's own failpoints. They are found by introspection, so
a new method, a new stage or a new call is a new point without a line being changed here.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from foreshard.control.flip_store import FlipStore
from foreshard.control.migration_store import MigrationStore
from foreshard.migration import failpoint
from foreshard.migration.lifecycle import Stage

STORES = (MigrationStore, FlipStore)

AGAIN = 3
"""A point that comes oftener than this within one step is no new point: a chain of kills must come to an end."""


class When(StrEnum):
    """On which side of the write."""

    BEFORE = "before"
    AT = "at"
    AFTER = "after"


@dataclass(frozen=True, order=True)
class Point:
    """A place at which a party may die.

    Holds nothing that differs between two migrations (numbers, bounds, names of objects), so that the points of a
    recording are found again. ``entering``: the runner was settling what the one before it left.
    """

    stage: str
    entering: bool
    write: str
    when: When
    again: int

    def __str__(self) -> str:
        times = f" ({self.again + 1}.)" if self.again else ""
        return f"{self.stage}{' entering' if self.entering else ''}: {self.when} {self.write}{times}"


def lease_methods(store: type) -> list[str]:
    """Names of the store's writes under a lease."""
    return [
        name
        for name, method in inspect.getmembers(store, inspect.isfunction)
        if not name.startswith("_") and list(inspect.signature(method).parameters)[1:2] == ["lease"]
    ]


class StepRecorder:
    """Calls ``reach`` at every point of the main thread, in order. The heartbeat's renewals are no steps."""

    def __init__(self, stage: Stage, reach: Callable[[Point], None]) -> None:
        self._stage = stage.value
        self._entering = True
        self._reach = reach
        self._seen: Counter[Point] = Counter()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put the points into the stores and the failpoints of this process, until ``patch`` is undone."""
        for store in STORES:
            for name in lease_methods(store):
                patch.setattr(store, name, self._around(getattr(store, name)))
        patch.setattr(failpoint, "hit", self._failpoint)

    def entered(self) -> None:
        """The runner holds the lease and has settled what was left."""
        self._entering = False

    def _around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(method)

        def write(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return method(*args, **kwargs)
            given = signature.bind(*args, **kwargs).arguments
            if method.__name__ == "begin":
                self._seen.clear()
            label, stage = describe(method.__name__, given), self._stage
            self._at(Point(stage, self._entering, label, When.BEFORE, 0))
            result = method(*args, **kwargs)
            self._at(Point(stage, self._entering, label, When.AFTER, 0))
            if method.__name__ == "go_to":
                self._stage = given["stage"].value
                self._seen.clear()
            return result

        return write

    def _failpoint(self, name: str, state_dir: Path) -> None:
        del state_dir
        self._at(Point(self._stage, self._entering, f"failpoint {name}", When.AT, 0))

    def _at(self, point: Point) -> None:
        again = self._seen[point]
        self._seen[point] += 1
        if again < AGAIN:
            self._reach(Point(point.stage, point.entering, point.write, point.when, again))


def describe(method: str, given: dict[str, Any]) -> str:
    """The write without what differs between two migrations: ``record_resource source slot foreshard_fwd``."""
    said = []
    for name, value in given.items():
        if name in ("self", "lease") or value is None:
            continue
        if isinstance(value, str) and re.fullmatch(r"[\w .%]{1,40}", value):
            plain = re.sub(r"foreshard_[0-9a-z]+_\d+", "foreshard", value)
            said.append(re.sub(r"\b\d+(\.\d+)?\b", "n", plain))
        elif isinstance(value, dict) and name == "facts":
            said.extend(sorted(value))
        elif name in ("bound", "shadow_percent", "failure"):
            said.append(name)
    return " ".join([method, *said])
