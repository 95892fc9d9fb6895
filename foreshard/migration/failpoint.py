"""Failpoints: named places at which a test kills the process, as a crash would.

``FORESHARD_FAILPOINTS=backfill,flip_closed`` arms them; each kills once (a file in the state directory
remembers), so that the process that resumes gets past it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

VARIABLE = "FORESHARD_FAILPOINTS"


def hit(name: str, state_dir: Path) -> None:
    """Kill this process by SIGKILL if the failpoint is armed and has not killed before."""
    if name not in os.environ.get(VARIABLE, "").split(","):
        return
    spent = state_dir / "failpoints" / name
    spent.parent.mkdir(parents=True, exist_ok=True)
    try:
        spent.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
