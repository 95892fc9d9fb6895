"""Which copy applications may read: a shard that does not serve a bucket does not show it to them.

A copy is closed from its first moment until its shard owns keys of it; the source's is closed once the cutover has
taken its last key, and open again before a reversal gives one back. So no reader, with whatever map, takes a copy that
is being filled, or one that is being left behind, for the truth (DESIGN section 5, hole 11). What is closed is USAGE of
the bucket's schema, for every role but its owner: who has it on the source is remembered before anything is made.

Shadow reads are what a closed copy is there for: the fleet's shadow role has USAGE of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from foreshard.migration.work import Work
from foreshard.postgres import schema_usage
from foreshard.postgres.connect import Connection
from foreshard.postgres.guard import Side
from foreshard.postgres.schema_usage import Usage
from foreshard.topology.keys import SLOTS

FACT = "schema_usage"
"""The fact that says who may use the buckets' schemas. A migration that was prepared without one closes nothing."""


def remember(work: Work, source: Connection) -> None:
    """Keep who may use the buckets, before the copies are made. Idempotent: the first answer counts."""
    if FACT not in work.facts():
        found = [[one.schema, one.role, one.grantable] for one in schema_usage.of(source, work.buckets)]
        work.store.put_facts(work.lease, **{FACT: found})


def closing_script(work: Work, target: Connection) -> str:
    """What closes the copy, in the transaction that makes it, and opens it to shadow reads."""
    statements = schema_usage.revoking(_remembered(work)) + schema_usage.granting(_shadow(work))
    return statements.as_string(target)


def open_to_applications(work: Work, side: Side) -> None:
    """Before that side's shard gets its first key. Idempotent."""
    with work.connection(side, statement_timeout_s=60) as conn:
        _open(work, conn)


def close_what_lost_all(work: Work, bound: int) -> None:
    """After a flip to ``bound``: the shard that owns no key any more shows none. Idempotent."""
    if bound in (0, SLOTS):
        loser = Side.SOURCE if bound == SLOTS else Side.TARGET
        with work.connection(loser, statement_timeout_s=60) as conn:
            _close(work, conn)


def ensure(work: Work, conn: Connection, side: Side, bound: int) -> None:
    """On a server that was failed over: what its predecessor opened or closed may be forgotten."""
    if bound < SLOTS if side is Side.SOURCE else bound > 0:
        _open(work, conn)
    else:
        _close(work, conn)


def settle(work: Work, winner: Connection) -> None:
    """At the end: the copy that stays may be used by those who could at the beginning, and by no shadow role."""
    _open(work, winner)
    mine = set(_shadow(work)) - {Usage(one.schema, one.role) for one in _remembered(work)}
    winner.execute(schema_usage.revoking(sorted(mine & set(schema_usage.of(winner, work.buckets)))))


def _open(work: Work, conn: Connection) -> None:
    there = set(schema_usage.of(conn, work.buckets))
    missing = [one for one in _remembered(work) if one not in there]
    # A role that was dropped meanwhile must not keep keys without an owner.
    roles = schema_usage.existing(conn, {one.role for one in missing})
    conn.execute(schema_usage.granting(one for one in missing if one.role in roles))


def _close(work: Work, conn: Connection) -> None:
    if FACT not in work.facts():
        return
    shadow = set(_shadow(work))
    there = schema_usage.of(conn, work.buckets)
    conn.execute(schema_usage.revoking(one for one in there if Usage(one.schema, one.role) not in shadow))


def _remembered(work: Work) -> list[Usage]:
    return [Usage(*one) for one in work.facts().get(FACT, [])]


def _shadow(work: Work) -> Sequence[Usage]:
    return [] if work.shadow_role is None else [Usage(bucket, work.shadow_role) for bucket in work.buckets]
