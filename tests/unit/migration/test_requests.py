"""Which request is possible when, and which of two counts: the whole table, and any sequence of them."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import IllegalTransition
from foreshard.migration.lifecycle import ABORTABLE, ENDS, REVERSIBLE, TRANSITIONS, Stage
from foreshard.migration.requests import GOING_BACK, INTERRUPTIBLE, OUTCOMES, Ask, Outcome, Ruling, rule

# Open request, wanted -> ruling, by where the migration stands; what is not here is refused.
BEFORE_CUTOVER = {
    (None, Ask.PAUSE): Ruling.NEW,
    (None, Ask.ABORT): Ruling.NEW,
    (None, Ask.REVERSE): Ruling.NEW,
    (Ask.PAUSE, Ask.PAUSE): Ruling.SAME,
    (Ask.PAUSE, Ask.RESUME): Ruling.RESUMES,
    (Ask.PAUSE, Ask.ABORT): Ruling.REPLACES,
    (Ask.PAUSE, Ask.REVERSE): Ruling.REPLACES,
    (Ask.ABORT, Ask.ABORT): Ruling.SAME,
    (Ask.ABORT, Ask.REVERSE): Ruling.SAME,
    (Ask.REVERSE, Ask.ABORT): Ruling.SAME,
    (Ask.REVERSE, Ask.REVERSE): Ruling.SAME,
}
NO_ABORT = {key: ruling for key, ruling in BEFORE_CUTOVER.items() if key[1] is not Ask.ABORT}
RESUME_ALONE = {(Ask.PAUSE, Ask.RESUME): Ruling.RESUMES}
NO_PAUSE = {key: ruling for key, ruling in BEFORE_CUTOVER.items() if key[1] is not Ask.PAUSE}
TABLE = {
    **dict.fromkeys(ABORTABLE, BEFORE_CUTOVER),
    Stage.SOAK: NO_ABORT,
    Stage.FINALISE: RESUME_ALONE,
    Stage.ABORTING: NO_PAUSE,
    Stage.REVERSING: {key: ruling for key, ruling in NO_PAUSE.items() if key[1] is not Ask.ABORT},
    **{end: {} for end in ENDS},
}
OPEN = (None, Ask.PAUSE, Ask.ABORT, Ask.REVERSE)


@pytest.mark.parametrize("stage", Stage)
def test_the_table(stage: Stage) -> None:
    for open_, wanted in product(OPEN, Ask):
        expected = TABLE[stage].get((open_, wanted))
        if expected is None:
            with pytest.raises(IllegalTransition) as refused:
                rule(7, stage, open_, wanted)
            assert refused.value.remedy
            assert "7" in refused.value.message
        else:
            assert rule(7, stage, open_, wanted) is expected


def test_a_refusal_names_the_way_out() -> None:
    with pytest.raises(IllegalTransition, match="foreshard reverse 7"):
        rule(7, Stage.SOAK, None, Ask.ABORT)
    with pytest.raises(IllegalTransition, match="no way back"):
        rule(7, Stage.FINALISE, None, Ask.REVERSE)
    with pytest.raises(IllegalTransition, match="has ended"):
        rule(7, Stage.DONE, None, Ask.PAUSE)


def test_what_the_lifecycle_allows_can_be_asked_for() -> None:
    for stage in set(Stage) - ENDS - GOING_BACK:
        can_go_back = stage in ABORTABLE | REVERSIBLE
        assert ((None, Ask.REVERSE) in TABLE[stage]) == can_go_back
        assert ((None, Ask.ABORT) in TABLE[stage]) == (stage in ABORTABLE)


def test_no_stage_stops_in_the_middle_of_a_flip_or_a_clean_up() -> None:
    assert INTERRUPTIBLE.isdisjoint({Stage.CUTOVER, Stage.FINALISE} | GOING_BACK | ENDS)


@given(
    st.lists(st.one_of(st.sampled_from(list(Ask)), st.sampled_from(["step", "honour", "end"])), max_size=40)
)
def test_whatever_is_asked_every_request_has_exactly_one_outcome(events: list[Ask | str]) -> None:
    """A model of store and driver: who asks, a driver that goes on, honours what stands, and ends the migration."""
    stage, standing = Stage.PREFLIGHT, None
    asked: list[tuple[Ask, list[Outcome]]] = []
    for event in events:
        present = None if standing is None else asked[standing][0]
        if isinstance(event, Ask):
            try:
                ruling = rule(1, stage, present, event)
            except IllegalTransition:
                continue
            if ruling is Ruling.SAME:
                continue
            if standing is not None:
                outcome = Outcome.RESUMED if ruling is Ruling.RESUMES else Outcome.REPLACED
                asked[standing][1].append(outcome)
                standing = None
            if ruling is Ruling.RESUMES:
                asked.append((event, [Outcome.DONE]))
            else:
                asked.append((event, []))
                standing = len(asked) - 1
        elif event == "step":
            onward = [one for one in TRANSITIONS[stage] if one not in GOING_BACK]
            if onward and not (standing is not None and onward[0] is Stage.FINALISE):
                stage = onward[0]
        elif event == "honour" and present is not None and present.gives_back and stage not in ENDS:
            stage = Stage.ABORTED if Stage.ABORTING in TRANSITIONS[stage] else Stage.REVERSED
        if stage in ENDS and standing is not None:
            kind = asked[standing][0]
            done = kind.gives_back and stage is not Stage.DONE
            asked[standing][1].append(Outcome.DONE if done else Outcome.OVERTAKEN)
            standing = None
        assert sum(not outcomes for _, outcomes in asked) == (standing is not None)
    for kind, outcomes in asked:
        assert len(outcomes) <= 1
        assert set(outcomes) <= OUTCOMES[kind]
    given_back = [kind for kind, outcomes in asked if kind.gives_back and Outcome.DONE in outcomes]
    assert len(given_back) <= 1
    assert bool(given_back) <= (stage in (Stage.ABORTED, Stage.REVERSED))
