"""Several workers at one list of things, and somebody who watches over them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Queue(Generic[T]):
    """Things to be done, each given to one worker; empty for all as soon as the crew is stopped."""

    def __init__(self, things: Iterable[T]) -> None:
        self._things, self._lock = iter(things), threading.Lock()
        self._cancels: list[Callable[[], object]] = []
        self.stopped = threading.Event()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            if self.stopped.is_set():
                raise StopIteration
            return next(self._things)

    def on_stop(self, cancel: Callable[[], object]) -> None:
        """``cancel`` ends what a worker is waiting for, should the crew be stopped."""
        self._cancels.append(cancel)

    def stop(self) -> None:
        """Nothing more is given out, and what is under way is cancelled."""
        self.stopped.set()
        for cancel in self._cancels:
            with contextlib.suppress(Exception):  # it has ended by itself
                cancel()


def work_off(
    things: Iterable[T],
    workers: int,
    work: Callable[[Queue[T]], None],
    watch: Callable[[], None],
    look_s: float,
) -> None:
    """Run ``work``, which takes things from its queue until there are none, in so many threads at once.

    ``watch`` is called in this thread, now and every ``look_s`` until all are through. What it or a worker raises, or
    Ctrl-C, stops the others; then it is raised here.
    """
    queue = Queue(things)
    with ThreadPoolExecutor(workers, thread_name_prefix="foreshard-copy") as pool:
        crew = [pool.submit(work, queue) for _ in range(workers)]
        try:
            watch()
            while not _through(crew, look_s):
                watch()
        except BaseException:
            queue.stop()
            raise
        if any(worker.exception() is not None for worker in crew if worker.done()):
            queue.stop()
    failed = [error for worker in crew if (error := worker.exception()) is not None]
    if failed:
        raise failed[0]


def _through(crew: list[Future[None]], look_s: float) -> bool:
    """Whether all have ended, or one has failed; waits for that a little while."""
    ended, going_on = wait(crew, look_s, FIRST_EXCEPTION)
    return not going_on or any(worker.exception() is not None for worker in ended)
