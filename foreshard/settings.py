"""Settings: `foreshard.toml`, then `FORESHARD_*` variables on top (`__` between a section and its field).

    [migration]
    canary_percent = [1, 10, 50]          # or FORESHARD_MIGRATION__CANARY_PERCENT='[1, 10, 50]'

The file is the one named by `FORESHARD_CONFIG`, else `foreshard.toml`, else `.foreshard/foreshard.toml`
(which the demo writes) in the working directory. No secret belongs into it: it says where passwords stand.

    [[passwords]]                         # for logins that passfile, PGPASSWORD or a service file do not serve
    role = "foreshard"
    host = "db1.example.com"              # and port: as in the DSN; without them, any
    env = "SHARD1_PASSWORD"               # or secret_block = "shard-1"
"""

from __future__ import annotations

import os
import tomllib
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from foreshard.alerts.alert_settings import AlertSettings
from foreshard.clock import FleetClock
from foreshard.errors import ConfigurationError, InvalidInput
from foreshard.forecast.forecast_settings import ForecastSettings
from foreshard.load.load_settings import LoadSettings
from foreshard.metrics.metrics_settings import MetricsSettings
from foreshard.migration.approval_settings import ApprovalSettings
from foreshard.planning.policy import DecisionPolicy
from foreshard.postgres.passwords import PasswordSource, without_secret

CONFIG_VARIABLE = "FORESHARD_CONFIG"
CONFIG_FILE = "foreshard.toml"
STATE_DIR = ".foreshard"

Percent = Annotated[float, Field(gt=0, lt=100)]


Dsn = Annotated[str, AfterValidator(without_secret)]


class Section(BaseModel):
    """A table of the file: unknown names are refused, so that a typing error cannot pass unseen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ControlSettings(Section):
    """The control database."""

    dsn: Dsn = Field(description="libpq connection string or URI, without a password")


class ClockSettings(Section):
    """The fleet clock."""

    offset_seconds: float = Field(
        default=0.0, description="added to real time: demos and replays; 0 in production"
    )
    timezone: str = Field(
        default="UTC", description="IANA name of the zone whose days and weeks the load follows"
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"'{name}' is not a time zone; use an IANA name, e.g. America/New_York"
            ) from None
        return name

    def fleet_clock(self) -> FleetClock:
        """The clock that load, forecasts and plans take their "now" from."""
        return FleetClock(timedelta(seconds=self.offset_seconds))


class PrefectSettings(Section):
    """The Prefect server that shows and schedules the flows."""

    api_url: str | None = Field(
        default=None, pattern=r"^https?://.+/api$", description="for example http://127.0.0.1:4200/api"
    )


class PgBouncerSettings(Section):
    """One PgBouncer whose aliases follow the routing map."""

    admin: Dsn = Field(description="its admin console, as one of admin_users; without a password")
    file: Path = Field(
        description="what it includes: written at cutovers, by `foreshard pgbouncer render` else"
    )

    @field_validator("file")
    @classmethod
    def _absolute(cls, file: Path) -> Path:
        if not file.is_absolute():
            raise ValueError("is not an absolute path")
        return file


class MigrationSettings(Section):
    """How carefully a migration goes on, and what it waits for. Times in seconds."""

    canary_percent: tuple[Percent, ...] = Field(
        default=(1.0, 10.0, 50.0), description="rising shares of the writes before the cutover"
    )
    canary_sample_s: float = Field(
        default=5.0,
        ge=0,
        le=300,
        description="how long a step measures where the writes go; 0: shares of slots",
    )
    canary_min_writes: int = Field(
        default=100, ge=0, description="redirected writes that a canary step wants"
    )
    canary_soak_s: float = Field(default=300.0, ge=0, description="the longest it waits for them")
    shadow_percent: float = Field(default=5.0, ge=0, le=100)
    shadow_min_reads: int = Field(default=200, ge=0, description="compared reads that read_shadow wants")
    shadow_timeout_s: float = Field(default=300.0, ge=0, description="the longest it waits for them")
    soak_s: float = Field(
        default=600.0, ge=0, description="between the cutover and the drop of the source's copy"
    )
    backfill: Literal["auto", "pipe", "subscription"] = Field(
        default="auto",
        description="how rows are copied: through the runner, or by the servers themselves; auto chooses",
    )
    backfill_max_bytes_per_s: int | None = Field(default=None, gt=0)
    backfill_max_utilisation: float = Field(
        default=0.75,
        gt=0,
        le=1,
        description="a copy slows down while a resource of the source is used above this share of its capacity",
    )
    copy_workers: int = Field(
        default=3,
        ge=1,
        le=32,
        description="processes on each server that copy rows, or make indexes, at the same time",
    )
    index_memory_bytes: int = Field(
        default=256 * 2**20, ge=2**20, description="maintenance_work_mem of each index that is made"
    )
    verify_workers: int = Field(
        default=1,
        ge=1,
        le=32,
        description="sessions on each side that compare; with more than one, large tables are read in ranges of blocks"
        " through the application's buffers",
    )
    lock_timeout_ms: int = Field(default=50, ge=1, le=900, description="must stay far below deadlock_timeout")
    marker_timeout_s: float = Field(default=2.0, gt=0)
    standbys: dict[str, tuple[str, ...]] = Field(
        default={},
        description="by shard, the application_names of standbys that may be promoted; where a shard is not named,"
        " those that were ever seen",
    )
    standby_timeout_s: float = Field(
        default=2.0, gt=0, description="a flip that its standbys do not have by then is undone"
    )
    gate_ttl_s: float = Field(
        default=300.0,
        gt=0,
        description="a verdict whose evidence was complete longer ago than this opens no flip",
    )
    lease_s: float = Field(default=15.0, ge=1)
    router_ack_timeout_s: float = Field(
        default=60.0,
        ge=0,
        description="the longest that finalise waits for routers that have not heard of the cutover",
    )
    chain_timeout_s: float = Field(
        default=86_400.0,
        ge=0,
        description="the longest wait for a migration that brings a bucket to the source",
    )

    wal_budget_bytes: int = Field(
        default=16 * 2**30,
        gt=0,
        description="WAL that either server may keep for a migration: above half of it a warning, above three "
        "quarters no new load, above it the migration is aborted",
    )
    free_disk_bytes: int = Field(
        default=2 * 2**30, ge=0, description="a migration is aborted before either server has less disk left"
    )

    pgbouncers: tuple[PgBouncerSettings, ...] = Field(
        default=(),
        description="those in front of applications without a router: paused while a cutover flips",
    )
    pgbouncer_pause_s: float = Field(
        default=5.0, gt=0, le=60, description="the longest wait until their open transactions have ended"
    )

    @field_validator("pgbouncers")
    @classmethod
    def _whole_buckets(
        cls, pgbouncers: tuple[PgBouncerSettings, ...], info: ValidationInfo
    ) -> tuple[PgBouncerSettings, ...]:
        """Applications behind them do not ask who owns a key, and an alias leads to one shard."""
        if pgbouncers and info.data.get("canary_percent"):
            raise ValueError(
                "needs migration.canary_percent = []: a bucket behind PgBouncer moves in one flip"
            )
        return pgbouncers

    @field_validator("canary_percent")
    @classmethod
    def _rising(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(steps)):
            raise ValueError("must rise from step to step, e.g. [1, 10, 50]")
        return steps


class ChecksSettings(Section):
    """The data checks of migrations."""

    suites: Path | None = Field(
        default=None, description="a folder of your own Great Expectations suites, run on both sides"
    )
    suite_timeout_s: float = Field(
        default=200.0, gt=0, description="the longest that they may take on each side; below gate_ttl_s"
    )
    docs_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="where `foreshard serve` serves Data Docs; they name keys of rows, and ask nobody who reads them",
    )
    docs_port: int = Field(default=4210, ge=0, le=65_535, description="0: they are not served")
    verify_every_s: float = Field(
        default=900.0,
        ge=0,
        description="how often `verify` compares migrations between cutover and finalise; 0: only when asked",
    )


class Settings(BaseSettings):
    """All settings; read them by `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix="FORESHARD_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    control: ControlSettings
    passfile: Path | None = Field(
        default=None, description="a pgpass file, mode 0600, for DSNs that name none"
    )
    passwords: tuple[PasswordSource, ...] = Field(
        default=(), description="where passwords stand that are in no pgpass file; the first that fits counts"
    )
    clock: ClockSettings = ClockSettings()
    prefect: PrefectSettings = PrefectSettings()
    load: LoadSettings = LoadSettings()
    forecast: ForecastSettings = ForecastSettings()
    decision: DecisionPolicy = DecisionPolicy()
    migration: MigrationSettings = MigrationSettings()
    approval: ApprovalSettings = ApprovalSettings()
    checks: ChecksSettings = ChecksSettings()
    metrics: MetricsSettings = MetricsSettings()
    alerts: AlertSettings = AlertSettings()
    state_dir: Path = Path(STATE_DIR)

    @field_validator("checks")
    @classmethod
    def _evidence_in_time(cls, checks: ChecksSettings, info: ValidationInfo) -> ChecksSettings:
        migration = info.data.get("migration")
        if checks.suites and migration and checks.suite_timeout_s >= migration.gate_ttl_s:
            raise ValueError(
                f"suite_timeout_s must be below migration.gate_ttl_s ({migration.gate_ttl_s:g}), the age at which"
                " evidence is of no use"
            )
        return checks

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables before the file, whose content arrives as init arguments."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load_settings(path: Path | None = None) -> Settings:
    """The settings from ``path`` (else from the file found as this module's text says) and the environment.

    Raises ConfigurationError that names the field and the remedy.
    """
    file = path or file_of_settings()
    values = _read(file) if file is not None else {}
    _refuse_unknown_variables()
    try:
        return Settings(**values)
    except ValidationError as invalid:
        _explain(invalid, file)
    except SettingsError as broken:
        raise ConfigurationError(
            _variable_of(broken),
            "is not valid JSON",
            remedy="Write lists and tables as JSON, e.g. '[1, 10, 50]'.",
        ) from None
    except InvalidInput as refused:
        variable = f"FORESHARD_DECISION__{refused.field.upper()}"
        raise ConfigurationError(
            f"decision.{refused.field}",
            refused.message.removeprefix(f"{refused.field}: "),
            remedy=f"Correct it in {file or CONFIG_FILE} or in {variable}.",
        ) from None


def file_of_settings() -> Path | None:
    """The file that is read, by the rule of this module's text; None: there is none."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    for candidate in (Path(CONFIG_FILE), Path(STATE_DIR, CONFIG_FILE)):
        if candidate.is_file():
            return candidate
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as unreadable:
        reason = unreadable.strerror or str(unreadable)
        raise ConfigurationError(
            str(file), f"cannot be read ({reason})", remedy=f"Set {CONFIG_VARIABLE}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as broken:
        raise ConfigurationError(
            str(file), f"is not valid TOML ({broken})", remedy="Mend that line."
        ) from None


def _refuse_unknown_variables() -> None:
    """pydantic-settings ignores a variable of an unknown section; a typing error must not pass unseen."""
    known = {name.upper() for name in Settings.model_fields}
    for name in os.environ:
        section, nested, _ = name.removeprefix("FORESHARD_").partition("__")
        if name.startswith("FORESHARD_") and nested and section not in known:
            raise ConfigurationError(
                name, "names no section", remedy=f"Sections: {', '.join(sorted(known))}."
            )


def _variable_of(broken: SettingsError) -> str:
    field = str(broken).split('"')[1] if '"' in str(broken) else "a list or table"
    return f"FORESHARD_{field.upper()}"


def _explain(invalid: ValidationError, file: Path | None) -> NoReturn:
    """All problems as one error; the values are left out, since one may be a secret in the wrong place."""
    problems = invalid.errors(include_url=False, include_input=False)
    field = ".".join(str(part) for part in problems[0]["loc"]) or "settings"
    message = problems[0]["msg"].removeprefix("Value error, ")
    variable = f"FORESHARD_{'__'.join(str(part).upper() for part in problems[0]['loc'][:2])}"
    if problems[0]["type"] == "extra_forbidden":
        message, remedy = "is not a setting", "Remove it or correct its name."
    elif problems[0]["type"] == "missing":
        message, remedy = "is missing", f"Set it in {file or CONFIG_FILE} or by {variable}."
    else:
        remedy = f"Correct it in {file or CONFIG_FILE} or in {variable}."
    if len(problems) > 1:
        others = ", ".join(".".join(str(part) for part in problem["loc"]) for problem in problems[1:])
        remedy += f" Also wrong: {others}."
    raise ConfigurationError(field, message, remedy=remedy)
