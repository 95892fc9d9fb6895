"""Alembic's entry: it runs on the connection that `ControlDatabase.migrate` hands over."""

from __future__ import annotations

from alembic import context

from foreshard.control import (  # noqa: F401 - Base knows its tables once they are imported
    alert_models,
    approval_models,
    calendar_models,
    load_models,
    log_position,
    migration_models,
    request_models,
)
from foreshard.control.models import Base

connection = context.config.attributes.get("connection")
if connection is None:
    # A developer's `alembic revision --autogenerate`: the settings name the database.
    from foreshard.control.engine import ControlDatabase
    from foreshard.settings import load_settings

    connection = ControlDatabase(load_settings().control.dsn).engine.connect()

context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
