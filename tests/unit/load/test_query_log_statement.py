"""Names in statements: found wherever SQL has one, never where it has not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.load.query_log.sessions import Sessions
from foreshard.load.query_log.statement import read_statement

KNOWN = frozenset({"b1", "b2", 'Tenant "B" 1', "straße"})


def named(text: str) -> set[str]:
    return {bucket for part in read_statement(text, KNOWN) for bucket in part.buckets}


@pytest.mark.parametrize(
    ("text", "buckets"),
    [
        ("SELECT * FROM b1.t", {"b1"}),
        ("select * from B1 . t join b2.u using (id)", {"b1", "b2"}),
        ('SELECT * FROM "Tenant ""B"" 1" .t', {'Tenant "B" 1'}),
        ('SELECT * FROM "B1".t', set()),
        ("SELECT 'b1.t', E'\\'b1.t', $$b1.t$$, $x$ b1.t $$ $x$, b2.f()", {"b2"}),
        ("SELECT 1 -- b1.t\n", set()),
        ("/* a /* b1.t */ b1.t */ SELECT * FROM b2.t", {"b2"}),
        ("SELECT xb1.t, b1x.t, b1 FROM t", set()),
        ("SELECT 'open b1.t", set()),
        ("SELECT a$b$ FROM b1.t WHERE x = $b$ b2.t $b$", {"b1"}),
        ("INSERT INTO straße.t VALUES (1)", {"straße"}),
    ],
)
def test_names(text: str, buckets: set[str]) -> None:
    assert named(text) == buckets


inside = st.text(st.sampled_from("b1.t '\"$/*-;\\\n"), max_size=30)
pieces = st.one_of(
    inside.map(lambda text: "'" + text.replace("'", "''") + "'"),
    inside.map(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    inside.map(lambda text: "$q$" + text.replace("$", "") + "$q$"),
    inside.map(lambda text: "/*" + text.replace("*", "").replace("/", "") + "*/"),
    inside.map(lambda text: "--" + text.replace("\n", "") + "\n"),
    inside.map(lambda text: '"x' + text.replace('"', '""') + '"'),
)


@given(st.lists(pieces, max_size=8), st.booleans())
def test_nothing_in_a_literal_is_a_name(texts: list[str], is_there: bool) -> None:
    text = "SELECT " + " , ".join(texts) + (" , b2.f" if is_there else " , 1")
    assert named(text) == ({"b2"} if is_there else set())


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert read_statement(text, KNOWN)


class Session:
    """One session, whose messages are told with the transaction that they were logged in."""

    def __init__(self) -> None:
        self.sessions = Sessions()

    def says(self, text: str, transaction: str = "", parameters: str = "") -> set[str]:
        return self.sessions.buckets("s", transaction, read_statement(text, KNOWN, parameters))


def test_the_routers_opening_message_counts_for_no_bucket_and_sets_its_path() -> None:
    session = Session()
    opening = 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = "b1", pg_temp; SELECT'
    opening += " foreshard.assert_owner(CAST('b1' AS text), CAST('k' AS text))"
    assert session.says(opening, "3/1") == set()
    assert session.says("SELECT * FROM t", "3/1") == {"b1"}
    assert session.says("SELECT * FROM b2.t", "3/1") == {"b2"}
    assert session.says("COMMIT") == set()
    assert session.says("SELECT * FROM t") == set()


def test_set_local_ends_with_its_transaction_even_if_the_end_is_not_logged() -> None:
    session = Session()
    session.says("SELECT pg_catalog.set_config('search_path', '\"b1\", pg_temp', true)", "3/1")
    assert session.says("SELECT * FROM t", "3/1") == {"b1"}
    assert session.says("SELECT * FROM t", "3/2") == set()


def test_set_config_with_parameters() -> None:
    session = Session()
    session.says("SELECT set_config('search_path', $1, $2)", "", "Parameters: $1 = 'x, b2', $2 = 'f'")
    assert session.says("SELECT * FROM t") == {"b2"}


def test_set_outlives_a_commit_not_a_rollback() -> None:
    session = Session()
    session.says("SET search_path TO b1")
    session.says("BEGIN", "3/1")
    session.says("SET search_path = 'b2'", "3/1")
    assert session.says("SELECT * FROM t", "3/1") == {"b2"}
    session.says("ROLLBACK")
    assert session.says("SELECT * FROM t") == {"b1"}
    session.says("BEGIN", "3/2")
    session.says("SET search_path = b2", "3/2")
    session.says("COMMIT")
    assert session.says("SELECT * FROM t") == {"b2"}


def test_a_commit_after_an_error_is_a_rollback_unless_a_savepoint_saved_it() -> None:
    for saved in (False, True):
        session = Session()
        session.says("BEGIN", "3/1")
        session.says("SET search_path = b2", "3/1")
        session.sessions.fail("s")
        if saved:
            session.says("ROLLBACK TO SAVEPOINT one", "3/1")
        session.says("COMMIT")
        assert session.says("SELECT * FROM t") == ({"b2"} if saved else set())


@pytest.mark.parametrize(
    "reset", ["RESET search_path", "RESET ALL", "DISCARD ALL", "SET search_path TO DEFAULT"]
)
def test_resets(reset: str) -> None:
    session = Session()
    session.says("SET SCHEMA 'b1'")
    assert session.says("SELECT * FROM t; SELECT 1") == {"b1"}
    session.says(reset)
    assert session.says("SELECT * FROM t") == set()
    assert session.sessions.snapshot() == {}
