"""The section `[forecast]` of the settings: how far ahead, by which models, where."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from foreshard.errors import InvalidInput

ModelName = Literal["seasonal_naive", "ets", "prophet", "lightgbm", "lightgbm_direct", "lstm"]
StepMinutes = Literal[5, 15, 60]

LONGEST_IN_SHORT_STEPS = 24.0
"""Hours ahead that are forecast in steps of less than an hour."""


class ForecastSettings(BaseModel):
    """What is forecast, from how much history, by what."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    step_minutes: StepMinutes = Field(default=60, description="length of a step")
    horizon_hours: float = Field(
        default=24.0,
        gt=0,
        le=24 * 14,
        description="how far ahead: a whole number of steps, at most a day unless they are hours",
    )
    history_days: int = Field(default=42, ge=1, le=366, description="what is learnt from")
    models: tuple[ModelName, ...] | None = Field(
        default=None, description="that compete for each series; by default those that proved best"
    )
    chunk_series: int = Field(default=250, ge=1, le=100_000, description="series that one task forecasts")
    workers: int = Field(
        default=2, ge=1, le=64, description="threads, or processes of a Dask cluster of its own"
    )
    task_runner: Literal["threads", "dask"] = Field(
        default="threads", description="where the tasks run: in the flow's process, or on a Dask cluster"
    )
    dask_address: str | None = Field(
        default=None,
        description="the cluster's scheduler, e.g. tcp://10.0.0.5:8786; without one, a cluster is started for each run",
    )
    keep_days: int = Field(default=14, ge=1, le=3660, description="how long bands of past forecasts are kept")

    @field_validator("horizon_hours")
    @classmethod
    def _whole_steps(cls, hours: float, info: ValidationInfo) -> float:
        minutes = info.data.get("step_minutes", 60)
        if hours * 60 % minutes:
            raise ValueError(f"{hours:g} h is not a whole number of steps of {minutes} minutes")
        if minutes < 60 and hours > LONGEST_IN_SHORT_STEPS:
            raise ValueError(f"{hours:g} h is more than a day: only steps of 60 minutes go further")
        return hours

    @field_validator("models")
    @classmethod
    def _each_once(cls, models: tuple[ModelName, ...] | None) -> tuple[ModelName, ...] | None:
        if models is not None and (not models or len(set(models)) < len(models)):
            raise ValueError("names no model, or one of them twice")
        return models

    @field_validator("dask_address")
    @classmethod
    def _of_dask(cls, address: str | None, info: ValidationInfo) -> str | None:
        if address is not None and info.data.get("task_runner") != "dask":
            raise ValueError('needs task_runner = "dask"')
        return address

    def but_with(self, **given: object) -> Self:
        """The same with other values in the place of those that are given and not None.

        Raises InvalidInput that names the first bad one.
        """
        try:
            return type(self)(
                **self.model_dump() | {name: one for name, one in given.items() if one is not None}
            )
        except ValidationError as invalid:
            first = invalid.errors(include_url=False)[0]
            message = first["msg"].removeprefix("Value error, ")
            raise InvalidInput(str(first["loc"][0]), message) from None
