"""The control database is brought to this version's schema, or refused."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from foreshard.control.engine import ControlDatabase
from foreshard.control.upgrade import upgrade
from foreshard.errors import ForeshardError
from foreshard.fleet.throwaway import ThrowawayServers


def test_a_database_of_a_newer_version_is_refused_in_words(servers: ThrowawayServers) -> None:
    control = ControlDatabase(servers.new_control_database())
    assert upgrade(control).before is None
    assert not upgrade(control).changed
    with control.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ForeshardError, match="schema 9999, which this version does not know"):
        upgrade(control)
    control.close()
