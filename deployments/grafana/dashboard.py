"""The dashboard as code: `python -m deployments.grafana.dashboard` writes `dashboards/foreshard.json`."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableHide, VariableRefresh, VariableSort

from deployments.grafana.panels import (
    CAPACITY,
    GONE,
    GOOD_BAD,
    Panel,
    Query,
    lines,
    numbers,
    shares,
    stages,
    table,
)

FILE = Path(__file__).with_name("dashboards") / "foreshard.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

AT = 'shard=~"$shard", resource=~"$resource"'
MOVE = 'migration=~"$migration"'
NAMED = "{{migration}} {{source}} to {{target}}"

ROWS: dict[str, list[Panel]] = {
    "Fleet at a glance": [
        numbers("Control database", [Query("foreshard_up", "")], 3, GONE, "1: the last scrape could read it."),
        numbers("Busiest shard", [Query("max(foreshard_shard_utilisation_ratio)", "")], 3, CAPACITY,
                "Share of the capacity of its busiest resource.", unit="percentunit"),
        numbers("Highest risk", [Query("max(foreshard_shard_exceed_probability)", "")], 3, CAPACITY,
                "Probability that a shard exceeds a capacity within the forecast's window.", unit="percentunit"),
        numbers("Migrations under way", [Query('sum(foreshard_migrations{stage!~"done|aborted|reversed"})', "")], 3),
        numbers("Approvals waited for", [
            Query('sum(foreshard_approvals{state="pending"}) or vector(0)', "")], 3, GOOD_BAD),
        numbers("Alerts", [Query("sum(foreshard_alerts)", "")], 3, GOOD_BAD, "That have begun and not ended."),
        numbers("Forecast's age", [Query("time() - foreshard_forecast_timestamp_seconds", "")], 3, unit="s"),
        numbers("Plans that wait", [Query('foreshard_plans{state="proposed"}', "")], 3),
        shares("Load of every shard", [
            Query("max by (shard) (foreshard_shard_utilisation_ratio)", "{{shard}}")], 12),
        table("Shards by risk", [
            Query("sort_desc(max by (shard, resource) (foreshard_shard_exceed_probability))", "risk"),
            Query('max by (shard, resource) (foreshard_shard_forecast_peak_ratio{quantile="0.5"})', "median peak"),
            Query("max by (shard, resource) (foreshard_shard_utilisation_ratio)", "load now"),
        ], 12, "Shares of capacity; risk is the probability that the capacity is exceeded within the window."),
    ],
    "Shard at risk": [
        lines("Load, and what was forecast of it", [
            Query(f"foreshard_shard_utilisation_ratio{{{AT}}}", "{{shard}} {{resource}}: load"),
            Query(f"foreshard_shard_forecast_ratio{{{AT}}}", "{{shard}} {{resource}}: forecast {{quantile}}"),
            Query("vector(1)", "capacity"),
        ], 16, unit="percentunit", band=True,
            text="The band of the newest forecast at each time: load should be within nine times of ten."),
        shares("Peak within the window", [
            Query(f"foreshard_shard_forecast_peak_ratio{{{AT}}}", "{{shard}} {{resource}} {{quantile}}")], 8),
        lines("Probability of exceeding the capacity", [
            Query(f"foreshard_shard_exceed_probability{{{AT}}}", "{{shard}} {{resource}}")], 12, unit="percentunit"),
        table("Expected to exceed in", [
            Query(f"foreshard_shard_exceed_timestamp_seconds{{{AT}}} - time()", "seconds")], 12,
            "By the quantile that is planned with. Empty: nothing is expected to.", unit="s"),
    ],
    "Migrations": [
        stages("Stage", [
            Query(f"max by (migration, source, target) (foreshard_migration_stage{{{MOVE}}})", NAMED)], 12),
        shares("Progress of the newest step", [
            Query(f"foreshard_migration_progress_ratio{{{MOVE}}}", NAMED + ": {{step}}")], 6),
        lines("Bytes per second", [
            Query(f"foreshard_migration_rate_bytes_per_second{{{MOVE}}}", NAMED)], 6, unit="Bps"),
        lines("Behind", [
            Query(f"foreshard_migration_lag_seconds{{{MOVE}}}", NAMED + " {{direction}}")], 8, unit="s",
            text="Both streams of each migration."),
        lines("WAL that waits to be confirmed", [
            Query(f"foreshard_migration_lag_bytes{{{MOVE}}}", NAMED + " {{direction}}")], 8, unit="bytes"),
        lines("WAL kept, and the budget", [
            Query(f"foreshard_migration_wal_kept_bytes{{{MOVE}}}", "{{shard}} for {{migration}}"),
            Query("foreshard_wal_budget_bytes", "budget"),
        ], 8, unit="bytes"),
        lines("Time left of the newest step", [
            Query(f"foreshard_migration_eta_seconds{{{MOVE}}}", NAMED)], 8, unit="s"),
        lines("Rows of the newest step", [Query(f"foreshard_migration_progress_rows{{{MOVE}}}", NAMED)], 8),
        shares("Keys owned by the target", [Query(f"foreshard_migration_owned_ratio{{{MOVE}}}", NAMED)], 8),
        lines("Write pauses, 95th percentile", [
            Query("histogram_quantile(0.95, sum by (le, kind) (foreshard_flip_pause_seconds_bucket))", "{{kind}}")], 12,
            unit="s", text="Of all flips so far."),
        numbers("Longest write pause", [
            Query(f"foreshard_migration_write_pause_seconds{{{MOVE}}}", NAMED)], 6, unit="s"),
        lines("Shadow reads", [
            Query(f"sum by (outcome) (foreshard_migration_shadow_reads_total{{{MOVE}}})", "{{outcome}}")], 6),
    ],
    "Gates and approvals": [
        lines("Waited for approval", [
            Query(f"time() - foreshard_migration_approval_requested_timestamp_seconds{{{MOVE}}}", NAMED)], 8, unit="s"),
        table("Deadlines", [
            Query("foreshard_migration_start_by_timestamp_seconds - time()", "left of a migration"),
            Query("foreshard_plan_start_by_timestamp_seconds - time()", "left of a plan"),
        ], 8, "Until the latest start that ends before the excess.", unit="s"),
        numbers("Approvals", [Query("foreshard_approvals", "{{state}}")], 8),
        lines("Verdicts of checks", [
            Query("foreshard_gate_verdicts_total", "{{checkpoint}}: {{verdict}}")], 8),
        lines("Verifications", [Query("foreshard_verifications_total", "{{verdict}}")], 8),
        numbers("Findings that stand", [
            Query("sum(foreshard_migration_verification_findings) or vector(0)", "")], 4, GOOD_BAD),
        numbers("Failed migrations", [Query("sum(foreshard_migration_failed) or vector(0)", "")], 4, GOOD_BAD),
    ],
    "Flows and collector": [
        lines("Age of the newest forecast, decision and sample", [
            Query("time() - foreshard_forecast_timestamp_seconds", "forecast"),
            Query("time() - foreshard_decision_timestamp_seconds", "decision"),
            Query("time() - min(foreshard_shard_last_sample_timestamp_seconds)", "oldest newest sample"),
        ], 12, unit="s"),
        lines("Forecast's duration", [Query("foreshard_forecast_duration_seconds", "seconds")], 6, unit="s"),
        lines("Series by champion", [Query("foreshard_forecast_series", "{{model}}")], 6,
              text="seasonal_naive is what remains where nothing better could be had."),
        numbers("Coverage of the 90 % bands", [Query("foreshard_forecast_coverage_ratio", "")], 4, unit="percentunit"),
        numbers("Notes of the forecast", [Query("foreshard_forecast_notes", "")], 4, GOOD_BAD),
        numbers("Routers", [Query("sum by (state) (foreshard_routers)", "{{state}}")], 4),
        numbers("Leftovers of ended migrations", [Query("sum(foreshard_shard_leftovers)", "")], 4, GOOD_BAD),
        lines("Leases, seconds left", [
            Query(f"foreshard_migration_lease_expiry_timestamp_seconds{{{MOVE}}} - time()", NAMED)], 4, unit="s",
            text="Below zero nobody drives the migration: it waits for a person, it failed, or its run died."),
        lines("A scrape's reading", [Query("foreshard_read_duration_seconds", "seconds")], 4, unit="s"),
    ],
}  # fmt: skip
"""What stands in which row."""

CUTOVERS = 'increase(foreshard_flips_total{kind="cutover"}[2m]) > 0'


def board() -> build.Dashboard:
    """The whole dashboard."""
    made = (
        build.Dashboard("Foreshard")
        .uid("foreshard")
        .tags(["foreshard", "postgresql"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .editable()
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("shard", "foreshard_shard_buckets", "shard"))
        .with_variable(_variable("resource", "foreshard_shard_utilisation_ratio", "resource"))
        .with_variable(_variable("migration", "foreshard_migration_stage", "migration"))
        .annotation(
            build.AnnotationQuery()
            .name("Cutovers")
            .datasource(SOURCE)
            .enable(True)
            .icon_color("purple")
            .expr(CUTOVERS)
        )
    )
    for title, panels in ROWS.items():
        made = made.with_row(build.Row(title))
        for panel in panels:
            made = made.with_panel(panel.datasource(SOURCE))
    return made


def _variable(name: str, metric: str, label: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(name.capitalize())
        .hide(VariableHide.DONT_HIDE)
        .datasource(SOURCE)
        .query(f"label_values({metric}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def as_json() -> str:
    """What the file holds."""
    return JSONEncoder(sort_keys=True, indent=1).encode(board().build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_json(), encoding="utf-8")
