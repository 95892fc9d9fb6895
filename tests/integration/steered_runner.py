"""Drives a migration in a thread, as a run does: honours what people ask, stores gates and approvals by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from foreshard.errors import Interrupted
from foreshard.migration.lifecycle import ENDS, Stage
from foreshard.migration.progress import Progress
from foreshard.migration.runner import Runner
from tests.integration.moving_fleet import MovingFleet, allow, ignore


def drive(runner: Runner, report: Callable[[Progress], None] = ignore) -> None:
    """Steps until the migration has ended or is held."""
    while (step := runner.next_step()) is not None:
        asked = runner.asked()
        if asked is not None:
            runner.honour(asked, report)
            if runner.record.stage not in ENDS:
                return
            continue
        allow(runner, step)
        try:
            runner.perform(step, report)
        except Interrupted:
            continue


class Driver:
    """A thread that drives; `stages` says which were reported from."""

    def __init__(self, fleet: MovingFleet) -> None:
        self._fleet = fleet
        self.error: BaseException | None = None
        self.reports: list[tuple[Stage, Progress]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._fleet.runner("driver") as runner:
                drive(runner, lambda progress: self.reports.append((runner.record.stage, progress)))
        except BaseException as error:
            self.error = error

    @property
    def over(self) -> bool:
        """Whether it let the migration go."""
        return not self._thread.is_alive()

    def join(self, timeout_s: float = 60) -> None:
        """Waits until it has let the migration go; what went wrong there is raised here."""
        self._thread.join(timeout_s)
        assert self.over, f"still driving at {self._fleet.store.get(self._fleet.migration).stage}"
        if self.error is not None:
            raise self.error


@contextmanager
def driving(fleet: MovingFleet) -> Iterator[Driver]:
    """A driver, waited for at the end."""
    driver = Driver(fleet)
    try:
        yield driver
    finally:
        driver._thread.join(60)
