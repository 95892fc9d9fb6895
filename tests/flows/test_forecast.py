"""The forecast flow on a real Prefect server and a real control database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ParameterTypeError

from flows.decide import decide
from flows.forecast import forecast
from flows.migrate import migrate
from foreshard.control.engine import ControlDatabase
from foreshard.control.forecast_store import ForecastRecord, ForecastStore
from foreshard.control.plan_store import PlanStore
from foreshard.control.topology_store import ShardRecord, TopologyStore
from foreshard.errors import InvalidInput, NotFound
from foreshard.forecast import forecaster, training
from foreshard.forecast.panel import Panel
from foreshard.forecast.result import ForecastResult
from foreshard.forecast.series import SeriesKey
from foreshard.forecast.training import Trained
from tasks import forecast_chunks
from tests.flows.conftest import BUCKETS, Deployed
from tests.flows.forecast_load import HOUR, RATE, put_load


@pytest.fixture
def load(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> ControlDatabase:
    """With three weeks of load, near the first shard's capacity."""
    put_load(control, monkeypatch)
    return control


def newest(control: ControlDatabase) -> ForecastRecord:
    found = ForecastStore(control).newest()
    assert found is not None
    return found


def artifact(client: SyncPrefectClient, key: str) -> str:
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    found = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.UPDATED_DESC, limit=1)
    return str(found[0].data) if found else ""


def test_every_series_is_forecast_stored_and_shown(client: SyncPrefectClient, load: ControlDatabase) -> None:
    number = forecast()
    record = newest(load)
    assert (record.id, record.series, record.horizon_hours, record.step) == (number, 6, 6.0, HOUR)
    assert record.parameters["models"] == ["seasonal_naive", "ets"]
    assert record.metrics is None
    assert sum(record.counts.values()) == 6
    results = ForecastStore(load).results(number)
    assert {str(key) for key in results} == {
        *(f"{one}/{RATE}" for one in BUCKETS),
        f"shard-1/{RATE}",
        f"shard-2/{RATE}",
    }
    assert all(len(one.band.ts) == 6 for one in results.values())
    assert artifact(client, "forecast").startswith(f"# Forecast {number}")
    assert f"# Forecast {number}: 6 series" in artifact(client, "forecast-series")
    assert "data:image/png" in artifact(client, "forecast-shard-1-queries-per-s")
    Deployed(migrate, client)
    decide()
    decided = PlanStore(load).decision_after(number - 1)
    assert decided is not None
    assert decided.forecast_run_id == number


def test_a_run_of_other_parameters_is_looked_at_but_not_decided_on(load: ControlDatabase) -> None:
    number = forecast(horizon_hours=1, step_minutes=15, models=["seasonal_naive"])
    record = newest(load)
    assert (record.id, record.step, record.horizon_hours) == (number, timedelta(minutes=15), 1.0)
    assert all(len(one.band.ts) == 4 for one in ForecastStore(load).results(number).values())
    forecast(metrics=[RATE])
    assert newest(load).metrics == (RATE,)
    with pytest.raises(NotFound, match="6 h in steps of 60 min"):
        decide()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"horizon_hours": 0.25}, "horizon_hours: 0.25 h is not a whole number of steps of 60 minutes"),
        ({"horizon_hours": 48, "step_minutes": 5}, "horizon_hours: 48 h is more than a day"),
        ({"metrics": ["cpu_coers"]}, "metrics: nothing is known of cpu_coers. Known are queries_per_s"),
        ({"metrics": []}, "metrics: names none"),
        ({"models": []}, "models: names no model"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_done(
    load: ControlDatabase, given: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        forecast(**given)
    assert ForecastStore(load).newest() is None


@pytest.mark.parametrize(
    "given", [{"step_minutes": 7}, {"models": ["prophets"]}, {"horizon_hours": -1}, {"horizon_hours": 999}]
)
@pytest.mark.usefixtures("load")
def test_what_the_form_does_not_offer_is_refused_by_name(given: Mapping[str, Any]) -> None:
    with pytest.raises(ParameterTypeError, match=next(iter(given))):
        forecast(**given)


@pytest.mark.usefixtures("load")
def test_a_model_whose_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.forecasting.find_spec", lambda _: None)
    with pytest.raises(InvalidInput, match="models: lstm needs torch"):
        forecast(models=["lstm"])


def failing(monkeypatch: pytest.MonkeyPatch, on: str, models_fail: Callable[[], None]) -> None:
    """The forecaster fails for chunks with that series, unless only the naive is asked for."""
    real = forecaster.forecast

    def odd(trained: Trained, panel: Panel, options: Any, *rest: Any) -> list[ForecastResult]:
        if options.models != forecast_chunks.ONLY_NAIVE and any(key.bucket == on for key in panel.keys):
            models_fail()
        return real(trained, panel, options, *rest)

    monkeypatch.setattr(forecaster, "forecast", odd)


def test_a_chunk_that_fails_is_forecast_by_the_naive_and_the_others_are_unharmed(
    client: SyncPrefectClient, load: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ArithmeticError("of the test")

    forecast()
    before = ForecastStore(load).results(newest(load).id)
    failing(monkeypatch, "b0001", fail)
    number = forecast()
    results = ForecastStore(load).results(number)
    assert results.keys() == before.keys()
    for key, one in results.items():
        if key.bucket in ("b0000", "b0001"):  # one chunk
            assert one.model == "seasonal_naive"
            assert "the task that should have compared the models failed" in one.note
        else:
            assert one.model == before[key].model
    (note,) = newest(load).notes
    assert "ArithmeticError: of the test" in note
    assert "ArithmeticError: of the test" in artifact(client, "forecast")
    assert "ArithmeticError: of the test" in artifact(client, "forecast-series")


def test_when_training_fails_the_last_known_good_fit_is_told(
    client: SyncPrefectClient, load: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Mapping[str, bytes]] = []
    real = training.train

    def failed(panel: Panel, options: Any, kept: Mapping[str, bytes]) -> Trained:
        given.append(kept)
        trained = real(panel, options, {})
        object.__setattr__(trained, "notes", ("lightgbm: training failed, the fit of before is used",))
        return trained

    monkeypatch.setattr("tasks.forecasting.train_models", failed)
    span = datetime.now(UTC) - HOUR, datetime.now(UTC)
    ForecastStore(load).keep(HOUR, {"lightgbm": b"good"}, span[1], span, 6)
    forecast()
    assert given == [{"lightgbm": b"good"}]
    assert newest(load).notes == ("lightgbm: training failed, the fit of before is used",)
    assert "the fit of before is used" in artifact(client, "forecast")
    assert ForecastStore(load).kept(HOUR)["lightgbm"].payload == b"good"


def test_an_interrupted_run_leaves_nothing(load: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.forecast_chunks.update_progress_artifact", lambda **_: interrupt())
    with pytest.raises(KeyboardInterrupt):
        forecast()
    assert ForecastStore(load).newest() is None


def test_odd_names_of_shards(client: SyncPrefectClient, load: ControlDatabase) -> None:
    name = "Straße | 'x'"
    TopologyStore(load).put_shard(ShardRecord(name, "host=a", "host=a", {RATE: 1e-9}))
    number = forecast()
    assert SeriesKey(name, None, RATE) in ForecastStore(load).results(number)
    assert "Straße \\| 'x'" in artifact(client, "forecast")
