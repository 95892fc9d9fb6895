"""Looks at several things at the same time; one that hangs does not keep the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


class Late(Exception):
    """It did not answer in time."""


def together(
    jobs: Mapping[str, Callable[[], T]], timeout_s: float, tell: Callable[[set[str]], None] = lambda _: None
) -> dict[str, T | Exception]:
    """What each job returned or raised, by its name; Late for those that take longer than ``timeout_s`` seconds.

    ``tell`` is told now and then which are still under way. The threads of late ones end with the process.
    """
    results: dict[str, T | Exception] = {}

    def work(name: str, job: Callable[[], T]) -> None:
        try:
            results[name] = job()
        except Exception as error:
            results[name] = error

    threads = {
        name: threading.Thread(target=work, args=(name, job), name=f"doctor {name}", daemon=True)
        for name, job in jobs.items()
    }
    deadline = time.monotonic() + timeout_s
    for thread in threads.values():
        thread.start()
    while (left := {name for name, thread in threads.items() if thread.is_alive()}) and (
        time.monotonic() < deadline
    ):
        tell(left)
        threads[min(left)].join(0.1)
    # A copy: a late one may still write its result.
    found = dict(results)
    return {name: found.get(name, Late(f"no answer within {timeout_s:g} s")) for name in jobs}
