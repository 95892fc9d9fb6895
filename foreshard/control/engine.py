"""The control database: connection, schema revision, sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from foreshard.errors import ConfigurationError, ShardUnavailable
from foreshard.postgres import passwords

if TYPE_CHECKING:  # Alembic is needed by two methods only; every run of a flow would wait for it
    from alembic.config import Config


class ControlDatabase:
    """Foreshard's own database: the truth about plans and migrations, and the store of load and forecasts.

    ``conninfo`` is a libpq connection string without a password: see `postgres.passwords`.
    """

    def __init__(self, conninfo: str) -> None:
        try:
            psycopg.conninfo.conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError:  # its text may quote a password
            raise ConfigurationError("control.dsn", "is not a libpq connection string.") from None
        self.conninfo = conninfo
        # libpq does the parsing: SQLAlchemy never sees host, user or password, and cannot print them.
        self.engine: Engine = create_engine(
            "postgresql+psycopg://", creator=self.connect, pool_size=4, max_overflow=8, pool_pre_ping=True
        )
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    def connect(self) -> psycopg.Connection:
        """A new psycopg connection, for LISTEN and COPY; the caller closes it."""
        return passwords.log_in(
            self.conninfo,
            connect_timeout=5,
            options="-c timezone=UTC",
            # A half-open connection must end before the lease does, or the heartbeat would hang and nobody take over.
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=10_000,
        )

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session in one transaction: committed at the end, rolled back on any error."""
        with self._sessions.begin() as session:
            yield session

    def migrate(self) -> None:
        """Bring the schema to the newest revision. Concurrent callers wait for each other.

        Raises:
            ShardUnavailable: the database does not answer.
        """
        from alembic import command

        config = _alembic_config()
        try:
            with self.engine.connect() as connection:
                # Two processes that start at once must not both create the tables.
                connection.exec_driver_sql("SELECT pg_advisory_lock(hashtext('foreshard.alembic'))")
                connection.commit()
                try:
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
                    connection.commit()
                finally:
                    connection.rollback()
                    connection.exec_driver_sql("SELECT pg_advisory_unlock(hashtext('foreshard.alembic'))")
                    connection.commit()
        except psycopg.OperationalError as error:
            raise ShardUnavailable(
                "The control database does not answer.", remedy="Check control.dsn and that it runs."
            ) from error

    def revision(self) -> tuple[str | None, str | None]:
        """The schema's revision in the database, and the newest that this code knows."""
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        with self.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        return current, ScriptDirectory.from_config(_alembic_config()).get_current_head()

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


def _alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    return config
