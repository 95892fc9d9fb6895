"""What `collect` is told about the shards that it visits."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LiveSettings(BaseModel):
    """Live samples."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    whole_machine: tuple[str, ...] = Field(
        default=(),
        description="shards that have the machine which `collect` runs on for themselves: CPU, memory, disks and"
        " network are the machine's, not those of the server's processes",
    )
