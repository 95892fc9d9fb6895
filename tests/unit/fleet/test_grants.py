from __future__ import annotations

import re

from foreshard.fleet.grants import control_grants_sql, grants_sql


def test_no_password_stands_in_a_script() -> None:
    for script in (grants_sql(), control_grants_sql()):
        statements = re.sub(r"--.*", "", script)
        assert "PASSWORD" not in statements.upper()


def test_only_nosuperuser_roles_are_made() -> None:
    for script in (grants_sql(), control_grants_sql()):
        assert not re.search(r"(?<!NO)SUPERUSER", script)


def test_names_are_quoted_as_identifiers_and_as_literals() -> None:
    script = grants_sql(operator='we"ird', application="o'brien", database="Shop")
    assert 'ALTER ROLE "we""ird" WITH LOGIN' in script
    assert "'o''brien'" in script
    assert '''ON DATABASE "Shop"''' in script
    assert "{" not in script
