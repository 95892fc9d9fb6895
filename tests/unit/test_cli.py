"""The command line: what it says when something is wrong, and what it prints without a fleet."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from foreshard.cli import app

NOWHERE = "host=127.0.0.1 port=1 dbname=foreshard user=foreshard"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)
    monkeypatch.delenv("FORESHARD_CONTROL__DSN", raising=False)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--help",),
        ("demo", "--help"),
        ("down", "-h"),
        ("status", "--help"),
        ("plan", "list", "--help"),
        *(("plan", name, "--help") for name in ("explain", "diff", "apply", "reject")),
        *(("policy", name, "--help") for name in ("show", "set", "unset", "history")),
        ("migration", "show", "--help"),
        ("doctor", "--help"),
        ("grants", "--help"),
        ("approve", "--help"),
        ("reject", "--help"),
        *((name, "--help") for name in ("pause", "resume", "abort", "reverse", "watch")),
        ("finalise", "--help"),
        ("janitor", "--help"),
        ("serve", "--help"),
        ("routers", "--help"),
        ("adopt", "--help"),
        ("pgbouncer", "render", "--help"),
        ("shard",),
        ("load",),
        ("load", "show", "--help"),
        ("forecast", "--help"),
        *(("load", "import", kind, "--help") for kind in ("csv", "parquet", "prometheus")),
        *(("shard", name, "--help") for name in ("list", "add", "drain", "undrain", "remove", "capacity")),
    ],
)
def test_every_command_explains_itself(arguments: tuple[str, ...]) -> None:
    said = call(*arguments)
    assert "Usage" in said.output
    assert said.exit_code in (0, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("plan", "list"),
        ("plan", "explain", "1"),
        ("migration", "show", "1"),
        ("doctor",),
        ("serve",),
        *((name, "1", "--as", "Ada") for name in ("pause", "resume", "abort", "reverse")),
        ("watch",),
        ("finalise", "1", "--without-source", "--as", "Ada"),
        ("janitor", "--dry-run"),
        ("routers",),
        ("pgbouncer", "render"),
        ("load", "show"),
        ("forecast",),
        ("load", "import", "prometheus", "--since", "7d"),
        ("shard", "list"),
        ("shard", "add", "s", "--dsn", "host=a", "--application-dsn", "host=a"),
        ("shard", "drain", "s"),
        ("shard", "remove", "s", "--dry-run"),
        ("shard", "capacity", "s", "--propose"),
    ],
)
def test_missing_settings_are_one_line_and_exit_2(arguments: tuple[str, ...]) -> None:
    said = call(*arguments)
    assert said.exit_code == 2
    assert said.stderr.startswith("control: is missing")
    assert len(said.stderr.splitlines()) == 1
    assert "Traceback" not in said.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("plan", "list", "--json"),
        ("approve", "1", "--as", "Ada"),
        ("pause", "1", "--as", "Ada"),
        ("watch",),
    ],
)
def test_a_control_database_that_is_away_is_one_line_and_exit_1(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", NOWHERE)
    monkeypatch.setenv("FORESHARD_PREFECT__API_URL", "http://127.0.0.1:1/api")
    said = call(*arguments)
    assert said.exit_code == 1
    assert "does not answer" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_the_doctor_finds_what_is_away_and_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHARD_CONTROL__DSN", NOWHERE)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    said = call("doctor", "--json")
    assert said.exit_code == 1
    assert "control database does not answer" in said.stdout
    assert "prefect.api_url is not set" in said.stdout


@pytest.mark.parametrize(
    "arguments", [("migration", "show", "0"), ("plan", "explain", "x"), ("approve", "1")]
)
def test_bad_arguments_exit_2(arguments: tuple[str, ...]) -> None:
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize("name", ["", "   "])
def test_an_approval_needs_a_name(name: str) -> None:
    said = call("approve", "1", "--as", name)
    assert said.exit_code == 2
    assert "--as" in said.stderr


@pytest.mark.parametrize("said", [(), ("--without-source", "--without-way-back")])
def test_finalise_wants_exactly_one_reason(said: tuple[str, ...]) -> None:
    refused = call("finalise", "1", "--as", "Ada", *said)
    assert refused.exit_code == 2
    assert "exactly one" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("shard", "capacity", "s", "queries=1"), "capacity"),
        (("shard", "capacity", "s", "queries_per_s=many"), "capacity"),
        (("shard", "capacity", "s", "queries_per_s=-1"), "capacity"),
        (("shard", "capacity", "s", "queries_per_s"), "capacity"),
        (("shard", "capacity", "s", "cpu_cores=1", "--propose"), "--propose"),
        (("shard", "add", "a/b", "--dsn", "host=a", "--application-dsn", "host=a"), "NAME"),
        (("shard", "add", "a", "--dsn", "password=secret", "--application-dsn", "host=a"), "--dsn"),
        (("shard", "add", "a", "--dsn", "host=a", "--application-dsn", "x"), "--application-dsn"),
        (("adopt", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_what_is_wrong_about_a_shard_is_named(arguments: tuple[str, ...], field: str) -> None:
    refused = call(*arguments)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(field)
    assert len(refused.stderr.splitlines()) == 1
    assert "secret" not in refused.output


def test_grants_are_plain_sql() -> None:
    said = call("grants", "--sql", "--owner", 'odd "name"')
    assert said.exit_code == 0
    assert '"odd ""name"""' in said.stdout
    assert "PASSWORD '" not in said.stdout


def test_down_without_a_demo_is_fine(tmp_path: Path) -> None:
    assert call("down", "--state-dir", str(tmp_path / "none")).exit_code == 0
