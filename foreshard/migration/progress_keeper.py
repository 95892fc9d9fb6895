"""Keeps the newest progress of a step, and its streams' lag, in the control database while the step works.

Its own thread writes: however slow the control database is, a report never makes the copy wait.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from foreshard.control.lease import Lease
from foreshard.control.progress_store import ProgressStore
from foreshard.errors import LeaseLost
from foreshard.migration.progress import Progress, RateMeter, Report

logger = logging.getLogger(__name__)

BETWEEN_WRITES_S = 2.0


class ProgressKeeper:
    """A `Report` that passes on what it hears, rates filled in, and stores it. Use as a context manager.

    The first report is stored at once, then the newest every two seconds, and the last one on leaving. Nothing that
    goes wrong with it stops the work. Not even a lost lease: this runner changes nothing any more without the step's
    own writes noticing it, and a step must not end wherever it happens to say how far it is.
    ``keep_streams`` is called after each write.
    """

    def __init__(
        self,
        store: ProgressStore,
        lease: Lease,
        step: str,
        report: Report,
        keep_streams: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._lease, self._step, self._report = store, lease, step, report
        self._keep_streams = keep_streams
        self._meter = RateMeter()
        self._newest: Progress | None = None
        self._news, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="foreshard-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._news.set()
        self._thread.join()

    def __call__(self, progress: Progress) -> None:
        """Takes the newest progress."""
        self._newest = progress = self._meter.filled(progress)
        self._news.set()
        self._report(progress)

    def _write_all(self) -> None:
        written: Progress | None = None
        while True:
            self._news.wait()
            self._news.clear()
            over = self._over.is_set()
            newest = self._newest
            if newest is not None and newest is not written:
                try:
                    self._store.keep(self._lease, self._step, newest.to_json())
                    written = newest
                    self._keep_streams()
                except LeaseLost:
                    return  # another runner's progress is the newest now
                except Exception as problem:  # the control database is away for a moment
                    logger.warning("progress of migration %s not kept: %s", self._lease.migration, problem)
            if over:
                return
            self._over.wait(BETWEEN_WRITES_S)
