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


def test_a_percent_sign_in_a_name_is_no_placeholder() -> None:
    for with_parameters, schema in ((True, '"50%%"'), (False, '"50%"')):
        query = qualified("SELECT * FROM {a%}", "50%", with_parameters=with_parameters)
        assert query.as_string() == f"SELECT * FROM {schema}." + ('"a%%"' if with_parameters else '"a%"')


def test_braces_without_a_name_are_refused() -> None:
    with pytest.raises(InvalidInput, match="query"):
        qualified("SELECT {}", "b0007")
