"""What stands on a shard and who may touch it: for `foreshard doctor`, which only looks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import dict_row

from foreshard.postgres.connect import Connection, sql_file
from foreshard.topology.keys import SLOT_SEED

_FUNCTION = re.compile(
    r"CREATE OR REPLACE FUNCTION foreshard\.(\w+)\((?:(?!CREATE ).)*?AS \$\$(.*?)\$\$", re.DOTALL
)


# As `guard.install` sends them.
_INSTALLED = (
    sql_file("shard.sql").format(seed=sql.Literal(SLOT_SEED)),
    sql_file("flip.sql"),
    sql_file("shadow.sql"),
)


@dataclass(frozen=True)
class Slot:
    """A replication slot. ``kept_bytes``: WAL that the server keeps for it; None if unknown or lost."""

    name: str
    kind: str
    database: str | None
    active: bool
    wal_status: str | None
    kept_bytes: int | None


@dataclass(frozen=True)
class ShardState:
    """``functions``: name and digest of the body of each function in schema ``foreshard``."""

    missing_buckets: tuple[str, ...]
    foreign_owners: tuple[str, ...]
    may_see_wal: bool
    functions: frozenset[str]
    slots: tuple[Slot, ...]


def read(conn: Connection, buckets: Sequence[str]) -> ShardState:
    """``buckets``: those that the routing map places on this shard."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(sql_file("shard_state.sql"), {"buckets": list(buckets)}).fetchone()
    assert row is not None  # a SELECT without FROM
    return ShardState(
        missing_buckets=tuple(row["missing_buckets"]),
        foreign_owners=tuple(row["foreign_owners"]),
        may_see_wal=row["may_see_wal"],
        functions=frozenset(row["functions"]),
        slots=tuple(Slot(**slot) for slot in row["slots"]),
    )


def functions_wanted() -> frozenset[str]:
    """As `ShardState.functions`, of a shard on which this version has installed its own."""
    return frozenset(
        f"{name} {hashlib.md5(body.strip(' ').encode(), usedforsecurity=False).hexdigest()}"
        for file in _INSTALLED
        for name, body in _FUNCTION.findall(file.as_string(None))
    )
