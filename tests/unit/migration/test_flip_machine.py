"""Flips under any mixture of crashes, lost answers, roll-backs, dead servers, late runners and writers.

At every instant no key has two owners, and no write is let through where an acknowledged one is missing. And from
everything that can be reached, one runner with everybody alive brings every key to one owner that has all its writes.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from foreshard.postgres.guard import Side
from tests.contract.memory_side import MemorySide, Refused
from tests.unit.migration.flip_model import (
    MODEL_SLOTS,
    Fate,
    Flip,
    FlipFailed,
    FlipRunner,
    LeaseLost,
    Step,
    Unavailable,
    World,
)

SIDES = st.sampled_from(Side)
FATES = st.sampled_from([Fate.DONE] * 8 + [Fate.ANSWER_LOST, Fate.ROLLED_BACK])
ENOUGH = 500


class FlipMachine(RuleBasedStateMachine):
    """Rules are what happens to the world; which runner moves next is for Hypothesis to say."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.running: list[Step[None]] = []

    @precondition(lambda self: len(self.running) < 3)
    @rule(to=st.integers(0, MODEL_SLOTS), marker_opens=st.booleans())
    def a_runner_takes_the_lease(self, to: int, marker_opens: bool) -> None:
        runner = FlipRunner(self.world, marker_opens=marker_opens).enter_and_flip(to)
        next(runner)
        self.running.append(runner)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 2), steps=st.integers(1, 12), fate=FATES)
    def a_runner_goes_on(self, which: int, steps: int, fate: Fate) -> None:
        """Some steps; the last of them has that fate."""
        runner = self.running[which % len(self.running)]
        for left in range(steps, 0, -1):
            if not self._advance(runner, Fate.DONE if left > 1 else fate):
                self.running.remove(runner)
                return
            self.no_key_has_two_owners()

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 2))
    def a_runner_is_killed(self, which: int) -> None:
        self.running.pop(which % len(self.running))

    @rule(side=SIDES, slot=st.integers(0, MODEL_SLOTS - 1))
    def somebody_writes(self, side: Side, slot: int) -> None:
        self.world.write(side, slot)

    @rule(sender=SIDES, count=st.integers(1, 6))
    def changes_are_applied(self, sender: Side, count: int) -> None:
        for _ in range(count):
            self.world.deliver(sender)

    @rule(side=SIDES)
    def a_server_dies_or_comes_back(self, side: Side) -> None:
        self.world.shards[side].up = not self.world.shards[side].up

    @rule(marker_opens=st.booleans())
    def everybody_is_well_and_a_runner_settles(self, marker_opens: bool) -> None:
        for shard in self.world.shards.values():
            shard.up = True
        for _ in range(3):
            if self._settles(FlipRunner(self.world, marker_opens=marker_opens).finish_interrupted()):
                break
        self._deliver_all()
        source, target = (self.world.shards[side].side for side in Side)
        assert source.bound == target.bound == self.world.routed
        assert self.world.unfinished is None
        for slot in range(MODEL_SLOTS):
            owner = Side.TARGET if slot < source.bound else Side.SOURCE
            assert self.world.shards[owner].side.owns(slot)
            assert self.world.write(owner, slot)
            assert not self.world.write(owner.other, slot)

    @invariant()
    def no_key_has_two_owners(self) -> None:
        source, target = (self.world.shards[side].side for side in Side)
        assert target.bound <= source.bound

    def _settles(self, runner: Step[None]) -> bool:
        """Run it to its end while everything is applied at once; False if it has to be tried again."""
        next(runner)
        for _ in range(ENOUGH):
            self._deliver_all()
            try:
                runner.send(Fate.DONE)
            except StopIteration:
                return True
            except (FlipFailed, Refused, Unavailable):
                return False
            self.no_key_has_two_owners()
        raise AssertionError("it makes no end")

    def _advance(self, runner: Step[None], fate: Fate) -> bool:
        try:
            runner.send(fate)
        except (StopIteration, LeaseLost, Unavailable, Refused, FlipFailed):
            return False
        return True

    def _deliver_all(self) -> None:
        for side in Side:
            while self.world.shards[side].sent:
                self.world.deliver(side)


def check_flips(examples: int) -> None:
    """Run the machine. Without shrinking: a broken control is shown broken by any example."""
    run_state_machine_as_test(
        FlipMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_mixture_of_runners_keeps_every_write() -> None:
    check_flips(300)


def no_wait(self: FlipRunner, flip: Flip) -> Step[None]:
    """Opens without waiting for the marker."""
    yield from self._close(flip)
    yield from self._open(flip.opening, flip.number, flip.to)
    yield from self._journal_opened(flip)


def no_promise(self: FlipRunner, side: Side, flip: int) -> Step[bool]:
    """Takes back without asking the opening side never to open."""
    del flip
    yield
    self._ask(side)
    return True


def any_number(self: MemorySide, flip: int, bound: int, *, rolls_back: bool = False) -> None:
    """An open that compares no flip numbers."""
    del rolls_back
    self.sequence_flip, self.bound = flip, bound
    self.flip_no = self.opened_flip = flip


@pytest.mark.parametrize(
    ("where", "what", "broken"),
    [
        (FlipRunner, "_carry_out", no_wait),
        (FlipRunner, "_cancel", no_promise),
        (MemorySide, "open", any_number),
    ],
)
def test_the_machine_sees_what_is_broken(
    monkeypatch: pytest.MonkeyPatch, where: type, what: str, broken: object
) -> None:
    monkeypatch.setattr(where, what, broken)
    with pytest.raises(AssertionError):
        check_flips(2000)
