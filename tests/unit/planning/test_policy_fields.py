"""The policy's fields as they are shown and documented."""

from __future__ import annotations

from pathlib import Path

from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.policy_fields import policy_fields, policy_table, value_in_words

DOCUMENT = Path(__file__).parents[3] / "docs" / "decide.md"
BEGIN, END = "<!-- policy fields -->\n", "\n<!-- end of policy fields -->"


def test_the_document_has_the_policy_as_it_is() -> None:
    _, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    table, end, _ = rest.partition(END)
    assert begin, "the mark before the table is gone"
    assert end, "the mark after the table is gone"
    assert table == policy_table(), "put the output of policy_table() between the two marks"


def test_every_field_says_what_it_is_and_may_be() -> None:
    fields = {one.name: one for one in policy_fields()}
    assert list(fields) == list(DecisionPolicy.model_fields)
    assert all(one.description and one.allowed for one in fields.values())
    allowed = {
        name: fields[name].allowed for name in ("knee", "policy", "epsilon", "copy_load", "max_migrations")
    }
    assert allowed == {
        "knee": "above 0 to 1", "policy": "probabilistic, threshold", "epsilon": "above 0",
        "copy_load": "0 to below 1", "max_migrations": "1 or more",
    }  # fmt: skip
    assert fields["relief_probability"].allowed.startswith("0.2, 0.1, 0.05")


def test_values_are_written_as_they_are_typed() -> None:
    assert [value_in_words(value) for value in (0.05, 20e6, 3, True, [], {"b7": "s1"}, "now")] == [
        "0.05", "20,000,000", "3", "true", "-", '{"b7": "s1"}', "now",
    ]  # fmt: skip
