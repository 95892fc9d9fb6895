from __future__ import annotations

from foreshard.postgres.schema_copy import without_unknown

SCRIPT = """\\restrict abc
-- Dumped from database version 18.4
SET statement_timeout = 0;
SET transaction_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: forget(); Type: FUNCTION; Schema: b0000; Owner: -
--
CREATE FUNCTION b0000.forget() RETURNS void LANGUAGE sql AS $$
SET transaction_timeout = 0;
$$;
"""


def test_only_the_preamble_loses_settings_that_the_server_does_not_know() -> None:
    assert without_unknown(SCRIPT, {"statement_timeout"}) == SCRIPT.replace(
        "SET transaction_timeout = 0;\n", "", 1
    )
    assert without_unknown(SCRIPT, {"statement_timeout", "transaction_timeout"}) == SCRIPT
