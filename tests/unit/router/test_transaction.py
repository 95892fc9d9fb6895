from __future__ import annotations

import pytest
from psycopg import sql

from foreshard.errors import InvalidInput
from foreshard.router.transaction import qualified


def test_names_in_braces_become_qualified_tables() -> None:
    query = qualified("SELECT * FROM {flights} JOIN {air\"craft} USING (t) WHERE j = '{{}}'", "b0007")
    assert query.as_string() == (
        'SELECT * FROM "b0007"."flights" JOIN "b0007"."air""craft" USING (t) WHERE j = \'{}\''
    )


def test_composed_queries_pass_untouched() -> None:
    query = sql.SQL("SELECT '{x}'")
    assert qualified(query, "b0007") is query


def test_braces_without_a_name_are_refused() -> None:
    with pytest.raises(InvalidInput, match="query"):
        qualified("SELECT {}", "b0007")
