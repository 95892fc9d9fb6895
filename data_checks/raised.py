"""What Great Expectations caught: exceptions stand on top of a result, or nested in it by metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def raised(evaluated: Any) -> list[Mapping[str, Any]]:
    """The records of all exceptions in a result of one expectation; empty if it was evaluated."""
    return [*_in(evaluated.exception_info), *_in(evaluated.result)]


def _in(info: object) -> Iterator[Mapping[str, Any]]:
    if not isinstance(info, dict):
        return
    if info.get("raised_exception"):
        yield info
    for value in info.values():
        yield from _in(value)
