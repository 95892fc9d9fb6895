from __future__ import annotations

import os
from pathlib import Path

import pytest

from foreshard.errors import ConfigurationError, ForeshardError
from foreshard.fleet import binaries
from foreshard.fleet.binaries import PostgresBinaries, binaries_of, find_binaries, tool_environment


def program(directory: Path, version: str) -> Path:
    """A directory with a ``postgres`` that only knows its version."""
    directory.mkdir(parents=True)
    postgres = directory / "postgres"
    postgres.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
    postgres.chmod(0o755)
    return directory


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("FORESHARD_PG_BIN", *(f"FORESHARD_PG{major}_BIN" for major in binaries.SUPPORTED)):
        monkeypatch.delenv(variable, raising=False)


def test_the_wheel_is_found_and_complete() -> None:
    found = find_binaries()
    assert found.major >= 16
    for tool in ("initdb", "pg_ctl", "pg_dump", "pg_restore", "psql"):
        assert found.tool(tool).is_file()


def test_the_setting_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORESHARD_PG_BIN", str(program(tmp_path / "bin", "18.4 (Debian 18.4-1)")))
    assert find_binaries().version == "18.4"


def test_without_the_wheel_the_path_is_searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binaries, "_wheel", lambda: None)
    monkeypatch.setenv("PATH", f"{program(tmp_path / 'bin', '16.14')}:/bin:/usr/bin")
    assert find_binaries().version == "16.14"


def test_no_postgresql_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binaries, "_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ForeshardError, match="Install the extra 'embedded'"):
        find_binaries()


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORESHARD_PG_BIN", str(tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        find_binaries()
    assert caught.value.field == "FORESHARD_PG_BIN"


def test_a_version_is_found_by_its_own_setting_before_all_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORESHARD_PG_BIN", str(program(tmp_path / "default", "18.1")))
    assert binaries_of(18).version == "18.1"
    monkeypatch.setenv("FORESHARD_PG18_BIN", str(program(tmp_path / "eighteen", "18.4 (Debian 18.4-1)")))
    assert binaries_of(18) == PostgresBinaries(tmp_path / "eighteen", "18.4")
    assert find_binaries().version == "18.1"


def test_a_version_is_found_where_the_system_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(binaries, "SYSTEM_DIRECTORIES", (str(tmp_path / "{}" / "bin"),))
    monkeypatch.setattr(binaries, "_wheel_of_versions", lambda: ())
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path / "16" / "bin", "16.9")
    assert binaries_of(16).version == "16.9"


def test_a_setting_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORESHARD_PG16_BIN", str(program(tmp_path / "bin", "17.10")))
    with pytest.raises(ConfigurationError) as caught:
        binaries_of(16)
    assert caught.value.field == "FORESHARD_PG16_BIN"


def test_a_version_that_is_not_there_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ForeshardError, match=r"No PostgreSQL 99 was found"):
        binaries_of(99)


def test_an_old_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORESHARD_PG_BIN", str(program(tmp_path / "bin", "15.9")))
    with pytest.raises(ForeshardError, match=r"15\.9 .* is too old"):
        find_binaries()


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORESHARD_PG_BIN", str(program(tmp_path / "bin", "17.10")))
    with pytest.raises(ForeshardError, match="pg_dump is not in"):
        find_binaries().tool("pg_dump")


def test_a_copy_can_be_read_and_run_by_everybody_but_written_by_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bin_dir = program(tmp_path / "install" / "bin", "17.10")
    for name in ("lib", "share"):
        (tmp_path / "install" / name).mkdir(mode=0o700)
    library = tmp_path / "install" / "lib" / "libpq.so"
    library.write_text("")
    library.chmod(0o600)
    (bin_dir / "postgres").chmod(0o700)
    monkeypatch.setenv("FORESHARD_PG_BIN", str(bin_dir))
    store = tmp_path / "store"
    store.mkdir()

    copy = find_binaries().copied_to(store)
    modes = {path.name: path.stat().st_mode & 0o777 for path in copy.bin_dir.parent.rglob("*")}
    assert modes == {"bin": 0o755, "postgres": 0o755, "lib": 0o755, "share": 0o755, "libpq.so": 0o644}
    assert find_binaries().copied_to(store) == copy
    assert [path.name for path in store.iterdir()] == ["postgresql-17.10"]


def test_the_libraries_of_a_wheel_keep_their_place_in_a_copy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bin_dir = program(tmp_path / "site" / "package" / "pginstall18" / "bin", "18.4")
    for name in ("lib", "share"):
        (bin_dir.parent / name).mkdir()
    libraries = tmp_path / "site" / "package.libs"
    libraries.mkdir()
    (libraries / "libpq.so").write_text("")
    monkeypatch.setenv("FORESHARD_PG_BIN", str(bin_dir))
    copy = find_binaries().copied_to(tmp_path)
    assert (copy.bin_dir / ".." / ".." / ".." / "package.libs" / "libpq.so").is_file()
    assert find_binaries().copied_to(tmp_path) == copy


def test_an_installation_spread_over_the_system_is_not_copied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORESHARD_PG_BIN", str(program(tmp_path / "bin", "17.10")))
    with pytest.raises(ForeshardError, match="cannot run the programs"):
        find_binaries().copied_to(tmp_path)


def test_variables_that_lead_to_another_server_do_not_reach_the_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("PGDATA", "/elsewhere")
    monkeypatch.setenv("SHARD1_PASSWORD", "canary")
    assert not [name for name in tool_environment() if name.startswith("PG")]
    assert "canary" not in tool_environment().values()
    assert tool_environment()["PATH"] == os.environ["PATH"]
