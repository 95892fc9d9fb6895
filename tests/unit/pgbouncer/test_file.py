"""The file is whole or not there, and stays readable to whoever could read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshard.errors import ForeshardError
from foreshard.pgbouncer import file


def test_it_is_replaced_whole_and_its_mode_stays(tmp_path: Path) -> None:
    target = tmp_path / "foreshard.ini"
    assert file.write(target, lambda: "one\n")
    assert target.stat().st_mode & 0o777 == 0o644
    target.chmod(0o640)
    before = target.stat().st_ino
    assert file.write(target, lambda: "two\n")
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("two\n", 0o640)
    assert target.stat().st_ino != before
    assert not file.write(target, lambda: "two\n")
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "foreshard.ini"
    link.symlink_to(tmp_path / "real" / "file.ini")
    file.write(link, lambda: "one\n")
    assert link.is_symlink()
    assert (tmp_path / "real" / "file.ini").read_text() == "one\n"


def test_what_cannot_be_rendered_leaves_the_file(tmp_path: Path) -> None:
    target = tmp_path / "foreshard.ini"
    target.write_text("before")

    def fail() -> str:
        raise ForeshardError("a bucket is on two shards")

    with pytest.raises(ForeshardError, match="two shards"):
        file.write(target, fail)
    assert target.read_text() == "before"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "foreshard.ini"
    for attempt in (lambda: file.write(nowhere, str), lambda: file.require_writable(nowhere)):
        with pytest.raises(ForeshardError, match=str(tmp_path / "nowhere")):
            attempt()
