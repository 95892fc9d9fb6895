"""Waits for what the control database says, beside what the browser shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(what: str, look: Callable[[], T | None], timeout_s: float) -> T:
    """What ``look`` finds at last; it is asked twice a second."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.5)
    raise AssertionError(f"waited {timeout_s:g} s: {what}")
