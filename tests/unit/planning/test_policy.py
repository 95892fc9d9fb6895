from __future__ import annotations

import pytest

from foreshard.errors import InvalidInput
from foreshard.planning.policy import DecisionPolicy


def test_defaults_are_the_seeds() -> None:
    policy = DecisionPolicy()
    assert (policy.predicted_weight, policy.current_weight, policy.knee) == (0.8, 0.2, 0.8)
    assert policy.policy == "probabilistic"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policy", "guess"),
        ("relief_probability", 0.07),
        ("relief_probability", 0.95),
        ("planner", "best"),
        ("shard_weights", {"shard-1": 0.0}),
        ("max_migrations", 0),
        ("windows", ("Mon-Fri 25:00-26:00",)),
        ("predicted_weight", -0.1),
        ("knee", 0.0),
        ("knee", 1.5),
        ("migration_threshold", float("nan")),
        ("predicted_quantile", 0.8),
        ("target_ceiling", 1.1),
        ("epsilon", 0.0),
        ("copy_bytes_per_s", 0.0),
        ("copy_load", 1.0),
        ("margin_s", float("inf")),
        ("cooldown_s", "soon"),
        ("migration_treshold", 0.02),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        DecisionPolicy(**{field: value})
    assert refusal.value.field.split(".")[0] == field


def test_a_policy_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DecisionPolicy().knee = 0.5
