"""A fleet's description: whatever is wrong with it is one error that names the field, and nothing was touched."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import foreshard.cli_fleet
from foreshard.adoption.description import FleetDescription, parse_description, read_description
from foreshard.cli import app
from foreshard.errors import InvalidInput
from foreshard.topology.bucketing import BucketingKind
from foreshard.topology.keys import KeyType
from tests.unit.adoption.fleets import FILE

Document = dict[str, Any]

GOOD: Document = {
    "key_type": "int8",
    "bucketing": {"kind": "hash"},
    "buckets": {"pattern": "tenant_%"},
    "tables": {"orders": "customer_id", "Items of ours": "customer_id"},
    "shards": {
        "shard-1": {"dsn": "host=a dbname=app", "application_dsn": "host=a dbname=app user=app"},
        "shard-2": {
            "dsn": "postgresql://foreshard@b/app",
            "application_dsn": "service=app",
            "capacity": {"queries_per_s": 100, "disk_bytes": 1e12},
        },
    },
}


def toml(document: Document) -> str:
    """As TOML, with inline tables; strings of JSON are strings of TOML but for DEL."""

    def value(of: Any) -> str:
        if isinstance(of, dict):
            return "{" + ", ".join(f"{value(str(name))} = {value(one)}" for name, one in of.items()) + "}"
        if isinstance(of, list):
            return "[" + ", ".join(map(value, of)) + "]"
        if isinstance(of, float) and of != of:
            return "nan"
        return json.dumps(of, ensure_ascii=False).replace("Infinity", "inf").replace("\x7f", "\\u007f")

    return "\n".join(f"{value(name)} = {value(one)}" for name, one in document.items())


def test_the_example_is_good() -> None:
    description = parse_description(toml(GOOD))
    assert description.key_type is KeyType.INT8
    assert description.bucketing.bucketing().kind is BucketingKind.HASH
    assert description.shards["shard-2"].capacity == {"queries_per_s": 100.0, "disk_bytes": 1e12}
    assert parse_description(FILE).bucketing.kind is BucketingKind.HASH
    assert parse_description(FILE).shadow_role is None
    assert parse_description(f'shadow_role = "app shadow"\n{FILE}').shadow_role == "app shadow"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
NO_TEXT = st.sampled_from([{}, {"a": 1}, [], [1], ["a"], True, -1, 0.5, float("nan")]) | st.integers()
NO_TABLE = st.sampled_from(["", "a", [], [{}], True, -1, 0.5, float("inf")]) | NAMES
LONG = st.integers(64, 300).map(lambda size: "x" * size)
NOT_A_NAME = st.sampled_from(["", "a\0b", "ü" * 32]) | LONG | NO_TEXT
PASSWORDS = st.from_regex("secret[a-z]{1,8}", fullmatch=True).map(lambda word: f"host=a password={word}")
NOT_A_DSN = st.sampled_from(
    ["no dsn at all", "host", "=", "postgresql://u:secret@h/d", "colour=red", "host='"]
)
BAD_DSN = PASSWORDS | NOT_A_DSN | st.sampled_from(["", "  "]) | NO_TEXT
NO_NUMBER = st.sampled_from(["many", "", [], [1], {}, float("nan"), float("inf"), 0, -1, 10**400])
BAD_CAPACITY = st.floats(max_value=0) | st.integers(max_value=0) | NO_NUMBER
OTHER_NAMES = NAMES.filter(lambda name: name not in _KNOWN)
NOT_SHARDS = ["", "a b", "a/b", "ü", "-x", "x" * 64, "a\0", "sh'ard", "a\n"]
RESERVED = ["pg_catalog", "pg_x", "information_schema", "foreshard", "foreshard_0a1b_7"]

MISTAKES: list[tuple[tuple[str, ...], st.SearchStrategy[Any], str]] = [
    # where, what is wrong there (None: it is missing), what the error's field begins with
    (
        ("key_type",),
        NAMES.filter(lambda name: name not in set(KeyType)) | NO_TEXT | st.just("int16"),
        "key_type",
    ),
    (
        ("bucketing", "kind"),
        NAMES.filter(lambda name: name not in set(BucketingKind)) | NO_TEXT,
        "bucketing.kind",
    ),
    (("shadow_role",), NOT_A_NAME, "shadow_role"),
    (("bucketing", "kind"), st.sampled_from(["directory", "callable"]), "bucketing."),
    (("bucketing", "function"), NAMES, "bucketing.function"),
    (("bucketing", "dsn"), PASSWORDS | NOT_A_DSN | NO_TEXT, "bucketing.dsn"),
    (("bucketing", "key_column"), NOT_A_NAME, "bucketing.key_column"),
    (("bucketing",), NO_TABLE, "bucketing"),
    (
        ("bucketing",),
        NAMES.map(lambda name: {"kind": "callable", "function": f"{name}:"}),
        "bucketing.function",
    ),
    (("buckets",), NO_TABLE | st.just({}), "buckets"),
    (("buckets", "names"), st.just(["b0"]), "buckets"),
    (("buckets", "pattern"), NO_TEXT | st.sampled_from(["", "a\\", "a\0"]), "buckets.pattern"),
    (("buckets",), st.just({"names": []}), "buckets.names"),
    (("buckets",), NAMES.map(lambda name: {"names": [name, "b", name]}), "buckets.names"),
    (
        ("buckets",),
        (st.sampled_from(RESERVED) | LONG).map(lambda name: {"names": ["b", name]}),
        "buckets.names",
    ),
    (("tables",), NO_TABLE | st.just({}), "tables"),
    (("tables", "orders"), NOT_A_NAME, "tables.orders"),
    (("tables",), LONG.map(lambda name: {name: "customer_id"}), "tables.xxx"),
    (("shards",), NO_TABLE | st.just({}), "shards"),
    (("shards", "shard-1"), NO_TABLE, "shards.shard-1"),
    (("shards", "shard-1", "dsn"), BAD_DSN, "shards.shard-1.dsn"),
    (("shards", "shard-2", "application_dsn"), BAD_DSN, "shards.shard-2.application_dsn"),
    (("shards", "shard-2", "dsn"), st.just("host=a dbname=app user=other"), "shards"),
    (("shards", "shard-1", "capacity"), NO_TABLE, "shards.shard-1.capacity"),
    (("shards", "shard-1", "capacity", "queries_per_s"), BAD_CAPACITY, "shards.shard-1.capacity"),
    (("shards", "shard-1", "capacity", "queries"), st.just(1), "shards.shard-1.capacity"),
    *((("shards", name), st.just(GOOD["shards"]["shard-2"]), "shards.") for name in NOT_SHARDS),
    *(
        ((*where, "?"), OTHER_NAMES, ".".join(where))
        for where in ((), ("bucketing",), ("buckets",), ("shards", "shard-1"))
    ),
    *(
        (path, st.none(), ".".join(path))
        for path in (("key_type",), ("buckets",), ("tables",), ("shards",), ("shards", "shard-1", "dsn"))
    ),
]
_KNOWN = {*FleetDescription.model_fields, "kind", "dsn", "table", "key_column", "bucket_column", "function"}
_KNOWN |= {"pattern", "names", "application_dsn", "capacity"}


@st.composite
def mistakes(draw: st.DrawFn) -> tuple[Document, str]:
    """A document with one thing wrong, and what the error's field begins with."""
    path, values, field = draw(st.sampled_from(MISTAKES))
    value = draw(values)
    document = deepcopy(GOOD)
    at = document
    for part in path[:-1]:
        at = at.setdefault(part, {})
    if path[-1] == "?":  # the value is a name that nobody knows
        at[value] = 1
    elif value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return document, field


@settings(max_examples=1000)
@given(mistakes())
def test_any_mistake_is_one_error_that_names_its_field(mistake: tuple[Document, str]) -> None:
    document, field = mistake
    with pytest.raises(InvalidInput) as refused:
        parse_description(toml(document))
    error = refused.value
    assert error.field.startswith(field), (error.field, field)
    assert error.remedy
    assert "secret" not in str(error)


@settings(max_examples=1000)
@given(st.text(max_size=40), st.integers(0, len(FILE)), st.integers(0, 60))
@example("x = " + "[" * 5000, 0, 0)
@example("x = " + "1" * 5000, 0, 0)
@example("x = 1979-13-41", 0, 0)
def test_any_text_is_a_description_or_one_error(text: str, at: int, over: int) -> None:
    try:
        parse_description(FILE[:at] + text + FILE[at + over :])
    except InvalidInput as error:
        refused = error
    else:
        return
    assert refused.field
    assert refused.remedy


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mistake=mistakes())
def test_the_command_says_it_in_one_line_and_touches_nothing(
    mistake: tuple[Document, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*_: object) -> None:
        raise AssertionError("a shard was looked at")

    monkeypatch.setattr(foreshard.cli_fleet, "inspect", looked)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "fleet.toml"
    file.write_text(toml(mistake[0]), encoding="utf-8")
    said = CliRunner().invoke(app, ["adopt", str(file), "--write"])
    assert said.exit_code == 2, said.output
    assert said.stdout == ""
    assert len(said.stderr.splitlines()) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["fleet.toml"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for file in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(InvalidInput, match="cannot be read") as refused:
            read_description(file)
        assert refused.value.field == str(file)
    (tmp_path / "latin.toml").write_bytes(b'key_type = "\xff"')
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_description(tmp_path / "latin.toml")


def test_a_name_that_nobody_knows_comes_before_the_one_that_is_missing() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_description(FILE.replace("[buckets]", "[bukets]"))
    assert refused.value.field == "bukets"
    assert "known here: key_type, shadow_role, bucketing, buckets, tables, shards" in str(refused.value)
    assert "Also wrong: buckets" in str(refused.value)
