"""PgBouncer's admin console: one connection, commands with a time limit each.

The console speaks the simple query protocol only, and answers PAUSE when the last server connection is gone; until
then a connection that waits for it takes nothing else. What was paused stays paused when that connection goes.
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import pq

from foreshard.errors import ForeshardError, ShardUnavailable
from foreshard.pgbouncer.alias import is_word
from foreshard.postgres import passwords
from foreshard.postgres.connect import server_name

COMMAND_S = 5.0
"""What every command but PAUSE may take: it waits for nobody."""


@dataclass(frozen=True)
class Database:
    """An alias as PgBouncer has it now."""

    host: str | None
    port: int
    dbname: str
    user: str | None
    paused: bool


class Console:
    """An open console; a context manager. ``name``: host and port, for messages. Aliases: by `alias.name_of`.

    Raises:
        ShardUnavailable: this PgBouncer does not answer, or refuses the login; so do all commands.
        ForeshardError: it refuses a command.
    """

    def __init__(self, admin: str) -> None:
        self.name = server_name(admin)
        try:
            self._conn: psycopg.Connection[tuple[Any, ...]] = passwords.log_in(
                admin,
                autocommit=True,
                connect_timeout=3,
                application_name="foreshard",
                tcp_user_timeout=10_000,
            )
        except psycopg.OperationalError as error:
            raise self._away(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._conn.close()

    def databases(self) -> dict[str, Database]:
        """Every alias by name."""
        return {
            str(row["name"]): Database(
                row["host"],
                int(row["port"] or 0),
                str(row["database"]),
                row["force_user"],
                row["paused"] == "1",
            )
            for row in self._rows("SHOW DATABASES")
        }

    def reload(self) -> None:
        """Read the configuration again. PgBouncer before 1.21 says nothing if it cannot: look at `databases`."""
        self._rows("RELOAD")

    def resume(self, alias: str) -> None:
        """Let its clients go on. One that is not paused is refused."""
        self._rows(f"RESUME {_argument(alias)}")

    def begin_pause(self, alias: str) -> None:
        """Hold its clients back between two transactions; `paused` tells when the last one has ended."""
        try:
            self._conn.pgconn.send_query(f"PAUSE {_argument(alias)}".encode())
        except psycopg.Error as error:
            raise self._away(error) from error

    def paused(self, deadline: float) -> bool:
        """Whether the pause that was begun stands by then (`monotonic`). If not, nothing else can be asked here."""
        return self._answer(deadline) is not None

    def _rows(self, command: str) -> list[dict[str, str | None]]:
        try:
            self._conn.pgconn.send_query(command.encode())
        except psycopg.Error as error:
            raise self._away(error) from error
        result = self._answer(monotonic() + COMMAND_S)
        if result is None:
            raise ShardUnavailable(f"PgBouncer {self.name} did not answer {command} in {COMMAND_S:g} s.")
        names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        return [
            {
                name: None if (value := result.get_value(row, column)) is None else value.decode()
                for column, name in enumerate(names)
            }
            for row in range(result.ntuples)
        ]

    def _answer(self, deadline: float) -> pq.abc.PGresult | None:
        pgconn = self._conn.pgconn
        try:
            while pgconn.is_busy():
                if not select.select([pgconn.socket], [], [], max(0.0, deadline - monotonic()))[0]:
                    return None
                pgconn.consume_input()
            last = None
            while (result := pgconn.get_result()) is not None:
                last = result
        except psycopg.Error as error:
            raise self._away(error) from error
        assert last is not None  # a command was sent
        if last.status == pq.ExecStatus.FATAL_ERROR:
            said = last.get_error_message().strip()
            if pgconn.status != pq.ConnStatus.OK:
                raise self._away(psycopg.OperationalError(said))
            raise ForeshardError(f"PgBouncer {self.name} refuses: {said}.", pgbouncer=self.name)
        return last

    def _away(self, error: psycopg.Error) -> ShardUnavailable:
        return ShardUnavailable(
            f"PgBouncer {self.name} does not answer: {str(error).strip()}",
            remedy="Check migration.pgbouncers: address, role (admin_users) and password.",
            pgbouncer=self.name,
        )


def _argument(alias: str) -> str:
    return alias if is_word(alias) else f'"{alias}"'
