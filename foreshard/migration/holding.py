"""How a step that is under way hears that somebody wants it to stop.

A thread asks the control database; the step itself is stopped where it says how far it is. There it may stop as it may
die there: every stage can be entered again. Nothing is asked inside a flip, since nothing is reported there.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self

from foreshard.control.request_store import RequestRecord, RequestStore, interrupted
from foreshard.migration.progress import Progress, Report

logger = logging.getLogger(__name__)

LOOK_S = 0.5


class Hearing:
    """A `Report` that passes on what it is told, and raises `Interrupted` once there is an open request.

    Use as a context manager. ``deaf``: the step is not to be interrupted. However slow the control database is, a
    report never waits for it.
    """

    def __init__(self, store: RequestStore, migration_id: int, report: Report, *, deaf: bool) -> None:
        self._store, self._migration, self._report, self._deaf = store, migration_id, report, deaf
        self._asked: RequestRecord | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="foreshard-requests", daemon=True)

    def __enter__(self) -> Self:
        if not self._deaf:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if not self._deaf:
            self._thread.join()

    def __call__(self, progress: Progress) -> None:
        """Passes it on.

        Raises:
            Interrupted: somebody asked to hold the migration, or to give it back.
        """
        self._report(progress)
        if self._asked is not None:
            raise interrupted(self._asked)

    def _listen(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self._asked = self._store.open(self._migration)
            except Exception as problem:  # the control database is away for a moment
                logger.warning("migration %s: requests are not seen: %s", self._migration, problem)
