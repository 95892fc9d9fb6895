from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError
from foreshard.fleet.pgpass import HOST, PasswordFile

roles = st.text(
    st.characters(blacklist_characters="\n\r", blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1
)


def test_a_password_is_made_once_and_kept(tmp_path: Path) -> None:
    file = PasswordFile(tmp_path / "pgpass")
    word = file.ensure(17001, "foreshard")
    assert file.ensure(17001, "foreshard") == word
    assert PasswordFile(tmp_path / "pgpass").password(17001, "foreshard") == word
    assert file.password(17001, "other") is None
    assert file.ensure(17002, "foreshard") != word


def test_the_file_is_libpqs_and_private(tmp_path: Path) -> None:
    file = PasswordFile(tmp_path / "pgpass")
    word = file.ensure(17001, "foreshard")
    assert file.path.read_text() == f"{HOST}:17001:*:foreshard:{word}\n"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_private_file_stays_private_when_it_is_replaced(tmp_path: Path) -> None:
    file = PasswordFile(tmp_path / "pgpass")
    file.path.write_text("")
    file.path.chmod(0o644)
    file.ensure(17001, "foreshard")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_passwords_follow_a_server_to_a_new_port(tmp_path: Path) -> None:
    file = PasswordFile(tmp_path / "pgpass")
    word, other = file.ensure(17001, "foreshard"), file.ensure(17003, "foreshard")
    file.copy_port(17001, 17002)
    assert file.password(17002, "foreshard") == word
    assert file.password(17003, "foreshard") == other


@given(st.dictionaries(st.tuples(st.integers(1, 65535), roles), st.just("secret"), min_size=1, max_size=5))
def test_any_role_name_comes_back(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[tuple[int, str], str]
) -> None:
    file = PasswordFile(tmp_path_factory.mktemp("pgpass") / "pgpass")
    words = {key: file.ensure(*key) for key in entries}
    assert {key: file.password(*key) for key in entries} == words


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    path.write_text(f"# a comment\n{HOST}:port:*:foreshard:word\n")
    with pytest.raises(ForeshardError, match="Line 2"):
        PasswordFile(path).ensure(17001, "foreshard")
