"""Puts Foreshard's functions on shards: from then on a router may ask there who owns a key."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from foreshard.adoption.description import ShardSection
from foreshard.adoption.inspection import Report
from foreshard.postgres import guard
from foreshard.postgres.connect import connect


def install(shards: Mapping[str, ShardSection], report: Report = lambda *_: None) -> None:
    """Install or renew the permanent part of the guard on every shard, all at once. Idempotent.

    Raises:
        ShardUnavailable: a shard does not answer.
    """

    def one(name: str) -> None:
        report(name, "installs Foreshard's functions")
        with connect(shards[name].dsn, statement_timeout_s=60) as conn:
            guard.install(conn)
        report(name, "done")

    if shards:
        with ThreadPoolExecutor(min(16, len(shards))) as pool:
            list(pool.map(one, shards))
