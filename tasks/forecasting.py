"""Forecast the fleet: what is wanted, what is known, what is learnt from all series together, what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any
from zoneinfo import ZoneInfo

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_input import forecast_input
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.errors import InvalidInput
from foreshard.forecast.forecast_options import ForecastOptions, origins_for, turns_for
from foreshard.forecast.forecast_settings import ForecastSettings
from foreshard.forecast.models.candidates import DEFAULT
from foreshard.forecast.panel import Panel
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.training import Trained
from foreshard.forecast.training import train as train_models
from foreshard.settings import Settings
from tasks.retries import is_transient

SEED = 20131127


@dataclass(frozen=True)
class Wanted:
    """One run's parameters: the settings with what was asked for in their place. ``metrics``: None for all."""

    settings: ForecastSettings
    metrics: tuple[str, ...] | None

    @property
    def step(self) -> timedelta:
        """Length of a step."""
        return timedelta(minutes=self.settings.step_minutes)

    @property
    def horizon(self) -> timedelta:
        """How far ahead."""
        return timedelta(hours=self.settings.horizon_hours)

    def options(self, series: int) -> ForecastOptions:
        """The same, for the forecaster of so many series."""
        return ForecastOptions(
            self.horizon // self.step, self.models, SEED, turns_for(series), origins_for(series)
        )

    @property
    def models(self) -> tuple[str, ...]:
        """Those that compete."""
        return self.settings.models or DEFAULT

    @property
    def whole(self) -> bool:
        """Whether every series of the fleet is forecast."""
        return self.metrics is None

    def document(self) -> dict[str, Any]:
        """To be kept with the run."""
        return {
            "horizon_hours": self.settings.horizon_hours,
            "step_minutes": self.settings.step_minutes,
            "history_days": self.settings.history_days,
            "metrics": self.metrics,
            "models": self.models,
        }


def wanted(settings: Settings, *, metrics: Sequence[str] | None, **given: Any) -> Wanted:
    """The settings with what is ``given`` and not None in their place.

    Raises InvalidInput that names the first bad parameter, also for a model whose library is not installed.
    """
    found = Wanted(settings.forecast.but_with(**given), None if metrics is None else tuple(metrics))
    needs = {"torch": "lstm"} if "lstm" in found.models else {}
    needs |= {"prefect_dask": "dask"} if found.settings.task_runner == "dask" else {}
    for library, extra in needs.items():
        if find_spec(library) is None:
            field = "models" if extra == "lstm" else "forecast.task_runner"
            raise InvalidInput(
                field,
                f"{extra} needs {library}, which is not installed.",
                remedy=f"pip install 'foreshard[{extra}]'",
            )
    if found.metrics is not None and not found.metrics:
        raise InvalidInput("metrics", "names none", remedy="Leave it empty for all.")
    return found


class Known:
    """What is learnt from, and how many live samples are in it.

    This and `Forecasts` are no dataclasses because Prefect looks into every field of those for futures: of 10,000
    series, for seconds in every task.
    """

    def __init__(self, panel: Panel, live_samples: int) -> None:
        self.panel, self.live_samples = panel, live_samples


class Forecasts:
    """What came out: a result for every series of the panel, and what went otherwise than it should have."""

    def __init__(self, known: Known, results: Sequence[ForecastResult], notes: Sequence[str]) -> None:
        self.known, self.results, self.notes = known, results, notes


@task(
    name="read load", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2, retry_condition_fn=is_transient
)
def read_load(control: ControlDatabase, settings: Settings, what: Wanted, now: datetime) -> Known:
    """Every bucket's activity, and every shard's metrics rebuilt under the present placement, with the calendar."""
    found = forecast_input(
        control,
        now,
        timedelta(days=what.settings.history_days),
        horizon=what.horizon,
        step=what.step,
        metrics=what.metrics,
        timezone=ZoneInfo(settings.clock.timezone),
    )
    panel = found.panel
    get_run_logger().info(
        "%d series from %s to %s in steps of %s, %d live samples, %d events",
        len(panel.keys),
        panel.starts_at,
        panel.ends_at,
        what.step,
        found.live_samples,
        len(panel.events),
    )
    return Known(panel, found.live_samples)


@task(name="train", cache_policy=NO_CACHE, persist_result=False)
def train(control: ControlDatabase, what: Wanted, known: Known) -> Trained:
    """What is learnt from all series together; where that fails, the last known good fit."""
    kept = ForecastStore(control).kept(what.step)
    trained = train_models(
        known.panel, what.options(len(known.panel.keys)), {name: fit.payload for name, fit in kept.items()}
    )
    for note in trained.notes:
        get_run_logger().warning("%s", note)
    return trained


@task(
    name="store forecast",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=is_transient,
)
def store(
    control: ControlDatabase,
    what: Wanted,
    now: datetime,
    trained: Trained,
    forecasts: Forecasts,
    seconds: float,
) -> ForecastRecord:
    """The run and the band of every series, in one transaction; then what is too old goes."""
    kept, panel = ForecastStore(control), forecasts.known.panel
    record = kept.save(
        now,
        forecasts.results,
        step=what.step,
        horizon_hours=what.settings.horizon_hours,
        live_samples_used=forecasts.known.live_samples,
        seconds=seconds,
        metrics=what.metrics,
        parameters=what.document(),
        notes=forecasts.notes,
    )
    if what.whole:  # what was learnt from a part is not good for all
        span = panel.starts_at, panel.ends_at
        kept.keep(what.step, trained.kept(), now, span, len(panel.keys))
    kept.trim(timedelta(days=what.settings.keep_days))
    return record
