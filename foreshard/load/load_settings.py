"""The section `[load]` of the settings: what is collected, from where, and how long it is kept."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from foreshard.load.keeping_settings import LoadKeeping
from foreshard.load.live_settings import LiveSettings
from foreshard.load.prometheus_settings import PrometheusSettings


class LoadSettings(LoadKeeping, LiveSettings):
    """Where load comes from, and how long it is kept."""

    prometheus: tuple[PrometheusSettings, ...] = Field(
        default=(), description="servers that know what no shard tells: processors, memory, disks, network"
    )

    @property
    def tokens(self) -> tuple[str, ...]:
        """The variables that hold tokens."""
        return tuple(one.token_env for one in self.prometheus if one.token_env is not None)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        """A shard in two places would have two series in one."""
        named = [
            *self.whole_machine,
            *(shard for one in self.prometheus if one.shards for shard in one.shards),
        ]
        for shard in named:
            if named.count(shard) > 1:
                raise ValueError(f"has {shard} twice among the shards of prometheus and whole_machine")
        return self
