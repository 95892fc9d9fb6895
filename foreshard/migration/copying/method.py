"""How rows are copied. Pure.

``pipe`` is the faster one and can be slowed down to the byte; what changes meanwhile waits in the source's WAL until
all is copied. ``subscription`` applies it between two buckets, and does not need the runner.
"""

from __future__ import annotations

from enum import StrEnum

WAL_SHARE = 0.5
"""Of the budget: what may pile up while the pipe copies, as far as can be foreseen."""


class Method(StrEnum):
    """Of copying rows."""

    PIPE = "pipe"
    SUBSCRIPTION = "subscription"


def choose(
    wanted: str, size_bytes: int, bytes_per_s: float, wal_bytes_per_s: float, wal_budget_bytes: int
) -> tuple[Method, str]:
    """The method, and why. ``wanted``: the setting; ``auto`` takes the pipe unless too much WAL would pile up."""
    if wanted != "auto":
        return Method(wanted), "as set"
    piled_up = size_bytes / bytes_per_s * wal_bytes_per_s
    if piled_up > WAL_SHARE * wal_budget_bytes:
        why = f"about {piled_up / 2**20:,.0f} MiB of WAL would pile up while a pipe copies"
        return Method.SUBSCRIPTION, why
    return Method.PIPE, "the faster one"
