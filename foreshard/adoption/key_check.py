"""Are keys where the description says? A topology that sends routers to the wrong bucket is worse than none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from foreshard.adoption.facts import Finding, Lookup
from foreshard.errors import InvalidInput
from foreshard.topology.bucketing import BucketingKind
from foreshard.topology.keys import Key, KeyTypes, bucket_number

Keys = Mapping[tuple[str, str], Sequence[Key]]
"""Sampled keys by (bucket, table)."""


def check_keys(
    kind: BucketingKind, key_type: KeyTypes, buckets: Sequence[str], keys: Keys, lookup: Lookup
) -> Iterator[Finding]:
    """What is wrong with the sampled keys. ``buckets``: in the order of their numbers."""
    if lookup.trouble is not None:
        yield lookup.trouble
        return
    unknown = [bucket for bucket in lookup.named if bucket not in buckets]
    if unknown:
        keys_there = lookup.named[unknown[0]]
        named = f"bucket {unknown[0]}" if unknown[0] else "no bucket at all"
        yield Finding(
            "directory",
            f"sends {keys_there:,} keys to {named}, which is not on any shard"
            + (f", and names {len(unknown) - 1} more such buckets" if len(unknown) > 1 else ""),
            "Correct the directory, or [buckets] in the description.",
            untrue=True,
        )
    yield from _misplaced(kind, key_type, buckets, keys, lookup)


def _misplaced(
    kind: BucketingKind, key_type: KeyTypes, buckets: Sequence[str], keys: Keys, lookup: Lookup
) -> Iterator[Finding]:
    def expected(key: Key) -> str | None:
        if kind is BucketingKind.HASH:
            return _hashed(key, key_type, buckets)
        return lookup.bucket_of.get(key)

    sampled = [(bucket, table, key) for (bucket, table), found in keys.items() for key in found]
    wrong = [(bucket, table, key) for bucket, table, key in sampled if expected(key) != bucket]
    if not wrong:
        return
    bucket, table, key = wrong[0]
    there = expected(key)
    if there is None:
        says = f"key {key!r} of {bucket}.{table} is unknown to the {kind}"
    elif kind is BucketingKind.HASH:
        number = buckets.index(there)
        says = f"key {key!r} of {bucket}.{table} hashes to {there} (number {number} of {len(buckets)})"
    else:
        says = f"key {key!r} of {bucket}.{table} is in {there} by the {kind}"
    tables = sorted({table for _, table, _ in wrong})
    right = sorted({table for _, table in keys} - set(tables))
    where = f" (all in {', '.join(tables[:3])})" if right and len(tables) <= 3 else ""
    yield Finding(
        "keys",
        f"are not in their buckets: {len(wrong):,} of {len(sampled):,} sampled{where}. For one, {says}",
        _remedy(kind, key_type, buckets, keys, sampled, tables, right),
        untrue=True,
    )


def _remedy(
    kind: BucketingKind,
    key_type: KeyTypes,
    buckets: Sequence[str],
    keys: Keys,
    sampled: Sequence[tuple[str, str, Key]],
    tables: Sequence[str],
    right: Sequence[str],
) -> str:
    shared = _in_two_buckets(keys)
    if shared is not None:
        table, key, one, other = shared
        return (
            f"{table} holds key {key!r} in {one} and in {other}: that column tells rows apart within a bucket, not"
            " buckets. Describe the column that does (the tenant's, say), or add one to every table."
        )
    if right:
        return f"The others are right ({', '.join(right[:3])}): is the column of {tables[0]} the distribution column?"
    if kind is not BucketingKind.HASH:
        return f"Correct the {kind}, or [tables]: one of them is not what the application uses."
    for matches, text in _explanations(key_type, buckets):
        if all(matches(bucket, key) for bucket, _, key in sampled):
            return text
    return (
        "Your application places keys another way: describe it as kind directory or callable. If it is hash, the"
        " order of [buckets] names is wrong."
    )


def _explanations(
    key_type: KeyTypes, buckets: Sequence[str]
) -> Iterator[tuple[Callable[[str, Key], bool], str]]:
    """Other rules, and what to do where every key follows one."""
    natural = sorted(buckets, key=_by_number)
    place = {bucket: number for number, bucket in enumerate(natural)}
    yield (
        lambda bucket, key: _hashed(key, key_type, natural) == bucket,
        "They are in the order of the numbers in the names: give [buckets] names in that order"
        f" ({', '.join(natural[:3])}, …) in place of a pattern.",
    )
    yield (
        lambda bucket, key: isinstance(key, int) and key % len(natural) == place[bucket],
        f"Every sampled key is in bucket key % {len(natural)} ({natural[0]} is 0): describe that as kind callable.",
    )
    yield (
        lambda bucket, key: (
            str(key) in (bucket, re.split(r"[_-]|(?<=[^0-9])(?=[0-9]+$)", bucket, maxsplit=1)[-1])
        ),
        "Every sampled key is in the bucket named after it: describe that as kind callable, or directory.",
    )


def _in_two_buckets(keys: Keys) -> tuple[str, Key, str, str] | None:
    """A key that one table holds in two buckets: (table, key, one, other)."""
    seen: dict[tuple[str, Key], str] = {}
    for (bucket, table), found in keys.items():
        for key in found:
            other = seen.setdefault((table, key), bucket)
            if other != bucket:
                return table, key, other, bucket
    return None


def _hashed(key: Key, key_type: KeyTypes, buckets: Sequence[str]) -> str | None:
    try:
        return buckets[bucket_number(key, key_type, len(buckets))]
    except InvalidInput:
        return None


def _by_number(name: str) -> list[tuple[bool, int, str]]:
    """tenant_2 before tenant_10."""
    # Every second part is a number.
    return [
        (at % 2 == 1, int(part) if at % 2 else 0, part) for at, part in enumerate(re.split("([0-9]+)", name))
    ]
