"""Which standbys lack something, by what their primary says of them."""

from __future__ import annotations

from typing import Any, cast

from foreshard.postgres.connect import Connection
from foreshard.postgres.standbys import behind


class Primary:
    """Answers with these rows: name, slot, whether it has what was asked for."""

    def __init__(self, *rows: tuple[str, str | None, bool]) -> None:
        self._rows = rows

    def execute(self, *_: Any) -> tuple[tuple[str, str | None, bool], ...]:
        return self._rows


def lacking(expected: set[str], *rows: tuple[str, str | None, bool]) -> list[str]:
    return behind(cast(Connection, Primary(*rows)), "0/1", expected)


def test_one_that_is_away_lacks_it() -> None:
    assert lacking({"a", "b"}, ("a", "slot_a", True)) == ["b"]


def test_a_standby_is_known_by_its_slot_too() -> None:
    assert lacking({"slot_a"}, ("a", "slot_a", True)) == []


def test_one_does_not_vouch_for_another_of_the_same_name() -> None:
    assert lacking({"walreceiver"}, ("walreceiver", "s1", True), ("walreceiver", "s2", False)) == [
        "walreceiver"
    ]
