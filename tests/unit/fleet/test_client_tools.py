from __future__ import annotations

from pathlib import Path

import pytest

from foreshard.errors import ForeshardError
from foreshard.fleet import client_tools
from foreshard.fleet.binaries import PostgresBinaries
from foreshard.fleet.client_tools import choose, installed

SIXTEEN, SEVENTEEN, EIGHTEEN = (
    PostgresBinaries(Path(f"/pg{version[:2]}"), version) for version in ("16.14", "17.10", "18.4")
)


@pytest.mark.parametrize(
    ("having", "source", "target", "chosen"),
    [
        ([EIGHTEEN, SEVENTEEN, SIXTEEN], 16, 16, SIXTEEN),
        ([EIGHTEEN, SEVENTEEN, SIXTEEN], 16, 18, EIGHTEEN),  # what is written is meant for the target
        ([EIGHTEEN, SEVENTEEN, SIXTEEN], 17, 16, SEVENTEEN),  # the source must be readable
        ([SIXTEEN, SEVENTEEN], 16, 18, SEVENTEEN),  # none knows the target: the newest
        ([EIGHTEEN], 16, 17, EIGHTEEN),
        (
            [PostgresBinaries(Path("/mine"), "17.2"), SEVENTEEN],
            17,
            17,
            PostgresBinaries(Path("/mine"), "17.2"),
        ),
    ],
)
def test_the_oldest_tools_that_know_both_servers(
    having: list[PostgresBinaries], source: int, target: int, chosen: PostgresBinaries
) -> None:
    assert choose(having, source, target) == chosen


def test_tools_that_cannot_read_the_source_are_an_error_with_a_remedy() -> None:
    with pytest.raises(
        ForeshardError, match=r"No pg_dump here can read PostgreSQL 18 \(installed: 17\.10\)"
    ) as caught:
        choose([SEVENTEEN], 18, 16)
    assert "FORESHARD_PG18_BIN" in str(caught.value.remedy)


def test_a_package_of_client_programs_is_enough_and_half_an_installation_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for directory, programs in (("clients", client_tools.PROGRAMS), ("half", ("postgres", "pg_dump"))):
        (tmp_path / directory).mkdir()
        for program in programs:
            path = tmp_path / directory / program
            path.write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) 18.4 (Debian)'\n")
            path.chmod(0o755)
    places = [tmp_path / name for name in ("half", "missing", "clients", "clients")]
    monkeypatch.setattr(client_tools, "places", lambda: places)
    assert installed() == [PostgresBinaries(tmp_path / "clients", "18.4")]
