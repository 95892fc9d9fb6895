"""The map that a router works by never goes back, and is fresh only if it was so before it was taken."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from foreshard.router import Addressing, StaticMapSource
from foreshard.router.core import Call, RouterCore
from foreshard.router.healing import Healing
from foreshard.topology.keys import KeyType
from foreshard.topology.placement import Placement
from foreshard.topology.routing_map import Intent, Redirection, RoutingMap


def routing_map(epoch: int, *redirections: Redirection) -> RoutingMap:
    return RoutingMap(epoch, KeyType.TEXT, ("b0",), Placement({"b0": "one"}), redirections)


def core_of(source: StaticMapSource) -> RouterCore:
    return RouterCore(
        source, application="test", deadline_s=1.0, bucket_of=None, addressing=Addressing.QUALIFIED
    )


class Held:
    """Holds one thread up at one place."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=work)
        self._there, self._go_on = threading.Event(), threading.Event()

    def begin(self) -> None:
        self._thread.start()
        assert self._there.wait(10)

    def here(self) -> None:
        if threading.current_thread() is self._thread:
            self._there.set()
            assert self._go_on.wait(10)

    def end(self) -> None:
        self._go_on.set()
        self._thread.join()


class Observed(StaticMapSource):
    """Calls back when the map has been taken."""

    taken: Callable[[], None] | None = None

    def current(self) -> RoutingMap:
        taken = self.map
        if self.taken is not None:
            self.taken()
        return taken


def test_a_thread_that_was_held_up_does_not_bring_an_older_map_back() -> None:
    source = Observed(routing_map(1))
    core = core_of(source)
    held = Held(lambda: core.map)
    source.taken = held.here
    source.map = routing_map(2)
    held.begin()
    source.map = routing_map(3)
    assert core.map.epoch == 3
    held.end()
    assert core._map.epoch == 3


def test_a_map_that_is_being_healed_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks after the source has a new map works by that one, though another thread is still at it."""
    source = StaticMapSource(routing_map(1))
    core = core_of(source)
    held = Held(lambda: core.map)
    applied_to = Healing.applied_to

    def slowly(healing: Healing, base: RoutingMap) -> RoutingMap:
        held.here()
        return applied_to(healing, base)

    monkeypatch.setattr(Healing, "applied_to", slowly)
    source.map = routing_map(2)
    held.begin()
    seen: list[int] = []
    asking = threading.Thread(target=lambda: seen.append(core.map.epoch))
    asking.start()
    asking.join(0.2)
    held.end()
    asking.join()
    assert seen == [2]


class Reconnecting(StaticMapSource):
    """Was cut off while a bucket began to move; hears of it in the moment in which it is asked whether it is fresh."""

    def fresh(self) -> bool:
        self.map = routing_map(2, Redirection(7, frozenset({"b0"}), "one", "two", 1024, 0.0))
        return True


def test_a_map_that_was_taken_while_it_was_stale_is_not_made_fresh_by_the_next_one() -> None:
    opening = Call(core_of(Reconnecting(routing_map(1))), "key", Intent.READ).opening()
    assert (opening.route.shard, opening.ask_owner) == ("two", True)
