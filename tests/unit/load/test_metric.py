"""Names of metrics."""

from __future__ import annotations

import pytest

from foreshard.errors import InvalidInput
from foreshard.load.metric import additive, check_metric


def test_rates_and_processors_add_up_and_states_do_not() -> None:
    assert all(map(additive, ("queries_per_s", "cpu_cores", "statement_seconds_per_s")))
    assert not any(map(additive, ("size_bytes", "memory_bytes", "statement_p95_s")))


@pytest.mark.parametrize("name", ["", "Queries", "1st", "a b", "a-b", "é", "a" * 64, "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="metric"):
        check_metric(name)
    assert check_metric("rows_read_per_s") == "rows_read_per_s"
