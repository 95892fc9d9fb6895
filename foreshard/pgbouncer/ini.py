"""The text that PgBouncer reads, to be %include'd in its own configuration file. Pure.

Two quotings lie over each other: PgBouncer's for values (single quotes, doubled within) and, inside of connect_query,
SQL's. Names cannot be quoted (`alias.name_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from foreshard.pgbouncer.alias import Alias

_TLS = "ssl"


def ini(epoch: int, aliases: Sequence[Alias]) -> str:
    """Section ``[databases]`` at this routing epoch. It holds no password.

    ``pool_mode`` is said: with session pooling PgBouncer would reset the search path when a client leaves, and the
    next one would meet the bucket's names in ``public``.
    """
    lines = [
        f"; Foreshard's routing map, epoch {epoch}: one database a bucket. Made by `foreshard pgbouncer render` and",
        "; by cutovers; changes made here are lost. Passwords: auth_file or auth_query of the file that includes it.",
        "[databases]",
    ]
    for shard, here in groupby(sorted(aliases, key=lambda one: one.shard), key=lambda one: one.shard):
        group = list(here)
        lines += ["", f"; {_comment(shard)}", *_left_out(group[0].address.left_out)]
        lines += [line(alias) for alias in group]
    return "\n".join(lines) + "\n"


def line(alias: Alias) -> str:
    """One alias."""
    parts = {**alias.address.parameters, "connect_query": alias.connect_query}
    said = " ".join(f"{name}={_value(value)}" for name, value in parts.items())
    return f"{alias.name} = {said} pool_mode=transaction"


def _value(value: str) -> str:
    quoted = value.replace("'", "''")
    return f"'{quoted}'"


def _comment(text: str) -> str:
    return text.replace("\n", " ").replace("\r", " ")


def _left_out(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    tls = " TLS to the shards: server_tls_* there." if any(name.startswith(_TLS) for name in names) else ""
    return [f"; not PgBouncer's to say per database, left out: {', '.join(names)}.{tls}"]
