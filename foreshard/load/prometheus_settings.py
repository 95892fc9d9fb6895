"""Where Prometheus servers are, and what each knows of which shard.

In ``foreshard.toml``:

    [[load.prometheus]]
    url = "https://prometheus.example.com"
    token_env = "PROMETHEUS_TOKEN"        # or token_secret_block; with username: the password of basic auth
    [load.prometheus.shards.shard-1]
    node = "db1:9100"                     # as the label `instance` has it; for others: { host = "db1", job = "node" }
    postgres = "db1:9187"
    queries = { net_bytes_per_s = 'sum(rate(bond_bytes_total{host="db1"}[$step]))' }
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from foreshard.errors import InvalidInput
from foreshard.load.metric import check_metric

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _metric(name: str) -> str:
    try:
        return check_metric(name)
    except InvalidInput as wrong:
        raise ValueError(str(wrong)) from None


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


class _Section(BaseModel):
    """Unknown names are refused, so that a typing error cannot pass unseen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Metric = Annotated[str, AfterValidator(_metric)]
Filled = Annotated[str, AfterValidator(_filled)]
Labels = Annotated[dict[str, Filled], Field(min_length=1)]


class PrometheusShard(_Section):
    """What tells one shard's targets from all others in Prometheus."""

    node: Filled | Labels | None = Field(
        default=None,
        description="its node_exporter: the value of the label instance, or all labels that tell",
    )
    postgres: Filled | Labels | None = Field(default=None, description="the same of its postgres_exporter")
    database: Filled | None = Field(
        default=None, description="the label datname; not said: the database of the shard's DSN"
    )
    queries: dict[Metric, Filled] = Field(
        default_factory=dict,
        description="PromQL that gives one series, in place of or beside ours; $step is the length of a step",
    )

    @field_validator("node", "postgres")
    @classmethod
    def _labels(cls, target: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for name in target if isinstance(target, dict) else ():
            if not _LABEL.fullmatch(name) or name.startswith("__"):
                raise ValueError(f"{name!r} is not a name of a label")
        return target

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.node is None and self.postgres is None and not self.queries:
            raise ValueError("names neither node nor postgres nor queries")
        return self


class PrometheusSettings(_Section):
    """One server that speaks Prometheus' HTTP API (Thanos, Mimir and VictoriaMetrics do as well)."""

    url: str = Field(description="without /api/v1, for example http://127.0.0.1:9090")
    username: Filled | None = Field(
        default=None, description="for basic auth; without it a bearer token is sent"
    )
    token_env: Filled | None = Field(
        default=None, description="the variable that holds the token or password"
    )
    token_secret_block: Filled | None = Field(default=None, description="the Prefect Secret block that does")
    ca_file: Path | None = Field(default=None, description="certificates (PEM) in place of the system's")
    timeout_s: float = Field(default=30.0, gt=0, le=600, description="the longest wait for one answer")
    shards: dict[Filled, PrometheusShard] = Field(min_length=1)

    @field_validator("url")
    @classmethod
    def _somewhere(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not an http or https URL, e.g. http://127.0.0.1:9090")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a user or password; see username and token_env")
        if parts.query or parts.fragment:
            raise ValueError("must end with its path")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token_env is not None and self.token_secret_block is not None:
            raise ValueError(
                "names two places of its token; one of token_env and token_secret_block is enough"
            )
        if self.username is not None and self.token_env is None and self.token_secret_block is None:
            raise ValueError("has a username and no token_env or token_secret_block for its password")
        return self
