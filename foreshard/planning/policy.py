"""The numbers that steer decisions, each with its unit and range."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from foreshard.errors import InvalidInput
from foreshard.forecast.band import QUANTILES


class DecisionPolicy(BaseModel):
    """How risk is scored, when a plan is made, and what a migration is expected to take.

    Everything without a unit is a share of capacity. Raises ``InvalidInput`` naming the first bad field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    policy: Literal["threshold"] = Field("threshold", description="the rule that scores risk")
    predicted_weight: float = Field(0.8, ge=0, description="weight of predicted load above capacity")
    current_weight: float = Field(0.2, ge=0, description="weight of current load above the knee")
    knee: float = Field(0.8, gt=0, le=1, description="current load above this is a risk")
    migration_threshold: float = Field(0.02, ge=0, description="a score above this makes a plan")
    predicted_quantile: float = Field(0.9, description="quantile of the forecast that counts")
    reactive_threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="present load at which one would act without forecasts",
    )
    target_ceiling: float = Field(0.85, gt=0, le=1, description="both ends are planned to peak at most here")
    epsilon: float = Field(0.25, gt=0, description="a target may exceed its fair share of load by this part")
    balance_above: float = Field(
        0.5, ge=0, le=1, description="below this utilisation a shard's share of a resource is not bounded"
    )
    minimum_gain: float = Field(0.02, ge=0, description="the worse end's peak must fall by at least this")
    cooldown_s: float = Field(21_600, ge=0, description="a bucket that moved stays for this long, seconds")

    copy_bytes_per_s: float = Field(20e6, gt=0, description="backfill rate, until one is learnt")
    verify_bytes_per_s: float = Field(
        60e6, gt=0, description="rate of comparing both sides, until one is learnt"
    )
    wal_bytes_per_s: float = Field(200e6, gt=0, description="rate at which a server can write WAL")
    network_bytes_per_s: float = Field(125e6, gt=0, description="bandwidth between shards")
    copy_load: float = Field(
        0.1, ge=0, lt=1, description="part of each resource that a running copy takes on either end"
    )
    catch_up_s: float = Field(
        10, ge=0, description="from the copy's end until both sides are level, until it is learnt, seconds"
    )
    soak_s: float = Field(60, ge=0, description="from cutover to finalise, seconds")
    margin_s: float = Field(600, ge=0, description="safety added to the predicted duration, seconds")
    expected_pause_s: float = Field(0.05, ge=0, description="write pause of all flips together, seconds")
    operator_overhead: float = Field(0.002, ge=0, description="what a migration costs its watchers")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as invalid:
            first = invalid.errors()[0]
            field = ".".join(map(str, first["loc"])) or "policy"
            said = first["msg"].removeprefix("Value error, ")
            raise InvalidInput(field, f"{said} (given: {first['input']!r})") from None

    @field_validator("predicted_quantile")
    @classmethod
    def _is_forecast(cls, level: float) -> float:
        if level not in QUANTILES:
            raise ValueError(f"Input should be one of {', '.join(map(str, QUANTILES))}")
        return level
