"""Looks at the whole installation and says how to mend what it finds. Changes nothing."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from sqlalchemy.exc import OperationalError

from foreshard.control.engine import ControlDatabase
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import ForeshardError
from foreshard.load.prometheus import PrometheusClient, PrometheusSeries
from foreshard.load.prometheus_queries import Target
from foreshard.load.prometheus_settings import PrometheusSettings
from foreshard.postgres import passwords
from foreshard.postgres.connect import connect
from foreshard.settings import Settings

OLDEST_SERVER = 160000
"""server_version_num; origin filtering came with 16."""

_SHARD_FACTS = """
SELECT current_setting('server_version_num')::int,
       current_setting('wal_level'),
       current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),
       (SELECT rolreplication FROM pg_roles WHERE rolname = current_user),
       pg_has_role(current_user, 'pg_create_subscription', 'USAGE'),
       EXISTS (SELECT FROM pg_namespace WHERE nspname = 'foreshard')
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``remedy`` is empty when it is in order."""

    what: str
    ok: bool
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """All findings: control database, every shard, Prefect, Prometheus servers."""
    passwords.use(settings.passwords, settings.passfile, settings.load.tokens)
    return [*_control(settings), *_prefect(settings), *_prometheus(settings.load.prometheus)]


def _control(settings: Settings) -> Iterator[Finding]:
    control = ControlDatabase(settings.control.dsn)
    try:
        current, newest = control.revision()
        yield Finding(
            f"control database answers, schema revision {current or 'none'}",
            current == newest,
            f"It should be {newest}: `foreshard serve` of this version brings it there.",
        )
        for shard in TopologyStore(control).shards() if current == newest else ():
            yield from _shard(shard)
    except (OperationalError, psycopg.OperationalError) as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        yield Finding(
            f"control database does not answer: {reason}",
            False,
            "Start it, or correct control.dsn and its password.",
        )
    finally:
        control.close()


def _shard(shard: ShardRecord) -> Iterator[Finding]:
    try:
        with connect(shard.dsn, statement_timeout_s=5) as conn:
            row = conn.execute(_SHARD_FACTS).fetchone()
    except ForeshardError as error:
        yield Finding(f"{shard.name}: {error.message}", False, error.remedy or "")
        return
    assert row is not None
    version, wal_level, free_slots, replication, subscribes, schema = row
    yield Finding(
        f"{shard.name}: server {version}", version >= OLDEST_SERVER, "PostgreSQL 16 or newer is needed."
    )
    yield Finding(
        f"{shard.name}: wal_level {wal_level}",
        wal_level == "logical",
        "Set wal_level = logical and restart it.",
    )
    yield Finding(
        f"{shard.name}: {free_slots} free replication slots", free_slots >= 4, "Raise max_replication_slots."
    )
    yield Finding(
        f"{shard.name}: role may replicate and subscribe, schema foreshard is there",
        bool(replication and subscribes and schema),
        "Let an administrator run what `foreshard grants --sql` prints.",
    )


def _prefect(settings: Settings) -> Iterator[Finding]:
    url = settings.prefect.api_url
    if url is None:
        yield Finding("prefect.api_url is not set", False, "Set it in foreshard.toml.")
        return
    try:
        _post(f"{url}/flow_runs/count", {})
        yield Finding(f"Prefect answers at {url}", True)
        scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        coming = _post(f"{url}/flow_runs/count", scheduled)
    except OSError as error:
        yield Finding(
            f"Prefect does not answer at {url}: {error}", False, "Start its server, or correct the address."
        )
        return
    yield Finding(
        f"Prefect's scheduler: {coming} runs ahead",
        bool(coming),
        "Start `foreshard serve`; if it runs, Prefect needs SQLAlchemy below 2.1 to schedule.",
    )


def _prometheus(servers: Iterable[PrometheusSettings]) -> Iterator[Finding]:
    for server in servers:
        try:
            with PrometheusClient(server) as client:
                for name, shard in server.shards.items():
                    for kind, selector in Target(name, shard, "").selectors.items():
                        found = client.query(f"up{{{selector}}}", datetime.now(UTC))
                        yield _scraped(
                            f"{name}: {kind}_exporter in Prometheus at {server.url}", selector, found
                        )
        except ForeshardError as error:
            yield Finding(error.message, False, error.remedy or "")


def _scraped(what: str, selector: str, found: list[PrometheusSeries]) -> Finding:
    up = [value for series in found for _, value in series.points()]
    if up == [1.0]:
        return Finding(f"{what} is scraped", True)
    if len(up) > 1:
        return Finding(
            f"{what} is {len(up)} targets", False, f"up{{{selector}}} must select one: name more labels."
        )
    if up:
        return Finding(f"{what} is down", False, "Start it, or look at Prometheus' page of targets.")
    return Finding(f"{what} is not known", False, f"up{{{selector}}} selects nothing: correct its labels.")


def _post(url: str, body: object) -> object:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)
