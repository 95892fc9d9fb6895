"""Chained migrations: A -> B, then B -> C. The second one waits until the first has brought its buckets to B.

Nothing is held while it waits, and nothing is made: a process that is cancelled or dies leaves nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from foreshard.control.engine import ControlDatabase
from foreshard.control.migration_store import MigrationStore
from foreshard.errors import BucketBusy

POLL_S = 2.0
TELL_AGAIN_S = 60.0


def open_when_there(
    control: ControlDatabase, plan_id: int, timeout_s: float, tell: Callable[[str], None]
) -> int:
    """`MigrationStore.open`, as soon as the plan's buckets are at its source. ``tell``: hears what is waited for.

    Raises:
        BucketBusy: they did not come within ``timeout_s``.
        ForeshardError: the migration that was to bring them was given up, or what else `MigrationStore.open` raises.
    """
    store = MigrationStore(control)
    deadline = time.monotonic() + timeout_s
    told, tell_at = "", 0.0
    while True:
        try:
            return store.open(plan_id)
        except BucketBusy as busy:
            if time.monotonic() >= deadline:
                raise BucketBusy(
                    f"Waited {timeout_s:g} s, and {busy.message}",
                    remedy=f"Start migrate with plan {plan_id} again when migration {busy.details['migration']} has "
                    "ended.",
                    **busy.details,
                ) from busy
            if busy.message != told or time.monotonic() >= tell_at:
                told, tell_at = busy.message, time.monotonic() + TELL_AGAIN_S
                tell(told)
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
