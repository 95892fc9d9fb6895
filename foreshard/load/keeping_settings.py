"""How long samples and their means are kept."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class LoadKeeping(BaseModel):
    """How long load is kept. What is older goes by whole partitions: a day, a week, a month at a time."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    raw_days: int = Field(default=3, ge=1, le=366, description="samples as they were measured")
    five_minute_days: int = Field(default=31, ge=1, le=3660, description="means of five minutes")
    hour_days: int = Field(
        default=400, ge=1, le=36600, description="means of an hour: what forecasts learn from"
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.raw_days <= self.five_minute_days <= self.hour_days:
            raise ValueError("raw_days, five_minute_days and hour_days must not fall")
        return self
