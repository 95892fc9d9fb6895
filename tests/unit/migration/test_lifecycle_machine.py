"""Any mixture of runners, crashes, aborts and reversals over the table of transitions: what must hold, holds.

The runners are those of `foreshard.migration.runner` without shards: they read the stage, journal a step's beginning
and end, and go to the next stage, each write under the token of their lease. Several are alive at once, as after a
long sleep; only the newest token writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from foreshard.errors import IllegalTransition, LeaseLost
from foreshard.migration.lifecycle import (
    ABORTABLE,
    ENDS,
    PATH,
    REVERSIBLE,
    TRANSITIONS,
    Stage,
    check,
    following,
)

CANARY_STEPS = 2


@dataclass
class Row:
    """A migration in the control database."""

    stage: Stage = Stage.PREFLIGHT
    step: int = 0
    token: int = 0
    journal: list[tuple[Stage, str]] = field(default_factory=list)
    """Steps: (stage, outcome)."""

    history: list[Stage] = field(default_factory=lambda: [Stage.PREFLIGHT])

    def go_to(self, stage: Stage) -> None:
        """As `MigrationStore.go_to`."""
        check(self.stage, stage)
        self.stage, self.step = stage, 0
        self.history.append(stage)


@dataclass
class ModelRunner:
    """A runner, and the step it is in: the stage it began, or None."""

    row: Row
    token: int
    step: int | None = None
    stage: Stage | None = None

    def write(self, change: Callable[[], None]) -> None:
        """As `locked_migration`: nothing is written under an old token."""
        if self.row.token != self.token:
            raise LeaseLost("taken over")
        change()

    def begin(self) -> None:
        """Journal that the stage's step begins."""

        def begin() -> None:
            self.row.journal.append((self.row.stage, "running"))
            self.step, self.stage = len(self.row.journal) - 1, self.row.stage

        self.write(begin)

    def finish(self) -> None:
        """Journal its end and go on, as `Runner.perform`."""
        step, stage = self.step, self.stage
        assert step is not None
        assert stage is not None
        self.write(lambda: self.row.journal.__setitem__(step, (stage, "finished")))
        self.step = self.stage = None
        if stage is Stage.WRITE_REDIRECT and self.row.step < CANARY_STEPS:
            self.write(lambda: setattr(self.row, "step", self.row.step + 1))
            if self.row.step < CANARY_STEPS:
                return
        self.write(lambda: self.row.go_to(following(stage)))


class LifecycleMachine(RuleBasedStateMachine):
    """Rules are what runners and people do; a crash is a runner that is never used again."""

    runners: Bundle[ModelRunner] = Bundle("runners")

    def __init__(self) -> None:
        super().__init__()
        self.row = Row()

    @rule(target=runners)
    def a_runner_takes_the_lease(self) -> ModelRunner:
        return self._new_runner()

    @rule(runner=runners)
    def it_begins_a_step(self, runner: ModelRunner) -> None:
        if runner.step is None and self.row.stage not in ENDS:
            self._under_its_token(runner, runner.begin)

    @rule(runner=runners)
    def it_finishes_its_step(self, runner: ModelRunner) -> None:
        if runner.step is not None:
            self._under_its_token(runner, runner.finish)

    @rule(runner=runners)
    def its_step_fails(self, runner: ModelRunner) -> None:
        step, stage = runner.step, runner.stage
        if step is not None and stage is not None:
            self._under_its_token(
                runner, lambda: runner.write(lambda: self.row.journal.__setitem__(step, (stage, "failed")))
            )
            runner.step = runner.stage = None

    @rule(runner=consumes(runners))
    def it_crashes(self, runner: ModelRunner) -> None:
        del runner

    @rule(runner=runners, wanted=st.sampled_from(Stage))
    def it_wants_to_go_anywhere(self, runner: ModelRunner, wanted: Stage) -> None:
        """The table alone decides, whatever the caller thinks."""
        present = self.row.stage
        allowed = wanted in TRANSITIONS[present] and runner.token == self.row.token
        if runner.step is not None or (allowed and wanted not in (Stage.ABORTING, Stage.REVERSING)):
            return  # forward is what finishing a step does
        try:
            runner.write(lambda: self.row.go_to(wanted))
        except (IllegalTransition, LeaseLost):
            assert not allowed
            assert self.row.stage is present
        else:
            assert allowed

    @rule(runner=runners, back=st.sampled_from([Stage.ABORTING, Stage.REVERSING]))
    def a_person_turns_back(self, runner: ModelRunner, back: Stage) -> None:
        present = self.row.stage
        allowed_from = ABORTABLE if back is Stage.ABORTING else REVERSIBLE
        if runner.step is not None:
            return
        if present in allowed_from:
            self._under_its_token(runner, lambda: runner.write(lambda: self.row.go_to(back)))
        else:
            assert back not in TRANSITIONS[present]

    @precondition(lambda self: self.row.stage not in ENDS)
    @rule()
    def somebody_drives_it_to_its_end(self) -> None:
        """Whatever happened before: a new runner with nobody in its way reaches an end."""
        runner = self._new_runner()
        for _ in range(len(PATH) + CANARY_STEPS + 1):
            if self.row.stage in ENDS:
                break
            runner.begin()
            runner.finish()
        assert self.row.stage in ENDS

    @invariant()
    def every_transition_is_in_the_table(self) -> None:
        for present, then in zip(self.row.history, self.row.history[1:], strict=False):
            assert then in TRANSITIONS[present]

    @invariant()
    def an_end_is_final(self) -> None:
        assert not any(stage in ENDS for stage in self.row.history[:-1])

    @invariant()
    def the_ways_back_start_where_they_may(self) -> None:
        for present, then in zip(self.row.history, self.row.history[1:], strict=False):
            if then is Stage.ABORTING:
                assert PATH.index(present) <= PATH.index(Stage.CUTOVER)
            if then is Stage.REVERSING:
                assert present in REVERSIBLE

    @invariant()
    def after_finalise_the_source_is_given_up(self) -> None:
        if Stage.FINALISE in self.row.history:
            after = self.row.history[self.row.history.index(Stage.FINALISE) + 1 :]
            assert after in ([], [Stage.DONE])

    @invariant()
    def one_step_runs_at_a_time(self) -> None:
        assert [outcome for _, outcome in self.row.journal].count("running") <= 1

    def _new_runner(self) -> ModelRunner:
        self.row.token += 1
        self.row.journal = [(s, "lost" if o == "running" else o) for s, o in self.row.journal]
        return ModelRunner(self.row, self.row.token)

    def _under_its_token(self, runner: ModelRunner, act: Callable[[], None]) -> None:
        """Do it; a runner that was taken over is refused and changes nothing."""
        before = (self.row.stage, self.row.step, tuple(self.row.journal), tuple(self.row.history))
        stale = runner.token != self.row.token
        try:
            act()
        except LeaseLost:
            assert stale
        else:
            assert not stale
        if stale:
            assert before == (self.row.stage, self.row.step, tuple(self.row.journal), tuple(self.row.history))


TestLifecycle = LifecycleMachine.TestCase
TestLifecycle.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)


def test_nothing_but_done_follows_finalise() -> None:
    reached, waiting = set(), set(TRANSITIONS[Stage.FINALISE])
    while waiting:
        here = waiting.pop()
        reached.add(here)
        waiting |= TRANSITIONS[here] - reached
    assert reached == {Stage.DONE}
