"""A script of pg_restore, taken apart."""

from __future__ import annotations

import pytest

from foreshard.errors import ForeshardError
from foreshard.postgres.definitions import Definition, definitions
from foreshard.postgres.schema_copy import split_entries

SCRIPT = """\
--
-- PostgreSQL database dump
--

\\restrict abc

SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

SET default_tablespace = fast;

--
-- Name: flights flights_pkey; Type: CONSTRAINT; Schema: b0000; Owner: owner; Tablespace: fast
--

ALTER TABLE ONLY b0000.flights
    ADD CONSTRAINT flights_pkey PRIMARY KEY (id);


--
-- Name: flights_idx; Type: INDEX; Schema: b0000; Owner: owner; Tablespace: fast
--

CREATE INDEX flights_idx ON b0000.flights USING btree (dest);

ALTER TABLE b0000.flights CLUSTER ON flights_idx;


SET default_tablespace = '';

--
-- Name: a;b; Type: FK CONSTRAINT; Schema: b 1; Owner: owner
--

ALTER TABLE ONLY "b 1".a
    ADD CONSTRAINT "a;b" FOREIGN KEY (id) REFERENCES "b 1".b(id);


--
-- Name: TRIGGER noted ON flights; Type: COMMENT; Schema: b0000; Owner: owner
--

COMMENT ON TRIGGER noted ON b0000.flights IS 'a trigger';


--
-- Name: flights noted; Type: TRIGGER; Schema: b0000; Owner: owner
--

CREATE TRIGGER noted BEFORE INSERT ON b0000.flights FOR EACH ROW EXECUTE FUNCTION b0000.note();


--
-- PostgreSQL database dump complete
--

\\unrestrict abc

"""


def test_each_has_its_own_statements_and_the_tablespace_that_holds_for_it() -> None:
    key, index, foreign, _, _ = definitions(SCRIPT, 5)
    assert key.label == "constraint b0000.flights flights_pkey"
    assert key.statements.startswith("SET default_tablespace = fast;\nALTER TABLE ONLY b0000.flights")
    assert "CLUSTER ON flights_idx;" in index.statements
    assert index.statements.startswith("SET default_tablespace = fast;\n")
    assert (foreign.kind, foreign.schema, foreign.name) == ("FK CONSTRAINT", "b 1", "a;b")
    assert foreign.statements.startswith("SET default_tablespace = '';\n")
    assert "unrestrict" not in foreign.statements
    assert [one.phase for one in (key, index, foreign)] == [0, 1, 3]


def test_a_comment_waits_for_what_it_is_on() -> None:
    comment, trigger = definitions(SCRIPT, 5)[-2:]
    assert (comment.kind, trigger.kind) == ("COMMENT", "TRIGGER")
    assert comment.phase > trigger.phase


def test_a_partition_s_trigger_is_switched_off_once_the_parent_s_has_made_it() -> None:
    made = Definition("TRIGGER", "b0000", "legs noted", "CREATE TRIGGER noted AFTER INSERT ON b0000.legs ...")
    off = Definition(
        "TRIGGER", "b0000", "legs_2013 noted", "ALTER TABLE b0000.legs_2013 DISABLE TRIGGER noted;"
    )
    comment = Definition("COMMENT", "b0000", "TRIGGER noted ON legs_2013", "COMMENT ON TRIGGER noted ...")
    assert made.phase < off.phase < comment.phase


def test_a_script_of_another_number_of_definitions_is_refused() -> None:
    with pytest.raises(ForeshardError, match="5 of 6"):
        definitions(SCRIPT, 6)


def test_of_nothing_there_is_nothing() -> None:
    assert definitions("SET statement_timeout = 0;\n", 0) == []


ENTRIES = """\
219; 1259 1 TABLE b t owner
2430; 2606 2 CONSTRAINT b t t_pkey owner
2431; 0 0 INDEX ATTACH b p_pkey owner
2432; 1259 3 INDEX b t_idx owner
2433; 0 0 COMMENT b CONSTRAINT t_pkey ON t owner
2434; 2606 4 CHECK CONSTRAINT b t t_check owner
2435; 0 0 ACL b TABLE t owner"""


def test_keys_wait_for_the_data_where_nothing_needs_them() -> None:
    before, after = split_entries(ENTRIES.split("\n"), ["b"], keys_late=True)
    assert [line[:4] for line in after] == ["2430", "2431", "2432", "2433"]
    assert [line[:4] for line in before] == ["219;", "2434", "2435"]


def test_keys_come_before_the_data_where_a_view_stands_behind_them() -> None:
    lines = [*ENTRIES.split("\n"), "2436; 1259 5 VIEW b grouped owner"]
    before, after = split_entries(lines, ["b"], keys_late=True)
    assert [line[:4] for line in after] == ["2432", "2433"]
    assert "2436" in [line[:4] for line in before]
