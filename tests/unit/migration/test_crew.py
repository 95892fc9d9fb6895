"""Workers at one list."""

from __future__ import annotations

import threading

import pytest

from foreshard.migration.copying.crew import Queue, work_off


def test_every_thing_is_done_once() -> None:
    done: list[int] = []
    work_off(range(100), 4, lambda queue: done.extend(queue), lambda: None, 0.01)
    assert sorted(done) == list(range(100))


def test_what_a_worker_raises_stops_the_others_and_is_raised() -> None:
    begun = threading.Barrier(2)

    def work(queue: Queue[int]) -> None:
        ended = threading.Event()
        queue.on_stop(ended.set)
        for number in queue:
            begun.wait(5)
            if number == 0:
                raise ValueError("the first")
            assert ended.wait(5), "was not stopped"

    with pytest.raises(ValueError, match="the first"):
        work_off(range(10), 2, work, lambda: None, 0.01)


def test_what_the_watcher_raises_stops_the_workers() -> None:
    def work(queue: Queue[int]) -> None:
        for _ in queue:
            assert queue.stopped.wait(5), "was not stopped"

    def watch() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_off(range(10), 2, work, watch, 0.01)
