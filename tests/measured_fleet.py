"""A control database in which something of everything stands that metrics and alerts are made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from psycopg.types.json import Jsonb

from foreshard.control.approval_store import ApprovalStore
from foreshard.control.engine import ControlDatabase
from foreshard.control.flip_store import FlipStore
from foreshard.control.forecast_store import ForecastStore
from foreshard.control.lease import Lease
from foreshard.control.load_sql import transaction
from foreshard.control.load_store import LoadStore
from foreshard.control.migration_store import MigrationStore
from foreshard.control.progress_store import ProgressStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.control.verification_store import VerificationStore
from foreshard.forecast.band import QUANTILES, Band
from foreshard.forecast.peak import PEAK_LEVELS, Peak
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.load.sample import Sample
from foreshard.migration.approval_policy import Asking
from foreshard.migration.lifecycle import PATH, Stage
from foreshard.topology.keys import SLOTS, KeyType
from foreshard.topology.placement import Placement
from tests.plans import new_plan

HOUR = timedelta(hours=1)
METRICS = ("cpu_cores", "queries_per_s")
CAPACITY = 100.0


def set_up(control: ControlDatabase, shards: int = 4, buckets_each: int = 3) -> None:
    """``shards`` shards with a capacity of 100 of each of two resources."""
    topology = TopologyStore(control)
    topology.describe_fleet(KeyType.TEXT, {"orders": "customer"})
    placed: dict[str, str] = {}
    for number in range(1, shards + 1):
        name = f"shard-{number}"
        nowhere = f"host=127.0.0.1 port=1 dbname={name} user=foreshard"
        topology.put_shard(ShardRecord(name, nowhere, nowhere, dict.fromkeys(METRICS, CAPACITY)))
        placed |= {f"b{len(placed) + one:04}": name for one in range(buckets_each)}
    topology.put_buckets(tuple(placed), Placement(placed))


def put_load(control: ControlDatabase, shard: str, value: float, minutes: int = 5) -> None:
    """A sample a minute, of both resources, up to now."""
    now = datetime.now(UTC)
    LoadStore(control).add(
        [
            Sample(now - timedelta(minutes=back), shard, None, metric, value)
            for back in range(minutes)
            for metric in METRICS
        ],
        "live",
    )


def put_forecast(control: ControlDatabase, peaks: dict[str, float], age: timedelta = timedelta(0)) -> int:
    """A day from now on, of shards: the median rises to ``peaks`` in its middle. Returns its number."""
    starts_at = pd.Timestamp(datetime.now(UTC)).floor("h")
    steps = 24
    shape = np.interp(np.arange(steps), [0, 12, steps - 1], [0.5, 1.0, 0.5])
    ts = pd.date_range(starts_at, periods=steps, freq="h", tz="UTC")
    results = []
    for shard, peak in peaks.items():
        quantiles = (peak * shape)[:, None] * (0.7 + 0.6 * np.array(QUANTILES))[None, :]
        levels = peak * (0.8 + 0.4 * np.array(PEAK_LEVELS))
        results += [
            ForecastResult(
                SeriesKey(shard, None, metric), Band(ts, quantiles), Peak(levels), "lightgbm", {"lightgbm": 1.0},
                {"lightgbm": 0.7}, 0.9, None, None, 1008, "",
            )
            for metric in METRICS
        ]  # fmt: skip
    record = ForecastStore(control).save(
        starts_at.to_pydatetime(), results, step=HOUR, horizon_hours=24.0, live_samples_used=9, seconds=12.5,
        notes=["1 series failed"],
    )  # fmt: skip
    with transaction(control) as conn:
        conn.execute(
            "UPDATE forecast_runs SET created_at = now() - %s::interval WHERE id = %s", (age, record.id)
        )
    return record.id


def open_migration(
    control: ControlDatabase,
    source: str,
    target: str,
    bucket: str,
    stage: Stage = Stage.BACKFILL,
    *,
    start_by: timedelta | None = None,
    lease_s: float = 600.0,
) -> Lease:
    """A migration of one bucket that is driven, at ``stage``. ``start_by``: its plan's deadline, from now."""
    plan = new_plan(control, source, target, [bucket])
    if start_by is not None:
        put_deadline(control, plan, datetime.now(UTC) + start_by)
    store = MigrationStore(control)
    lease = store.acquire(store.open(plan), "runner", None, lease_s)
    for one in PATH[1 : PATH.index(stage) + 1]:
        store.go_to(lease, one)
    return lease


def put_deadline(control: ControlDatabase, plan: int, start_by: datetime) -> None:
    """The plan's, by the fleet's clock."""
    with transaction(control) as conn:
        conn.execute(
            "UPDATE plans SET document = %s WHERE id = %s",
            (Jsonb({"timeline": {"start_by": start_by.isoformat()}}), plan),
        )


def put_progress(control: ControlDatabase, lease: Lease) -> None:
    """Of the copy: 40 % of 10 MB."""
    document = {
        "done": 4e6, "total": 10e6, "rows": 4000, "per_s": 1e6, "eta_s": 6.0, "text": "copying", "unit": "bytes",
    }  # fmt: skip
    ProgressStore(control).keep(lease, "backfill", document)


def put_streams(
    control: ControlDatabase, lease: Lease, *, lag_s: float = 0.2, wal_bytes: int = 5_000_000
) -> None:
    """What a runner read of both streams just now."""
    with transaction(control) as conn:
        conn.execute(
            "INSERT INTO stream_readings (migration_id, forward_lag_bytes, forward_lag_s, reverse_lag_bytes, "
            "reverse_lag_s, source_wal_bytes, target_wal_bytes, wal_budget_bytes) "
            "VALUES (%(id)s, 900, %(lag)s, 900, %(lag)s, %(wal)s, %(wal)s, 10000000)",
            {"id": lease.migration, "lag": lag_s, "wal": wal_bytes},
        )


def ask_approval(control: ControlDatabase, lease: Lease) -> int:
    """The migration waits for a person, and nobody drives it. Returns the attempt."""
    attempt = ApprovalStore(control).ask(
        lease, 1, None, Asking(True, "cutover_only", "it is a cutover"), 86_400
    )
    MigrationStore(control).release(lease, waiting_for="approval")
    return attempt.id


def flip(control: ControlDatabase, lease: Lease, to_bound: int, pause_ms: float) -> None:
    """One flip that was opened."""
    flips = FlipStore(control)
    one = flips.intend(lease, 0, to_bound)
    flips.record(lease, one.flip_no, "opened", pause_ms=pause_ms)


def gate(control: ControlDatabase, lease: Lease, *, passed: bool) -> None:
    """A verdict before the cutover."""
    FlipStore(control).record_gate(
        lease, "before_cutover", 1, passed=passed, evaluated=9, expected=9, failed=0 if passed else 1,
        evidence_sha256="0" * 64, verdict={}, ttl_s=300,
    )  # fmt: skip


def fill(control: ControlDatabase) -> dict[str, Lease]:
    """Something of everything; migrations by name: copying, waiting, soaking."""
    set_up(control)
    for number, load in enumerate((35.0, 90.0, 60.0, 20.0), start=1):
        put_load(control, f"shard-{number}", load)
    put_forecast(control, {"shard-1": 40.0, "shard-2": 110.0, "shard-3": 80.0, "shard-4": 30.0})
    waiting_plan = new_plan(control, "shard-2", "shard-4", ["b0005"])
    put_deadline(control, waiting_plan, datetime.now(UTC) + timedelta(hours=5))
    copying = open_migration(control, "shard-1", "shard-4", "b0000", start_by=timedelta(hours=9))
    put_progress(control, copying)
    put_streams(control, copying)
    waiting = open_migration(
        control, "shard-2", "shard-3", "b0003", Stage.CUTOVER, start_by=timedelta(hours=3)
    )
    gate(control, waiting, passed=True)
    flip(control, waiting, 10, 12.0)
    ask_approval(control, waiting)
    soaking = open_migration(control, "shard-3", "shard-1", "b0006", Stage.SOAK)
    flip(control, soaking, SLOTS, 31.0)
    MigrationStore(control).set_routing(soaking, bound=SLOTS)
    verifications = VerificationStore(control)
    verifications.finish(verifications.begin(soaking.migration, None, "test"), [], {})
    with transaction(control) as conn:
        conn.execute(
            "INSERT INTO shadow_reads (migration_id, router, reads, matches, lags, mismatches, dropped)"
            " VALUES (%s, 'r', 100, 97, 2, 1, 0)",
            (soaking.migration,),
        )
        conn.execute(
            "INSERT INTO routers (id, application, host, pid, lease_s, epoch)"
            " VALUES (gen_random_uuid(), 'shop', 'app-1', 1, 300, 1)"
        )
    return {"copying": copying, "waiting": waiting, "soaking": soaking}
