"""The section `[metrics]` of the settings: where Prometheus finds Foreshard."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MetricsSettings(BaseModel):
    """Where `foreshard serve` serves metrics."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="where `foreshard serve` serves metrics for Prometheus; whoever reaches it may read them",
    )
    port: int = Field(default=4211, ge=0, le=65_535, description="0: they are not served")
