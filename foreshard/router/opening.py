"""How a transaction on one key is opened: what the first message to the shard says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from psycopg import sql

from foreshard.topology.keys import KeyType, Part
from foreshard.topology.routing_map import Route


class Isolation(StrEnum):
    """Isolation of a transaction. SERIALIZABLE would not hold across two shards and is not offered."""

    READ_COMMITTED = "READ COMMITTED"
    REPEATABLE_READ = "REPEATABLE READ"


class Addressing(StrEnum):
    """How statements name the tables of a bucket."""

    QUALIFIED = "qualified"
    """Each name with its schema; ``{name}`` in a query is replaced. The search path holds no bucket."""

    SEARCH_PATH = "search_path"
    """Bare names: the bucket is the search path of each transaction, by SET LOCAL, so poolers may stand between."""


@dataclass(frozen=True)
class Opening:
    """One attempt at a transaction. ``key``: of a composite one, the distribution column's part.

    ``ask_owner``: `foreshard.assert_owner` is asked with BEGIN, and from its answer to the end of the transaction the
    key's owner cannot change. ``redirected``: the key is served by a migration's target before its cutover.
    """

    route: Route
    key: Part
    key_type: KeyType
    read_only: bool
    ask_owner: bool
    redirected: bool = False
    isolation: Isolation = Isolation.READ_COMMITTED
    addressing: Addressing = Addressing.QUALIFIED

    @property
    def plain(self) -> bool:
        """Whether a single read needs no transaction around it: nothing is asked and nothing is set."""
        return self.read_only and not self.ask_owner and self.addressing is Addressing.QUALIFIED

    def statements(self) -> Sequence[str]:
        """What opens the transaction, each a statement without parameters: joined they are one message."""
        made = [
            f"BEGIN ISOLATION LEVEL {self.isolation.value} {'READ ONLY' if self.read_only else 'READ WRITE'}"
        ]
        if self.addressing is Addressing.SEARCH_PATH:
            made.append(f"SET LOCAL search_path = {self._search_path()}")
        if self.ask_owner:
            made.append(f"SELECT {self._assertion()}")
        return made

    def preface(self) -> str:
        """The same for a read that has a transaction without BEGIN: what one message to the server holds is one.

        SET LOCAL is not for such a transaction; `set_config` does the same.
        """
        asked = [self._assertion()] if self.ask_owner else []
        if self.addressing is Addressing.SEARCH_PATH:
            asked.append(f"pg_catalog.set_config('search_path', {sql.quote(self._search_path())}, true)")
        return f"SELECT {', '.join(asked)}"

    def _search_path(self) -> str:
        # No `public`: after DROP SCHEMA a bare name would quietly mean another table. pg_temp last, or a temporary
        # table would stand before the bucket's.
        return f"{sql.Identifier(self.route.bucket).as_string()}, pg_temp"

    def _assertion(self) -> str:
        # The cast picks the overload by the column's type, however the literal is written.
        bucket, key = sql.quote(self.route.bucket), _literal(self.key)
        return f"foreshard.assert_owner(CAST({bucket} AS text), CAST({key} AS {self.key_type.value}))"


def _literal(key: Part) -> str:
    # psycopg quotes bytes for the connection that was used last, if it is not told which. E: whatever the server takes
    # a backslash for.
    return f"E'\\\\x{key.hex()}'" if isinstance(key, bytes) else sql.quote(key)
