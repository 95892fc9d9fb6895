"""The transition table: every pair of stages, allowed or not."""

from __future__ import annotations

from itertools import product

import pytest

from foreshard.errors import IllegalTransition
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


@pytest.mark.parametrize(("present", "wanted"), list(product(Stage, Stage)))
def test_every_pair_is_allowed_by_the_table_or_refused(present: Stage, wanted: Stage) -> None:
    if wanted in TRANSITIONS[present]:
        check(present, wanted)
    else:
        with pytest.raises(IllegalTransition) as refused:
            check(present, wanted)
        assert refused.value.details == {"present": present.value, "wanted": wanted.value}


def test_every_stage_is_in_the_table_and_reaches_an_end() -> None:
    assert set(TRANSITIONS) == set(Stage)
    for stage in Stage:
        seen, waiting = set(), {stage}
        while waiting:
            here = waiting.pop()
            seen.add(here)
            waiting |= TRANSITIONS[here] - seen
        assert seen & ENDS, stage


def test_the_path_and_what_follows_agree_with_the_table() -> None:
    for stage in set(Stage) - ENDS:
        check(stage, following(stage))
    for end in ENDS:
        assert not TRANSITIONS[end]
        with pytest.raises(IllegalTransition):
            following(end)
    assert PATH[-1] is Stage.DONE


def test_there_is_one_way_back_from_every_stage_before_finalise() -> None:
    for stage in PATH[: PATH.index(Stage.FINALISE)]:
        assert (stage in ABORTABLE) or (stage in REVERSIBLE), stage
    assert not TRANSITIONS[Stage.FINALISE] & {Stage.ABORTING, Stage.REVERSING}
