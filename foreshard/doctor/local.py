"""This machine: who may read the settings, the port of the Data Docs, free disk where runs keep their files."""

from __future__ import annotations

import errno
import shutil
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from foreshard.doctor.finding import Finding, or_ok, warn, wrong
from foreshard.settings import Settings, file_of_settings

CHECK = "local"
LEAST_BYTES = 2 * 2**30


@dataclass(frozen=True)
class LocalFacts:
    """``modes``: permission bits of the settings file; ``docs``: who answers on the docs' port."""

    modes: dict[str, int]
    passfile_mode: int | None
    free_bytes: int | None
    state_dir: str
    docs: str
    """``off``, ``free``, ``taken`` or ``bad address``."""
    docs_at: str
    offset_s: float


def read(settings: Settings) -> LocalFacts:
    """Looks at files and one port; binds nothing for longer than that."""
    settings_file, passfile = file_of_settings(), settings.passfile
    state_dir = settings.state_dir.resolve()
    there = next((one for one in (state_dir, *state_dir.parents) if one.is_dir()), None)
    checks = settings.checks
    return LocalFacts(
        {str(settings_file): _mode(settings_file)} if settings_file else {},
        _mode(passfile) if passfile is not None and passfile.is_file() else None,
        shutil.disk_usage(there).free if there else None,
        str(state_dir),
        _port(checks.docs_host, checks.docs_port),
        f"{checks.docs_host}:{checks.docs_port}",
        settings.clock.offset_seconds,
    )


def judge(facts: LocalFacts) -> list[Finding]:
    """``docs`` taken is what a serving process makes of it, so it is no finding."""
    found = [
        warn(
            CHECK,
            f"{file} may be changed by other accounts of this machine (mode {mode:04o})",
            f"chmod 0640 {file}",
        )
        for file, mode in facts.modes.items()
        if mode & 0o022
    ]
    if facts.passfile_mode is not None and facts.passfile_mode & 0o077:
        found.append(
            wrong(
                CHECK,
                f"libpq ignores the passfile: others may read it (mode {facts.passfile_mode:04o})",
                "chmod 0600 it.",
            )
        )
    if facts.free_bytes is not None and facts.free_bytes < LEAST_BYTES:
        found.append(
            wrong(
                CHECK,
                f"{facts.state_dir} has {facts.free_bytes / 2**30:.1f} GiB free",
                f"Free some: evidence of checks is kept there. {LEAST_BYTES / 2**30:g} GiB should be.",
            )
        )
    if facts.docs == "bad address":
        found.append(
            wrong(
                CHECK,
                f"Data Docs cannot be served on {facts.docs_at}",
                "Correct checks.docs_host and checks.docs_port (0: not served).",
            )
        )
    if facts.offset_s:
        found.append(
            warn(
                CHECK,
                f"clock.offset_seconds is {facts.offset_s:g}: a demo's or a replay's clock",
                "Remove it in production.",
            )
        )
    return or_ok(CHECK, found, "settings file, disk and port of this machine are in order")


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def _port(host: str, port: int) -> str:
    if not port:
        return "off"
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except OSError as error:
        return "taken" if error.errno == errno.EADDRINUSE else "bad address"
    return "free"
