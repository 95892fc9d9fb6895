"""The shards held against each other: do they sort and encode alike, does each reach the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from foreshard.control.topology_store import ShardRecord
from foreshard.doctor.finding import Finding, or_ok, warn, wrong
from foreshard.doctor.shard import STATEMENT_TIMEOUT_S, ShardFacts
from foreshard.postgres import subscriptions
from foreshard.postgres.connect import connect
from foreshard.topology.keys import KeyType

CHECK = "shards"
OTHERS = 4
"""Each shard is asked to reach so many others: of few all, of many the next ones by name."""


def judge(facts: Sequence[ShardFacts], key_type: KeyType) -> list[Finding]:
    """Encoding, collations and identity of those that answered."""
    found: list[Finding] = []
    by_encoding = _by(facts, lambda one: one.server.encoding)
    if len(by_encoding) > 1:
        found.append(
            wrong(
                CHECK, f"encodings differ: {_said(by_encoding)}", "A bucket can only move between equal ones."
            )
        )
    elif key_type is KeyType.TEXT and by_encoding.keys() - {"UTF8"}:
        found.append(
            wrong(
                CHECK,
                f"encoding is {_said(by_encoding)}",
                "Routers hash text keys as UTF-8: convert the databases.",
            )
        )
    for what, groups in (
        ("default collations", _by(facts, lambda one: one.server.collation)),
        ("versions of the default collation", _by(facts, lambda one: one.server.collation_version)),
    ):
        if len(groups) > 1:
            found.append(
                warn(
                    CHECK,
                    f"{what} differ: {_said(groups)}: text may sort otherwise, and ranges of it hold other rows",
                    "Use the same system libraries on all, or a collation of PostgreSQL itself.",
                )
            )
    same = _by(facts, lambda one: f"{one.server.system_identifier} {one.server.database}")
    for names in same.values():
        for one, other in pairwise(names):
            found.append(
                wrong(
                    CHECK,
                    f"{one} and {other} are the same database, or one is a copy of the other's server",
                    "Correct the DSN that is wrong, or make that server with initdb.",
                )
            )
    return or_ok(CHECK, found, f"{len(facts)} shards encode and sort alike")


def links(shards: Sequence[ShardRecord]) -> list[tuple[ShardRecord, ShardRecord]]:
    """(subscriber, publisher) pairs to try."""
    ring = [*shards, *shards]
    return [
        (one, other)
        for place, one in enumerate(shards)
        for other in ring[place + 1 : place + 1 + min(OTHERS, len(shards) - 1)]
    ]


def reach(subscriber: ShardRecord, publishers: Sequence[ShardRecord]) -> dict[str, str | None]:
    """Why the subscriber's server cannot subscribe to each of these; None: it can."""
    with connect(
        subscriber.dsn, application="foreshard doctor", statement_timeout_s=STATEMENT_TIMEOUT_S
    ) as conn:
        return {one.name: subscriptions.could_subscribe(conn, one.dsn) for one in publishers}


def judge_reach(failures: Mapping[tuple[str, str], str | None]) -> list[Finding]:
    """``failures``: of (subscriber, publisher)."""
    found = [
        wrong(
            CHECK,
            f"{subscriber} cannot subscribe to {publisher}: {why}",
            f"That server itself connects: pg_hba.conf, firewall and names must let {subscriber} reach the DSN of "
            f"{publisher}, with a password.",
        )
        for (subscriber, publisher), why in failures.items()
        if why is not None
    ]
    return or_ok(CHECK, found, f"each shard's server reaches the others ({len(failures)} connections tried)")


def _by(facts: Sequence[ShardFacts], value: Callable[[ShardFacts], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for one in facts:
        groups.setdefault(value(one), []).append(one.record.name)
    return groups


def _said(groups: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{value or 'none'} on {', '.join(names)}" for value, names in groups.items())
