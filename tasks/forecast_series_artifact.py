"""What was done with each series, in the UI and in the log: champions, scores, coverage, and what was bad."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from foreshard.control.forecast_store import ForecastRecord
from foreshard.forecast.result import ForecastResult
from foreshard.markdown import cell, shortened
from tasks.forecasting import Forecasts
from tasks.shard_forecast_artifact import score

NOTES_SHOWN = 300
NOTES_LOGGED = 20


@task(name="show series", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def show(record: ForecastRecord, forecasts: Forecasts) -> None:
    """The artifact `forecast-series`, and its short form in the log."""
    log, results = get_run_logger(), forecasts.results
    noted = [one for one in results if one.note]
    log.info("champions: %s", ", ".join(f"{model} {number}" for model, number in record.counts.items()))
    for one in noted[:NOTES_LOGGED]:
        log.warning("%s: %s", one.key, one.note)
    if len(noted) > NOTES_LOGGED:
        log.warning("%d more series with notes: see the artifact forecast-series", len(noted) - NOTES_LOGGED)
    create_markdown_artifact(
        key="forecast-series",
        markdown=as_markdown(record, results),
        description=f"Forecast {record.id}: what was done with each series",
    )


def as_markdown(record: ForecastRecord, results: Sequence[ForecastResult]) -> str:
    """Champions with how well they did, then the notes: the shards' first, some hundreds at most."""
    noted = sorted(
        (one for one in results if one.note), key=lambda one: (one.key.shard is None, str(one.key))
    )
    lines = [
        f"# Forecast {record.id}: {record.series} series",
        *(f"- **{note}**" for note in record.notes),
        "",
        "| model | champion of | median score | worst score | median coverage of the 90 % band |",
        "|---|---:|---:|---:|---:|",
        *(_champion(model, [one for one in results if one.model == model]) for model in record.counts),
        "",
        "A score is the weighted pinball loss at past origins relative to the seasonal naive's: below 1 is better.",
        "",
        f"## {len(noted)} with notes",
    ]
    if noted:
        lines += ["| series | model | score | known steps | note |", "|---|---|---:|---:|---|"]
    lines += [
        f"| {cell(shortened(str(one.key), 40))} | {one.model} | {score(one)} | {one.points} | {cell(one.note)} |"
        for one in noted[:NOTES_SHOWN]
    ]
    if len(noted) > NOTES_SHOWN:
        lines += ["", f"... and {len(noted) - NOTES_SHOWN} more: `foreshard forecast --json` lists all."]
    return "\n".join(lines)


def _champion(model: str, of: Sequence[ForecastResult]) -> str:
    scores = [one.score for one in of if one.score is not None]
    coverage = [one.coverage for one in of if one.coverage is not None]
    numbers = (
        f"{median(scores):.2f} | {max(scores):.2f}" if scores else "none | none",
        f"{median(coverage):.0%}" if coverage else "none",
    )
    return f"| {model} | {len(of)} | {' | '.join(numbers)} |"
