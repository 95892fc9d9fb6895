"""Policy in layers, and every change of it kept in a real control database."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from foreshard.control.engine import ControlDatabase
from foreshard.control.policy_store import Layer, PolicyStore, effective
from foreshard.errors import InvalidInput
from foreshard.planning.policy import DecisionPolicy

SETTINGS = DecisionPolicy(knee=0.7, pins={"b1": "two"}, apart=(frozenset({"x", "y"}),))


def test_each_layer_wins_over_the_one_before() -> None:
    found = effective(SETTINGS, {"knee": 0.6, "epsilon": 0.5}, {"epsilon": 0.1})
    assert (found.knee, found.epsilon, found.pins) == (0.6, 0.1, {"b1": "two"})
    assert effective(SETTINGS) == effective(SETTINGS, {}, {}) == SETTINGS


@pytest.mark.parametrize(
    ("variable", "parameters", "field"),
    [
        ({"knee": 2}, None, "foreshard_policy.knee"),
        ({"kne": 0.5}, None, "foreshard_policy.kne"),
        ('{"knee": 0.5}', None, "foreshard_policy"),
        ([1], None, "foreshard_policy"),
        ({"apart": "x"}, None, "foreshard_policy.apart"),
        ({"knee": 0.5}, {"relief_probability": 0.33}, "parameters.relief_probability"),
        (None, {"policy": "magic"}, "parameters.policy"),
        (None, {"shard_weights": {"one": -1}}, "parameters.shard_weights.one"),
    ],
)
def test_what_is_wrong_is_named_with_its_layer(variable: object, parameters: object, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        effective(SETTINGS, variable, parameters)
    assert refused.value.field == field


def test_changes_are_kept_and_nothing_else(control: ControlDatabase) -> None:
    store = PolicyStore(control)
    assert store.note(DecisionPolicy(), {}, {}, "run 1") == []
    (first,) = store.note(SETTINGS, {}, {}, "run 2")
    assert (first.layer, first.who) == (Layer.SETTINGS, "run 2")
    assert first.before == {"knee": 0.8, "pins": {}, "apart": []}
    assert first.after == {"knee": 0.7, "pins": {"b1": "two"}, "apart": [["x", "y"]]}
    assert store.note(SETTINGS, {}, {}, "run 3") == []
    (second,) = store.note(SETTINGS, {"knee": 0.5, "epsilon": 0.3}, {}, "run 4")
    assert (second.layer, second.before, second.after) == (Layer.VARIABLE, {}, {"knee": 0.5, "epsilon": 0.3})
    (third,) = store.note(SETTINGS, {"epsilon": 0.3}, {}, "run 5")
    assert (third.before, third.after, third.given) == ({"knee": 0.5}, {}, {"epsilon": 0.3})
    (fourth,) = store.note(SETTINGS, {"epsilon": 0.3}, {"epsilon": 0.1}, "run 6")
    assert (fourth.layer, fourth.before, fourth.after) == (
        Layer.PARAMETERS,
        {"epsilon": 0.3},
        {"epsilon": 0.1},
    )
    assert store.note(SETTINGS, {"epsilon": 0.3}, {}, "run 7") == [], "a run's own numbers are gone with it"
    assert store.changes() == [fourth, third, second, first]
    assert store.changes(1) == [fourth]
    for statement in (
        "UPDATE policy_changes SET who = 'me'",
        "DELETE FROM policy_changes",
        "TRUNCATE policy_changes",
    ):
        with pytest.raises(DBAPIError, match="neither changed nor deleted"), control.transaction() as session:
            session.execute(text(statement))
