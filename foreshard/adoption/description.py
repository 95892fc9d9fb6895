"""A fleet as its owner describes it: a TOML file, read and checked before anything is looked at.

    key_type = "int8"                  # int2, int4, int8, text, uuid, bytea; ["int8", "text"] where two columns decide
    shadow_role = "app_shadow"         # reads copies that do not serve yet; without it there are no shadow reads
    [bucketing]
    kind = "hash"                      # "directory" needs dsn, table, key_column, bucket_column; "callable" function
    [buckets]
    pattern = "tenant_%"               # SQL LIKE on names of schemas; or names = ["b0000", "b0001"]
    [tables]                           # distribution column by table; of a partitioned table its root only
    orders = "customer_id"             # of a key of two columns both: ["customer_id", "region"]
    [shards.shard-1]
    dsn = "host=… dbname=… user=foreshard passfile=…"
    application_dsn = "host=… dbname=… user=app passfile=…"
    capacity = { queries_per_s = 1000 }

For kind ``hash`` the order of ``names`` is the number of a bucket; with a ``pattern`` the names count as sorted.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self

from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, PlainValidator, ValidationError, field_validator, model_validator

from foreshard.errors import InvalidInput
from foreshard.settings import Dsn, Section
from foreshard.topology.bucketing import Bucketing, BucketingKind
from foreshard.topology.keys import KeyType, KeyTypes, parts_of

METRICS = (
    "cpu_cores",
    "disk_bytes",
    "io_bytes_per_s",
    "io_ops_per_s",
    "memory_bytes",
    "queries_per_s",
    "rows_read_per_s",
    "rows_written_per_s",
)
"""What a shard can have a capacity of. ``disk_bytes`` is looked at by migrations, the others by forecasts."""

_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_NOT_BUCKETS = re.compile(r"(pg_|foreshard_).*|information_schema|foreshard", re.DOTALL)


def checked_identifier(name: str) -> str:
    """The name, if PostgreSQL takes it whole. Raises ``ValueError`` that says why not."""
    if not name:
        raise ValueError("a name is empty")
    if "\0" in name or len(name.encode()) > 63:
        raise ValueError("a name of PostgreSQL has at most 63 bytes, none of them zero")
    return name


def _bucket(name: str) -> str:
    if _NOT_BUCKETS.fullmatch(checked_identifier(name)):
        raise ValueError(f"{name} is a schema of PostgreSQL or of Foreshard, not a bucket")
    return name


def _several(given: object, what: str) -> list[str]:
    """A string, or a list of 2 to 8 of them."""
    parts = given if isinstance(given, list | tuple) else [given]
    words = [part for part in parts if isinstance(part, str)]
    if len(words) != len(parts):
        raise ValueError(f"needs {what}, or a list of them")
    if isinstance(given, list | tuple) and not 2 <= len(words) <= 8:
        raise ValueError("a list has 2 to 8 of them; a single one is written without brackets")
    return words


def _key_types(given: object) -> KeyTypes:
    words = _several(given, "the type of a key")
    if not set(words) <= set(KeyType):
        raise ValueError(f"the types of keys are {', '.join(KeyType)}")
    first, *others = (KeyType(word) for word in words)
    return (first, *others) if others else first


def _columns(given: object) -> tuple[str, ...]:
    """The columns of a table's key, the distribution column first."""
    return tuple(checked_identifier(word) for word in _several(given, "the name of a column"))


def checked_shard(name: str) -> str:
    """The name, if it can be a shard's. Raises ``ValueError`` that says why not."""
    if not _SHARD_NAME.fullmatch(name):
        raise ValueError("a shard's name is made of letters, digits, '.', '_' and '-', at most 63")
    return name


def capacity_of(metric: str, value: float) -> float:
    """The value, if it can be a capacity. Raises ``ValueError`` that says why not."""
    if metric not in METRICS:
        raise ValueError(f"{metric} is not a metric; there are {', '.join(METRICS)}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"a capacity is a number above 0, not {value}")
    return value


Identifier = Annotated[str, AfterValidator(checked_identifier)]
BucketName = Annotated[str, AfterValidator(_bucket)]
ShardName = Annotated[str, AfterValidator(checked_shard)]


class BucketingSection(Section):
    """How the bucket of a key is found; see `Bucketing`."""

    kind: BucketingKind = BucketingKind.HASH
    dsn: Dsn | None = None
    table: str | None = None
    key_column: Identifier | None = None
    bucket_column: Identifier | None = None
    function: str | None = None

    def bucketing(self) -> Bucketing:
        """As the library takes it. Raises InvalidInput that names a field of this section."""
        return Bucketing(**self.model_dump())


class BucketsSection(Section):
    """Which schemas are buckets: one of the two."""

    pattern: str | None = Field(default=None, min_length=1, max_length=256)
    names: tuple[BucketName, ...] | None = Field(default=None, min_length=1)

    @field_validator("pattern")
    @classmethod
    def _whole(cls, pattern: str | None) -> str | None:
        if pattern is not None and "\0" in pattern:
            raise ValueError("holds a zero byte")
        if pattern is not None and (len(pattern) - len(pattern.rstrip("\\"))) % 2:
            raise ValueError("ends with a backslash that escapes nothing")
        return pattern

    @field_validator("names")
    @classmethod
    def _different(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = sorted({name for name in names or () if (names or ()).count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]} stands there twice")
        return names

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.pattern is None) == (self.names is None):
            raise ValueError("needs either pattern or names, and not both")
        return self


class ShardSection(Section):
    """One PostgreSQL primary."""

    dsn: Dsn
    application_dsn: Dsn
    capacity: dict[str, float] = Field(default_factory=dict)

    @field_validator("dsn", "application_dsn")
    @classmethod
    def _somewhere(cls, dsn: str) -> str:
        if not dsn.strip():
            raise ValueError("is empty")
        return dsn

    @field_validator("capacity")
    @classmethod
    def _capacities(cls, capacity: dict[str, float]) -> dict[str, float]:
        return {metric: capacity_of(metric, value) for metric, value in capacity.items()}


class FleetDescription(Section):
    """The whole file; read it by `read_description`."""

    key_type: Annotated[KeyTypes, PlainValidator(_key_types)]
    shadow_role: Identifier | None = None
    bucketing: BucketingSection = BucketingSection()
    buckets: BucketsSection
    tables: dict[Identifier, Annotated[tuple[str, ...], PlainValidator(_columns)]] = Field(min_length=1)
    shards: dict[ShardName, ShardSection] = Field(min_length=1)

    @property
    def distribution_columns(self) -> dict[str, str]:
        """By table: its distribution column, the first of the key's."""
        return {table: columns[0] for table, columns in self.tables.items()}

    @field_validator("shards")
    @classmethod
    def _apart(cls, shards: dict[str, ShardSection]) -> dict[str, ShardSection]:
        seen: dict[tuple[object, ...], str] = {}
        for name, shard in shards.items():
            parts = conninfo_to_dict(shard.dsn)
            place = tuple(parts.get(part) for part in ("host", "hostaddr", "port", "service", "dbname"))
            if place in seen:
                raise ValueError(f"{name} is the same database as {seen[place]}")
            seen[place] = name
        return shards

    @model_validator(mode="after")
    def _whole_keys(self) -> Self:
        parts = len(parts_of(self.key_type))
        for table, columns in self.tables.items():
            if len(columns) != parts or len(set(columns)) != parts:
                raise ValueError(
                    f"key_type has {parts} parts: tables.{table} needs as many different columns"
                )
        if parts > 1 and self.bucketing.kind is BucketingKind.DIRECTORY:
            raise ValueError(
                "a directory has one key column: describe keys of several parts as hash or callable"
            )
        return self


def read_description(file: Path) -> FleetDescription:
    """The description in ``file``.

    Raises:
        InvalidInput: one error, which names the field (or the file) and the remedy, whatever is wrong.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        reason = getattr(unreadable, "strerror", None) or "it is not UTF-8"
        raise InvalidInput(
            str(file), f"cannot be read ({reason}).", remedy="Name a description of your fleet (TOML)."
        ) from None
    return parse_description(text, str(file))


def parse_description(text: str, file: str = "fleet.toml") -> FleetDescription:
    """The description that ``text`` holds; ``file`` is for messages.

    Raises:
        InvalidInput: as `read_description`.
    """
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as broken:  # a number of 5,000 digits is a plain ValueError
        raise InvalidInput(file, f"is not valid TOML ({broken}).", remedy="Mend that line.") from None
    try:
        description = FleetDescription(**values)
        description.bucketing.bucketing()
    except ValidationError as invalid:
        _explain(invalid, file)
    except InvalidInput as refused:
        raise InvalidInput(
            refused.field, refused.message.removeprefix(f"{refused.field}: "), remedy=f"Correct it in {file}."
        ) from None
    return description


def _explain(invalid: ValidationError, file: str) -> NoReturn:
    """All problems as one error; values are left out, since one may be a secret in the wrong place."""
    problems = invalid.errors(include_url=False, include_input=False, include_context=False)
    # A name that nobody knows is why another one is missing.
    first = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    message = f"{first['msg'].removeprefix('Value error, ')}."
    remedy = f"Correct it in {file}."
    if first["type"] == "extra_forbidden":
        section: Any = FleetDescription
        for part in first["loc"][:-1]:
            section = _SECTIONS.get(str(part), section)
        message = "means nothing in a fleet's description."
        remedy = f"Remove it or correct its name; known here: {', '.join(section.model_fields)}."
    elif first["type"] == "missing":
        message, remedy = "is missing.", f"Add it to {file}."
    others = dict.fromkeys(_field(one["loc"]) for one in problems if one is not first)
    if others:
        remedy += f" Also wrong: {', '.join(others)}."
    raise InvalidInput(_field(first["loc"]), message, remedy=remedy)


_SECTIONS = {
    "bucketing": BucketingSection,
    "buckets": BucketsSection,
    "shards": ShardSection,
}


def _field(location: tuple[int | str, ...]) -> str:
    """The place as one writes it in TOML. pydantic says ``[key]`` where a name itself is wrong."""
    parts = [str(part) for part in location if part != "[key]"]
    return ".".join(part if _BARE_KEY.fullmatch(part) else json.dumps(part) for part in parts) or "fleet"
