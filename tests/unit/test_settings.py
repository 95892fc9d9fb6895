"""Settings come from the file and the environment, and every mistake names its field."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshard.errors import ConfigurationError
from foreshard.settings import load_settings

DSN = "host=127.0.0.1 port=5432 dbname=foreshard user=foreshard passfile=/tmp/pgpass"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORESHARD_CONFIG", raising=False)


def write(text: str) -> Path:
    file = Path("foreshard.toml")
    file.write_text(text, encoding="utf-8")
    return file


def test_the_smallest_file_is_enough() -> None:
    write(f'[control]\ndsn = "{DSN}"\n')
    settings = load_settings()
    assert settings.control.dsn == DSN
    assert settings.migration.canary_percent == (1.0, 10.0, 50.0)
    assert settings.clock.fleet_clock().offset.total_seconds() == 0


def test_the_file_of_the_running_demo_is_found(tmp_path: Path) -> None:
    (tmp_path / ".foreshard").mkdir()
    (tmp_path / ".foreshard" / "foreshard.toml").write_text(f'[control]\ndsn = "{DSN}"\n', encoding="utf-8")
    assert load_settings().control.dsn == DSN


def test_a_variable_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write(f'[control]\ndsn = "{DSN}"\n[migration]\nsoak_s = 5\nlease_s = 20\n')
    monkeypatch.setenv("FORESHARD_MIGRATION__SOAK_S", "7")
    monkeypatch.setenv("FORESHARD_MIGRATION__CANARY_PERCENT", "[2, 20]")
    settings = load_settings()
    assert settings.migration.soak_s == 7
    assert settings.migration.lease_s == 20
    assert settings.migration.canary_percent == (2.0, 20.0)


@pytest.mark.parametrize(
    ("text", "field", "part"),
    [
        (
            f'[control]\ndsn = "{DSN}"\n[checks]\nsuites = "a"\nsuite_timeout_s = 300\n',
            "checks",
            "suite_timeout_s must be below migration.gate_ttl_s (300)",
        ),
        ("", "control", "is missing"),
        ("[control]\n", "control.dsn", "is missing"),
        ('[control]\ndsn = "host=a password=hunter2"', "control.dsn", "must not hold a password"),
        ('[control]\ndsn = "postgresql://u:hunter2@a/b"', "control.dsn", "must not hold a password"),
        ('[control]\ndsn = "no dsn at all"', "control.dsn", "not a PostgreSQL connection string"),
        (
            f'[control]\ndsn = "{DSN}"\n[migration]\nlock_timeout_ms = 5000',
            "migration.lock_timeout_ms",
            "900",
        ),
        *(
            (f'[control]\ndsn = "{DSN}"\n[forecast]\n{text}', f"forecast.{field}", part)
            for text, field, part in [
                ("horizon_hours = 0.25", "horizon_hours", "not a whole number of steps of 60 minutes"),
                ("step_minutes = 5\nhorizon_hours = 48", "horizon_hours", "more than a day"),
                ("step_minutes = 10", "step_minutes", "5, 15 or 60"),
                ("models = []", "models", "names no model"),
                ('models = ["ets", "ets"]', "models", "twice"),
                ('models = ["profet"]', "models.0", "prophet"),
                ('dask_address = "tcp://a:1"', "dask_address", 'task_runner = "dask"'),
                ('task_runner = "ray"', "task_runner", "dask"),
            ]
        ),
        (
            f'[control]\ndsn = "{DSN}"\n[migration]\nlock_timeot_ms = 50',
            "migration.lock_timeot_ms",
            "not a setting",
        ),
        (
            f'[control]\ndsn = "{DSN}"\n[migration]\ncanary_percent = [50, 10]',
            "migration.canary_percent",
            "rise",
        ),
        (
            f'[control]\ndsn = "{DSN}"\n[migration]\ncanary_percent = [0]',
            "migration.canary_percent.0",
            "greater than 0",
        ),
        (
            f'[control]\ndsn = "{DSN}"\n[approval]\nbefore = "perhaps"',
            "approval.before",
            "cutover_only",
        ),
        (
            f'[control]\ndsn = "{DSN}"\n[[migration.pgbouncers]]\nadmin = "host=a"\nfile = "/f"',
            "migration.pgbouncers",
            "needs migration.canary_percent = []",
        ),
        (
            f'[control]\ndsn = "{DSN}"\n[[migration.pgbouncers]]\nadmin = "host=a password=hunter2"\nfile = "/f"',
            "migration.pgbouncers.0.admin",
            "must not hold a password",
        ),
        (
            f'[control]\ndsn = "{DSN}"\n[[migration.pgbouncers]]\nadmin = "host=a"\nfile = "f.ini"',
            "migration.pgbouncers.0.file",
            "not an absolute path",
        ),
        (f'[control]\ndsn = "{DSN}"\n[clock]\ntimezone = "Mars/Olympus"', "clock.timezone", "IANA"),
        (f'[control]\ndsn = "{DSN}"\n[clocks]\ntimezone = "UTC"', "clocks", "not a setting"),
        (f'[control]\ndsn = "{DSN}"\n[prefect]\napi_url = "localhost"', "prefect.api_url", "pattern"),
        (f'[control]\ndsn = "{DSN}"\n[decision]\nknee = 3', "decision.knee", "less than or equal to 1"),
        (f'[control]\ndsn = "{DSN}"\n[decision]\nkne = 1', "decision.kne", "not permitted"),
        ("[control\n", "foreshard.toml", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_names_its_field(text: str, field: str, part: str) -> None:
    write(text)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert refused.value.field == field
    assert part in str(refused.value)
    assert refused.value.remedy
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("FORESHARD_MIGRATION__SOAK_S", "-1", "migration.soak_s"),
        ("FORESHARD_MIGRATION__SOAK", "1", "migration.soak"),
        ("FORESHARD_MIGRATIONS__SOAK_S", "1", "FORESHARD_MIGRATIONS__SOAK_S"),
        ("FORESHARD_MIGRATION", "{", "FORESHARD_MIGRATION"),
    ],
)
def test_a_mistake_in_a_variable_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str
) -> None:
    write(f'[control]\ndsn = "{DSN}"\n')
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert refused.value.field == field


def test_a_named_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHARD_CONFIG", "elsewhere.toml")
    with pytest.raises(ConfigurationError, match=r"elsewhere\.toml: cannot be read"):
        load_settings()


def test_several_mistakes_are_told_together() -> None:
    write(f'[control]\ndsn = "{DSN}"\n[migration]\nsoak_s = -1\nlease_s = 0\n')
    with pytest.raises(ConfigurationError, match=r"migration\.soak_s: .* Also wrong: migration\.lease_s"):
        load_settings()
