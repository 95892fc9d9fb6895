"""The aliases of one migration on one PgBouncer: looked at, paused, reloaded, resumed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from time import monotonic
from types import TracebackType
from typing import Self

from foreshard.errors import ForeshardError, NotFound, ShardUnavailable
from foreshard.pgbouncer.alias import Alias, name_of
from foreshard.pgbouncer.console import COMMAND_S, Console, Database
from foreshard.settings import PgBouncerSettings

_LOOK_S = 0.02
_DEFAULT_PORT = "5432"


class MovingAliases:
    """A context manager; its consoles are closed at the end. Raises ``ShardUnavailable`` if there is no console."""

    def __init__(self, settings: PgBouncerSettings, buckets: Sequence[str]) -> None:
        self._admin = settings.admin
        self.file = settings.file
        self._names = tuple(name_of(bucket) for bucket in buckets)
        self._stack = ExitStack()
        self._console = self._stack.enter_context(Console(self._admin))
        self.name = self._console.name
        self._pausing: dict[str, Console] = {}
        self._begun: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._stack.close()

    def examine(self, *, paused_by_us: bool) -> None:
        """Before anything is paused: are the aliases there, and free? Opens a console for each to be paused by.

        Raises:
            NotFound: PgBouncer has no such alias.
            ForeshardError: somebody else has paused it: our RESUME would come as a surprise.
        """
        there = self._console.databases()
        for name in self._names:
            if name not in there:
                raise NotFound(
                    f"PgBouncer {self.name} has no alias {name}.",
                    remedy=f"`foreshard pgbouncer render --out {self.file}`, %include it in its configuration, RELOAD.",
                    pgbouncer=self.name,
                )
            if there[name].paused and not paused_by_us:
                raise ForeshardError(
                    f"Alias {name} of PgBouncer {self.name} is paused by somebody else.",
                    remedy="RESUME it first.",
                    pgbouncer=self.name,
                )
        self._pausing = {name: self._stack.enter_context(Console(self._admin)) for name in self._names}

    def begin_pause(self) -> None:
        """Send PAUSE for each; `not_paused` waits."""
        for name, console in self._pausing.items():
            self._begun.add(name)
            console.begin_pause(name)

    def not_paused(self, deadline: float) -> list[str]:
        """The aliases on which transactions are open still at the deadline (`monotonic`)."""
        return [name for name, console in self._pausing.items() if not console.paused(deadline)]

    def reload(self, wanted: Iterable[Alias]) -> None:
        """Let PgBouncer read its files again, and see that the moving aliases lead where they should.

        Raises:
            ForeshardError: it did not take the file.
        """
        self._console.reload()
        there = self._console.databases()
        for alias in wanted:
            if alias.name in self._names and not _leads(there.get(alias.name), alias):
                raise ForeshardError(
                    f"PgBouncer {self.name} did not take {self.file}: alias {alias.name} does not lead to "
                    f"{alias.shard} after RELOAD.",
                    remedy="See its log; its configuration must %include that file.",
                    pgbouncer=self.name,
                    alias=alias.name,
                )

    def resume(self) -> None:
        """Let the clients go on, where they are held back.

        Raises:
            ForeshardError: they may still be.
        """
        try:
            try:
                self._resume(self._console)
            except ShardUnavailable:  # the console may have broken alone
                with Console(self._admin) as fresh:
                    self._resume(fresh)
        except ForeshardError as problem:
            raise ForeshardError(
                f"{problem.message} Aliases {', '.join(self._names)} may be paused there.",
                remedy=f"RESUME them on {self.name}.",
                pgbouncer=self.name,
            ) from problem

    def _resume(self, console: Console) -> None:
        """A PAUSE that was sent and not seen yet would be carried out after our RESUME: it is waited for."""
        until = monotonic() + COMMAND_S
        while True:
            paused = {name for name, one in console.databases().items() if one.paused} & set(self._names)
            for alias in sorted(paused):
                console.resume(alias)
            self._begun -= paused
            if not self._begun or monotonic() > until:
                return
            time.sleep(_LOOK_S)


def _leads(there: Database | None, alias: Alias) -> bool:
    said = alias.address.parameters
    return there is not None and (there.host, str(there.port), there.dbname, there.user) == (
        said.get("host"),
        said.get("port", _DEFAULT_PORT),
        said["dbname"],
        said.get("user"),
    )
