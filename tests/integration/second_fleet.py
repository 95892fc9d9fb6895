"""A fleet that was never made by us: plain SQL, names of its own, keys found by a directory."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from psycopg import sql

from foreshard.control.engine import ControlDatabase
from foreshard.errors import UnknownCommitOutcome
from foreshard.fleet.grants import APPLICATION, OWNER
from foreshard.fleet.throwaway import ShardDatabase
from foreshard.router import Transaction
from foreshard.router.fleet_router import fleet_router

BUCKETS = ("tenant.a", "Tenant B", "mandant_ä", "quiet's one")
MOVING = BUCKETS[:2]
TENANTS = {tenant: BUCKETS[tenant % 3] for tenant in range(1, 61)}
"""Key -> bucket. The last bucket is empty."""

DESCRIPTION = """
key_type = "int8"

[bucketing]
kind = "directory"
dsn = "{directory}"
table = '"Shop".tenants'
key_column = "id"
bucket_column = "Home"

[buckets]
names = ["tenant.a", "Tenant B", "mandant_ä", "quiet's one"]

[tables]
customers = "tenant_id"
orders = "tenant_id"

[shards.east]
dsn = "{east}"
application_dsn = "{east_application}"
capacity = {{ queries_per_s = 500 }}

[shards.west]
dsn = "{west}"
application_dsn = "{west_application}"
capacity = {{ queries_per_s = 500 }}
"""


def build(east: ShardDatabase) -> None:
    """The fleet as its people made it: everything on one shard, the directory too."""
    schema = (Path(__file__).parent / "second_fleet.sql").read_text(encoding="utf-8")
    with east.connect() as conn:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        conn.execute('CREATE SCHEMA "Shop"')
        conn.execute('CREATE TABLE "Shop".tenants (id bigint PRIMARY KEY, "Home" text NOT NULL)')
        conn.execute(
            sql.SQL('GRANT USAGE ON SCHEMA "Shop" TO {0}; GRANT SELECT ON "Shop".tenants TO {0}').format(
                sql.Identifier(APPLICATION)
            )
        )
        for bucket in BUCKETS:
            names = {"bucket": sql.Identifier(bucket), "application": sql.Identifier(APPLICATION)}
            conn.execute(sql.SQL(schema).format(**names))  # type: ignore[arg-type]
        for tenant, bucket in TENANTS.items():
            conn.execute('INSERT INTO "Shop".tenants VALUES (%s, %s)', (tenant, bucket))
            table = sql.Identifier(bucket, "customers")
            conn.execute(
                sql.SQL("""INSERT INTO {} (tenant_id, "E-mail") VALUES (%s, 'ada@example.org')""").format(
                    table
                ),
                (tenant,),
            )


def describe(directory: Path, east: ShardDatabase, west: ShardDatabase) -> Path:
    """The description, as a person writes it."""
    file = directory / "fleet.toml"
    text = DESCRIPTION.format(
        directory=east.application_dsn,
        east=east.operator_dsn,
        east_application=east.application_dsn,
        west=west.operator_dsn,
        west_application=west.application_dsn,
    )
    file.write_text(text, encoding="utf-8")
    return file


class History:
    """What the writers were told: orders placed, by tenant; those whose outcome is unknown count for neither."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acknowledged: dict[int, set[UUID]] = {tenant: set() for tenant in TENANTS}
        self.unknown: set[UUID] = set()
        self.served_by: Counter[str] = Counter()
        self.failures: list[BaseException] = []

    def add(self, tenant: int, operation: UUID, shard: str | None) -> None:
        """One order; ``shard`` None: its outcome is unknown."""
        with self._lock:
            if shard is None:
                self.unknown.add(operation)
            else:
                self.acknowledged[tenant].add(operation)
                self.served_by[shard] += 1

    @property
    def total(self) -> int:
        """Orders acknowledged so far."""
        return sum(self.served_by.values())


@contextmanager
def customers(control: ControlDatabase, threads: int = 3) -> Iterator[History]:
    """Threads that place orders through the router until the block ends."""
    history, stop = History(), threading.Event()

    def work(seed: int) -> None:
        draw = random.Random(seed)
        try:
            while not stop.is_set():
                tenant, operation = draw.choice(list(TENANTS)), uuid4()
                try:
                    shard = router.run(tenant, partial(_order, tenant=tenant, operation=operation))
                except UnknownCommitOutcome:
                    history.add(tenant, operation, None)
                else:
                    history.add(tenant, operation, shard)
        except BaseException as failure:
            history.failures.append(failure)
            raise

    with closing(fleet_router(control, "shop", deadline_s=20)) as router:
        running = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
        for thread in running:
            thread.start()
        try:
            yield history
        finally:
            stop.set()
            for thread in running:
                thread.join()


def _order(tx: Transaction, tenant: int, operation: UUID) -> str:
    (customer,) = tx.execute(
        "UPDATE {customers} SET orders = orders + 1 WHERE tenant_id = %s RETURNING id", (tenant,)
    ).fetchall()
    tx.execute(
        "INSERT INTO {orders} (tenant_id, customer_id, placed_at, net, operation)"
        " VALUES (%s, %s, pg_catalog.now() - %s * interval '1 day', 12.5, %s)",
        (tenant, customer[0], tenant * 20, operation),  # over all partitions
    )
    return tx.route.shard


def contents(shard: ShardDatabase, bucket: str) -> dict[int, tuple[int, list[UUID]]]:
    """By tenant: the customer's counter, and every order's operation."""
    query = sql.SQL(
        "SELECT c.tenant_id, c.orders, coalesce(array_agg(o.operation) FILTER (WHERE o.id IS NOT NULL), '{{}}')"
        "  FROM {customers} c LEFT JOIN {orders} o USING (tenant_id) GROUP BY 1, 2"
    ).format(customers=sql.Identifier(bucket, "customers"), orders=sql.Identifier(bucket, "orders"))
    with shard.connect() as conn:
        rows: list[tuple[Any, ...]] = conn.execute(query).fetchall()
    return {tenant: (counted, operations) for tenant, counted, operations in rows}


def assert_nothing_lost(history: History, owners: dict[str, ShardDatabase]) -> None:
    """Every acknowledged order is there once, and counted once, where its bucket is now."""
    assert history.failures == []
    assert not history.unknown
    for bucket, shard in owners.items():
        found = contents(shard, bucket)
        for tenant in (tenant for tenant, home in TENANTS.items() if home == bucket):
            counted, operations = found[tenant]
            assert sorted(operations) == sorted(history.acknowledged[tenant]), tenant
            assert counted == len(history.acknowledged[tenant]), tenant
