"""The section `[alerts]` of the settings: who is told, and from when on something is worth telling."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator


class AlertSettings(BaseModel):
    """Thresholds of the alerts, and the Prefect blocks that notify. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    blocks: tuple[str, ...] = Field(
        default=(),
        description='Prefect notification blocks, TYPE/NAME, e.g. ["slack-webhook/dba"]; none: nobody is notified',
    )
    automations: bool = Field(
        default=True,
        description="`foreshard serve` applies the automations; else `foreshard automations apply`",
    )
    approval_margin_s: float = Field(
        default=1800.0, ge=0, description="an approval is overdue so long before its plan's start-by deadline"
    )
    approval_waiting_s: float = Field(
        default=3600.0, gt=0, description="an approval that waits longer is told, deadline or not"
    )
    lag_s: float = Field(
        default=60.0, gt=0, description="a stream of a migration that is further behind is told"
    )
    wal_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="of migration.wal_budget_bytes; above it the WAL that is kept is told",
    )
    forecast_late_s: float = Field(
        default=7200.0, ge=10, description="a newest forecast older than this is late; they are made hourly"
    )
    stuck_s: float = Field(
        default=1800.0, gt=0, description="a driven migration without any sign of work for so long is stuck"
    )
    undriven_s: float = Field(
        default=180.0,
        gt=0,
        description="a migration that nobody has driven for so long is told; the janitor needs a minute",
    )

    @field_validator("blocks")
    @classmethod
    def _named(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        for block in blocks:
            kind, slash, name = block.partition("/")
            if not (kind and slash and name) or "/" in name:
                raise ValueError(f"'{block}' is not TYPE/NAME, e.g. slack-webhook/dba")
        if len(set(blocks)) < len(blocks):
            raise ValueError("names a block twice")
        return blocks
