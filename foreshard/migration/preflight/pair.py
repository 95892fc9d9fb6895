"""The two shards held against each other: are they two, do they agree, is anything in the way on the target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from foreshard.migration.preflight.findings import Finding
from foreshard.postgres import server_facts
from foreshard.postgres.connect import Connection
from foreshard.postgres.server_facts import ClockOffset, ServerFacts
from foreshard.topology.keys import KeyType

SKEW_S = 1.0


def identity(ends: Mapping[str, Connection], facts: Mapping[str, ServerFacts]) -> list[Finding]:
    """Both by shard name, source first. Two databases of one cluster are fine; a cluster and its copy are not."""
    source, target = facts
    if facts[source].system_identifier != facts[target].system_identifier:
        return []
    if not server_facts.sees(ends[target], facts[source].session):
        return [
            Finding(
                f"{source} and {target}",
                "are a server and a copy of it (the same system identifier): a clone, a restored backup or a standby",
                "Correct the DSN that is wrong, or make the target with initdb.",
            )
        ]
    if facts[source].database == facts[target].database:
        return [
            Finding(
                f"{source} and {target}",
                f"are the same database, {facts[source].database}",
                "Correct the DSN that is wrong.",
            )
        ]
    return []


def agreement(facts: Mapping[str, ServerFacts], key_type: KeyType) -> Iterator[Finding]:
    """Encodings and collations."""
    encodings = {shard: one.encoding for shard, one in facts.items()}
    if len(set(encodings.values())) > 1:
        both = " and ".join(f"{encoding} on {shard}" for shard, encoding in encodings.items())
        yield Finding("encoding", f"is {both}", "Both databases need the same encoding.")
    elif key_type is KeyType.TEXT and set(encodings.values()) != {"UTF8"}:
        yield Finding("encoding", "is not UTF8", "Routers hash text keys as UTF-8: convert the databases.")
    for what, values in (
        ("default collation", {shard: one.collation for shard, one in facts.items()}),
        ("version of the default collation", {shard: one.collation_version for shard, one in facts.items()}),
    ):
        if len(set(values.values())) > 1:
            both = " and ".join(f"{value or 'none'} on {shard}" for shard, value in values.items())
            yield Finding(
                what,
                f"is {both}: indexes are built anew, but text may sort otherwise, and ranges of it hold other rows",
                "Use the same, or make sure that no query depends on the order.",
                blocking=False,
            )


def clocks(offsets: Mapping[str, ClockOffset]) -> list[Finding]:
    """Clocks decide nothing about owners; times in journals, leases and now() of two owners should still agree."""
    return [
        Finding(
            f"{shard}: clock",
            f"is {offset.seconds:+.1f} s from ours",
            "Synchronise it: who owns a key does not depend on it, but now() in rows and times in logs do.",
            blocking=False,
        )
        for shard, offset in offsets.items()
        if abs(offset.seconds) - offset.uncertainty_s > SKEW_S
    ]
