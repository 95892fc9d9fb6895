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
ENOUGH = 200


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

    @rule(to=st.integers(0, MODEL_SLOTS), marker_opens=st.booleans())
    def nothing_disturbs_a_flip(self, to: int, marker_opens: bool) -> None:
        """Else hardly any would go through, and the others not begin elsewhere than at 0."""
        self._settles(FlipRunner(self.world, marker_opens=marker_opens).enter_and_flip(to))

    @rule(
        to=st.integers(0, MODEL_SLOTS),
        applied=st.integers(0, 3),
        slot=st.integers(0, MODEL_SLOTS - 1),
        marker_opens=st.booleans(),
    )
    def a_write_is_on_its_way_while_a_flip_goes_through(
        self, to: int, applied: int, slot: int, marker_opens: bool
    ) -> None:
        """Streams bring only so much until the runner has ended or given up: what comes too late must not matter."""
        for side in Side:
            self.world.write(side, slot)
        runner = FlipRunner(self.world, marker_opens=marker_opens).enter_and_flip(to)
        next(runner)
        for step in range(ENOUGH):
            if step < applied:
                for side in Side:
                    self.world.deliver(side)
            if not self._advance(runner, Fate.DONE):
                break
            self.no_key_has_two_owners()
        for side in Side:
            self.world.write(side, slot)
        self._deliver_all()
        self.no_key_has_two_owners()

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
        assert not all(shard.up for shard in self.world.shards.values()), "it makes no end"
        return False

    def _advance(self, runner: Step[None], fate: Fate) -> bool:
        try:
            runner.send(fate)
        except (StopIteration, LeaseLost, Unavailable, Refused, FlipFailed):
            return False
        return True

    def _deliver_all(self) -> None:
        for side in Side:
            for _ in range(len(self.world.shards[side].sent)):
                self.world.deliver(side)


class FailoverMachine(FlipMachine):
    """The same, and standbys that are behind are promoted. Writes are lost then; no key has two owners all the same."""

    sides_that_fail = 1

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[Side] = set()

    @rule(side=SIDES, back=st.integers(0, 3))
    def a_standby_is_promoted(self, side: Side, back: int) -> None:
        if len(self.failed | {side}) <= self.sides_that_fail:
            self.failed.add(side)
            self.world.fail_over(side, back)

    @rule(marker_opens=st.booleans())
    def everybody_is_well_and_a_runner_settles(self, marker_opens: bool) -> None:
        """Only as far as one owner: where rows are missing, `failover.prove_gap` keeps the keys without one."""
        for shard in self.world.shards.values():
            shard.up = True
        self._settles(FlipRunner(self.world, marker_opens=marker_opens).finish_interrupted())

    @invariant()
    def no_key_has_two_owners(self) -> None:
        self.world.remember()
        source, target = (self.world.shards[side].side for side in Side)
        assert not any(source.owns(slot) and target.owns(slot) for slot in range(MODEL_SLOTS))


class BothFailOverMachine(FailoverMachine):
    """A region goes: both shards are failed over, and the journal knows a bound that neither of them does."""

    sides_that_fail = 2


def check_flips(examples: int, machine: type[FlipMachine] = FlipMachine) -> None:
    """Run the machine. Without shrinking: a broken control is shown broken by any example."""
    run_state_machine_as_test(
        machine,
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


def test_a_failover_to_a_standby_that_is_behind_makes_no_second_owner() -> None:
    check_flips(300, FailoverMachine)


def test_a_failover_of_both_sides_is_settled() -> None:
    check_flips(400, BothFailOverMachine)


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


def as_it_was(self: MemorySide, other_bound: int, seen: int) -> int:
    """A promoted server that goes on with the bound that it remembers."""
    del other_bound
    self.guarded = seen
    return self.bound


@pytest.mark.parametrize(
    ("machine", "where", "what", "broken"),
    [
        (FlipMachine, FlipRunner, "_carry_out", no_wait),
        (FlipMachine, FlipRunner, "_cancel", no_promise),
        (FlipMachine, MemorySide, "open", any_number),
        (FailoverMachine, MemorySide, "adopt_timeline", as_it_was),
    ],
)
def test_the_machine_sees_what_is_broken(
    monkeypatch: pytest.MonkeyPatch, machine: type[FlipMachine], where: type, what: str, broken: object
) -> None:
    monkeypatch.setattr(where, what, broken)
    with pytest.raises(AssertionError):
        check_flips(1500, machine)
