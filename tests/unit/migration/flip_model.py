"""A migration's flips in memory: two sides, what travels between them, the journal, and runners in micro-steps.

A runner is a generator that yields before every single thing it does outside of itself; the one who drives it sends
what becomes of it (`Fate`). The steps are those of `foreshard.migration.flip`, the decision is the product's own
(`settlement`), the sides are the fake that tests/contract holds against PostgreSQL.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias, TypeVar

from foreshard.migration.settlement import Bounds, Settlement, settlement
from foreshard.postgres.guard import Side
from tests.contract.memory_side import MemorySide, Refused

MODEL_SLOTS = 4
PATIENCE = 3
"""So often a runner looks for its marker before it gives it up."""

Result = TypeVar("Result")


class Fate(Enum):
    """What becomes of one call."""

    DONE = "done"
    ANSWER_LOST = "done, but the caller gets an error"
    ROLLED_BACK = "an error; nothing is left of it but what a sequence keeps"


Step: TypeAlias = Generator[None, Fate, Result]


class LeaseLost(Exception):
    """Another runner has the lease."""


class Unavailable(Exception):
    """No answer, or an error from which nothing follows."""


class FlipFailed(Exception):
    """The flip was taken back."""


@dataclass(frozen=True)
class Marker:
    """A marker on its way; ``flip`` None: the opening side waits for the runner."""

    number: int
    flip: int | None
    bound: int


@dataclass
class Flip:
    """A flip in the journal."""

    number: int
    before: int
    to: int
    state: str = "intended"

    @property
    def opening(self) -> Side:
        """The side that gains keys."""
        return Side.TARGET if self.to > self.before else Side.SOURCE


@dataclass
class Shard:
    """One server: its side, the writes it holds by slot, what it has sent and the other has not applied."""

    side: MemorySide
    rows: list[list[int]] = field(default_factory=lambda: [[] for _ in range(MODEL_SLOTS)])
    sent: deque[tuple[int, int] | Marker] = field(default_factory=deque)
    applied: set[int] = field(default_factory=set)
    up: bool = True
    past: list[MemorySide] = field(default_factory=list)
    """The side as a standby may have it that is behind."""


class World:
    """Everything that survives a runner."""

    def __init__(self) -> None:
        self.shards = {side: Shard(MemorySide(side)) for side in Side}
        self.flips: list[Flip] = []
        self.routed = 0
        self.token = 0
        self.forgetful = False
        """After a failover to a standby that was behind, acknowledged writes are missing: that is no flip's fault."""

        self.acknowledged: list[list[int]] = [[] for _ in range(MODEL_SLOTS)]
        self._numbers = 0

    def number(self) -> int:
        """A number that nothing else has."""
        self._numbers += 1
        return self._numbers

    @property
    def unfinished(self) -> Flip | None:
        """The flip that is neither opened nor cancelled."""
        return next((flip for flip in self.flips if flip.state == "intended"), None)

    def write(self, side: Side, slot: int) -> bool:
        """A client writes to the slot on that side; whether it was let through."""
        shard = self.shards[side]
        if not (shard.up and shard.side.owns(slot)):
            return False
        assert self.forgetful or shard.rows[slot] == self.acknowledged[slot], (
            "a write is let through where an earlier one is missing"
        )
        written = self.number()
        shard.rows[slot].append(written)
        shard.sent.append((slot, written))
        self.acknowledged[slot].append(written)
        return True

    def remember(self) -> None:
        """What the sides are now, a standby may still be when it is promoted."""
        for shard in self.shards.values():
            if not shard.past or shard.past[-1] != shard.side:
                shard.past.append(replace(shard.side))

    def fail_over(self, side: Side, back: int) -> None:
        """A standby of that side is promoted that was ``back`` changes behind; its slot may send again."""
        shard = self.shards[side]
        self.forgetful = True
        past = shard.past[max(0, len(shard.past) - 1 - back)]
        shard.side = replace(past, timeline=shard.side.timeline + 1)

    def deliver(self, sender: Side) -> None:
        """The other side applies the oldest thing that it has not applied."""
        shard, other = self.shards[sender], self.shards[sender.other]
        if not (shard.sent and shard.up and other.up):
            return
        match shard.sent.popleft():
            case Marker(number, flip, bound):
                if flip is not None:
                    with suppress(Refused):  # as foreshard.marker_applied: it was cancelled here
                        other.side.open(flip, bound)
                other.applied.add(number)
            case (slot, written):
                other.rows[slot].append(written)


class FlipRunner:
    """A runner under one lease."""

    def __init__(self, world: World, *, marker_opens: bool) -> None:
        world.token += 1
        self.world, self.token, self.marker_opens = world, world.token, marker_opens

    def enter_and_flip(self, to: int) -> Step[None]:
        """Settle what was left, then move the bound: `Runner.__enter__` and `flip`."""
        yield from self.finish_interrupted()
        yield
        before = self.world.routed
        if before == to:
            return
        flip = yield from self._intend(before, to)
        try:
            yield from self._journal(lambda: None)  # renew: no lease, no flip
            yield from self._carry_out(flip)
        except (Unavailable, Refused, FlipFailed):
            yield from self._settle()

    def finish_interrupted(self) -> Step[None]:
        """As the function of that name."""
        yield from self._settle_failover()
        yield
        flip = self.world.unfinished
        bounds = yield from self._bounds()
        yield
        before = self.world.routed
        what = settlement(bounds, None if flip is None else flip.to, before)
        if what is Settlement.NOTHING:
            return
        if what is Settlement.CORRECT_JOURNAL:
            yield from self._journal(lambda: setattr(self.world, "routed", bounds.source))
            return
        if what is Settlement.INTEND_TAKE_BACK:
            assert bounds.source is not None
            assert bounds.target is not None
            wanted = min(max(before, bounds.target), bounds.source)
            if wanted != before:
                yield from self._journal(lambda: setattr(self.world, "routed", wanted))
            now = bounds.target if wanted > bounds.target else bounds.source
            flip = yield from self._intend(now, wanted)
            what = Settlement.TAKE_BACK
        assert flip is not None
        if what is Settlement.TAKE_BACK:
            yield from self._finish_take_back(flip)
            yield from self.finish_interrupted()
        elif what is Settlement.CARRY_OUT:
            yield from self._carry_out(flip)
        elif what is Settlement.CONFIRM:
            yield from self._open(flip.opening, flip.number, flip.to)
            yield from self._journal_opened(flip)
        else:
            yield from self._forget(flip)

    def _settle_failover(self) -> Step[None]:
        """As `failover.settle`."""
        moved = {}
        for side in Side:
            yield
            found = self._ask(side)
            if not found.same_timeline:
                moved[side] = found.timeline
        newest = len(self.world.flips)
        for side in sorted(moved, key=lambda side: self.world.shards[side].side.sequence_flip):
            for each in Side:
                yield from self._cancel(each, newest)
            yield
            other = self._ask(side.other).bound
            yield
            self._ask(side).adopt_timeline(other, moved[side])

    def _settle(self) -> Step[None]:
        while True:
            try:
                yield from self.finish_interrupted()
            except FlipFailed:
                if self.world.unfinished is None:
                    return
            except (Unavailable, Refused):
                continue
            return

    def _carry_out(self, flip: Flip) -> Step[None]:
        marker = yield from self._close(flip)
        arrived = False
        for _ in range(PATIENCE):
            yield
            self._ask(flip.opening)
            if marker in self.world.shards[flip.opening].applied:
                arrived = True
                break
        if not arrived and (yield from self._cancel(flip.opening, flip.number)):
            yield from self._take_back(flip)
        try:
            yield from self._open(flip.opening, flip.number, flip.to)
        except Refused:  # cancelled by a runner that died before it took back
            yield from self._take_back(flip)
        yield from self._journal_opened(flip)

    def _take_back(self, flip: Flip) -> Step[None]:
        back = yield from self._replace(flip, flip.to, flip.before)
        yield from self._finish_take_back(back)
        raise FlipFailed

    def _finish_take_back(self, back: Flip) -> Step[None]:
        other = back.opening.other
        yield from self._cancel(other, back.number)
        yield
        bound = self._ask(other).bound
        if bound < back.to if back.opening is Side.TARGET else bound > back.to:  # it had opened after all
            yield from self.finish_interrupted()
            return
        try:
            yield from self._open(back.opening, back.number, back.to)
        except Refused:  # it was failed over, and settling that cancelled this flip, too
            back = yield from self._replace(back, back.before, back.to)
            yield from self._open(back.opening, back.number, back.to)
        yield from self._journal_opened(back)

    def _forget(self, flip: Flip) -> Step[None]:
        before = yield from self._bounds()
        yield from self._cancel(flip.opening.other, flip.number)
        yield from self._cancel(flip.opening, flip.number)
        if (yield from self._bounds()) != before:  # it was faster
            yield from self.finish_interrupted()
            return
        yield from self._journal(lambda: setattr(flip, "state", "cancelled"))
        source = before.source
        if source is not None and source != self.world.routed:
            yield from self._journal(lambda: setattr(self.world, "routed", source))

    # -- one thing at a time ----------------------------------------------------------------------------

    def _ask(self, side: Side) -> MemorySide:
        if not self.world.shards[side].up:
            raise Unavailable
        return self.world.shards[side].side

    def _bounds(self) -> Step[Bounds]:
        for _ in range(2):
            yield
            target = self._ask(Side.TARGET).bound
            yield
            bounds = Bounds(self._ask(Side.SOURCE).bound, target)
            if target <= (bounds.source or 0):
                return bounds
        raise Unavailable

    def _close(self, flip: Flip) -> Step[int]:
        fate = yield
        side = flip.opening.other
        self._ask(side).close(flip.number, flip.to, rolls_back=fate is Fate.ROLLED_BACK)
        number = self.world.number()
        if fate is not Fate.ROLLED_BACK:
            opens = flip.number if self.marker_opens else None
            self.world.shards[side].sent.append(Marker(number, opens, flip.to))
        _answer(fate)
        return number

    def _open(self, side: Side, flip: int, bound: int) -> Step[None]:
        fate = yield
        self._ask(side).open(flip, bound, rolls_back=fate is Fate.ROLLED_BACK)
        _answer(fate)

    def _cancel(self, side: Side, flip: int) -> Step[bool]:
        fate = yield
        promised = self._ask(side).cancel(flip, rolls_back=fate is Fate.ROLLED_BACK)
        _answer(fate)
        return promised

    def _intend(self, before: int, to: int) -> Step[Flip]:
        flips = self.world.flips

        def intend() -> Flip:
            unfinished = self.world.unfinished
            if unfinished is None:
                flips.append(Flip(len(flips) + 1, before, to))
                return flips[-1]
            if unfinished.to != to:
                raise Unavailable  # "is not finished": it has to be ended first
            return unfinished

        return (yield from self._journal(intend))

    def _replace(self, flip: Flip, before: int, to: int) -> Step[Flip]:
        flips = self.world.flips

        def replace() -> Flip:
            flip.state = "cancelled"
            flips.append(Flip(len(flips) + 1, before, to))
            return flips[-1]

        return (yield from self._journal(replace))

    def _journal_opened(self, flip: Flip) -> Step[None]:
        yield from self._journal(lambda: setattr(self.world, "routed", flip.to))
        yield from self._journal(lambda: setattr(flip, "state", "opened"))

    def _journal(self, change: Callable[[], Result]) -> Step[Result]:
        """A transaction in the control database under the lease."""
        fate = yield
        if self.token != self.world.token:
            raise LeaseLost
        if fate is Fate.ROLLED_BACK:
            raise Unavailable
        result = change()
        _answer(fate)
        return result


def _answer(fate: Fate) -> None:
    if fate is not Fate.DONE:
        raise Unavailable
