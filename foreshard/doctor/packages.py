"""Python and the packages beside Foreshard: are they those that it was made for."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

from packaging.requirements import Requirement

from foreshard.doctor.finding import Finding, or_ok, wrong

CHECK = "packages"
PACKAGE = "foreshard"

WHY = {
    "fastapi": "Prefect's server does not start with it",
    "sqlalchemy": "with 2.1 Prefect's server looks healthy, and schedules nothing",
    "pandas": "statsforecast refuses it",
}
"""What goes wrong with other versions, where that does not say so itself."""


def examine() -> list[Finding]:
    """What is installed against what Foreshard's own metadata requires."""
    try:
        requires = metadata.requires(PACKAGE) or []
        python = metadata.metadata(PACKAGE)["Requires-Python"]
    except metadata.PackageNotFoundError:
        return [
            wrong(CHECK, "foreshard is not installed as a package", "pip install it with constraints.txt.")
        ]
    return judge(requires, installed_version, python, platform.python_version())


def installed_version(name: str) -> str | None:
    """None: it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def judge(
    requires: Iterable[str], version_of: Callable[[str], str | None], python_wanted: str, python: str
) -> list[Finding]:
    """``requires``: as in a package's metadata; extras that are not installed are nobody's loss."""
    wanted = [one for one in map(Requirement, requires) if one.marker is None or one.marker.evaluate()]
    found = list(_unfit(wanted, version_of))
    if not Requirement(f"python{python_wanted}").specifier.contains(python):
        found.append(wrong(CHECK, f"Python {python} is not {python_wanted}", "Install into another one."))
    versions = ", ".join(
        f"{name} {version_of(name)}"
        for name in ("prefect", "sqlalchemy", "fastapi", "pandas")
        if version_of(name)
    )
    return or_ok(
        CHECK,
        found,
        f"Python {python}, {versions} and {len(wanted)} requirements in all are as they should be",
    )


def _unfit(wanted: Iterable[Requirement], version_of: Callable[[str], str | None]) -> Iterator[Finding]:
    for one in wanted:
        version = version_of(one.name)
        command = f"pip install --constraint constraints.txt '{one.name}{one.specifier}'"
        if version is None:
            yield wrong(CHECK, f"{one.name} is not installed", command)
        elif not one.specifier.contains(version, prereleases=True):
            why = f": {WHY[one.name.lower()]}" if one.name.lower() in WHY else ""
            yield wrong(CHECK, f"{one.name} {version} is not {one.specifier}{why}", command)
