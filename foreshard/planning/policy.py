"""The numbers that steer decisions, each with its unit and range."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from foreshard.errors import InvalidInput
from foreshard.forecast.band import QUANTILES
from foreshard.forecast.peak import PEAK_LEVELS
from foreshard.planning.windows import parse_windows

Weight = Annotated[float, Field(gt=0)]


class DecisionPolicy(BaseModel):
    """How risk is scored, when a plan is made, and what a migration is expected to take.

    Everything without a unit is a share of capacity. Raises ``InvalidInput`` naming the first bad field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    policy: Literal["probabilistic", "threshold"] = Field(
        "probabilistic",
        description="what stands for predicted load above capacity: the probability that the window exceeds it plus "
        "the expected excess, or how far a quantile of the forecast exceeds it",
    )
    predicted_weight: float = Field(0.8, ge=0, description="weight of predicted load above capacity")
    current_weight: float = Field(0.2, ge=0, description="weight of current load above the knee")
    knee: float = Field(0.8, gt=0, le=1, description="current load above this is a risk")
    migration_threshold: float = Field(0.02, ge=0, description="a score above this makes a plan")
    predicted_quantile: float = Field(
        0.9,
        description="quantile of the forecast that counts: for `threshold` everywhere, else for deadlines",
    )
    relief_probability: float = Field(
        0.05,
        description="`probabilistic`: after a plan, either end stays under the ceiling but with this probability",
    )
    reactive_threshold: float = Field(
        0.8,
        gt=0,
        le=1,
        description="present load at which one would act without forecasts",
    )
    target_ceiling: float = Field(0.85, gt=0, le=1, description="both ends are planned to peak at most here")
    strained_above: float = Field(
        0.2,
        description="`probabilistic`: where no placement keeps the ceiling, a shard is helped if it exceeds "
        "`strained_ceiling` with more than this probability",
    )
    strained_probability: float = Field(
        0.1,
        description="`probabilistic`: it is helped until it does so with this probability only, or where that has no "
        "room either with the other; targets exceed it with no more",
    )
    strained_ceiling: float = Field(
        1.0,
        gt=0,
        le=1,
        description="where no placement keeps the ceiling, both ends are planned to peak at most here",
    )
    epsilon: float = Field(0.25, gt=0, description="a target may exceed its fair share of load by this part")
    balance_above: float = Field(
        0.5, ge=0, le=1, description="below this utilisation a shard's share of a resource is not bounded"
    )
    balance: bool = Field(
        False,
        description="also move what a shard carries beyond its share though nothing is at risk, at the lowest priority",
    )
    minimum_gain: float = Field(
        0.1, ge=0, description="the higher peak of both ends, or the higher risk, must fall by this"
    )
    cooldown_s: float = Field(21_600, ge=0, description="a bucket that moved stays for this long, seconds")
    no_return_s: float = Field(
        172_800, ge=0, description="a bucket does not go back to the shard it left within this, seconds"
    )

    planner: Literal["auto", "greedy", "exact"] = Field(
        "auto",
        description="how buckets are chosen: exact is least bytes by HiGHS, auto exact for small fleets",
    )
    exact_pairs: int = Field(
        2_000, ge=0, description="auto is exact up to so many pairs of a bucket that may move and a target"
    )
    shard_weights: dict[str, Weight] = Field(
        {}, description="shard -> weight on the hash ring; else by capacity"
    )
    pins: dict[str, str] = Field({}, description="bucket -> the only shard that it may be moved to")
    apart: tuple[frozenset[str], ...] = Field((), description="sets of buckets no two of which share a shard")

    start: Literal["trough", "now"] = Field(
        "trough",
        description="when a plan starts: where load is least before its deadline, or as soon as it may",
    )
    windows: tuple[str, ...] = Field(
        (),
        description="maintenance windows, e.g. 'Mon-Fri 22:00-06:00', by the fleet's time zone; none: any time",
    )
    max_migrations: int = Field(2, ge=1, description="migrations of the fleet at the same time")

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
    expected_pause_s: float = Field(
        0.05, ge=0, description="write pause of all flips together, until it is learnt, seconds"
    )
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

    @field_validator("windows")
    @classmethod
    def _are_windows(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        try:
            parse_windows(texts)
        except InvalidInput as refused:
            raise ValueError(refused.message.removeprefix("windows: ")) from None
        return texts

    @field_validator("strained_probability")
    @classmethod
    def _below_what_starts_it(cls, probability: float, info: ValidationInfo) -> float:
        if probability > info.data.get("strained_above", 1.0):
            raise ValueError(f"Input should be at most strained_above, {info.data['strained_above']}")
        return probability

    @field_validator("relief_probability", "strained_above", "strained_probability")
    @classmethod
    def _is_level(cls, probability: float) -> float:
        levels = [round(1 - level, 6) for level in PEAK_LEVELS if level >= 0.8]
        if probability not in levels:
            raise ValueError(f"Input should be one of {', '.join(map(str, levels))}")
        return probability
