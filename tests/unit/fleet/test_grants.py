from __future__ import annotations

import re

from foreshard.fleet.grants import (
    application_grants_sql,
    control_grants_sql,
    directory_grants_sql,
    grants_sql,
)

SCRIPTS = (
    grants_sql(),
    grants_sql(owners=["one", "two"], applications=["three", "four"]),
    control_grants_sql(),
    control_grants_sql(scheduler=None),
    application_grants_sql(),
    directory_grants_sql("app.tenants", "id", "bucket"),
)


def test_no_password_stands_in_a_script() -> None:
    for script in SCRIPTS:
        statements = re.sub(r"--.*", "", script)
        assert "PASSWORD" not in statements.upper()


def test_only_nosuperuser_roles_are_made() -> None:
    for script in SCRIPTS:
        assert not re.search(r"(?<!NO)SUPERUSER", script)


def test_names_are_quoted_as_identifiers_and_as_literals() -> None:
    script = grants_sql(operator='we"ird', applications=["o'brien", "b"], database="Shop")
    assert 'TO "we""ird" WITH INHERIT' in script
    assert "ARRAY['o''brien', 'b']" in script
    assert """TO "o'brien", "b";""" in script
    assert '''ON DATABASE "Shop"''' in script
    assert "{" not in script
