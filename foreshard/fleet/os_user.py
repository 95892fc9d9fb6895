"""The operating system account that the embedded servers run as.

PostgreSQL refuses to run as root. For a caller who is root the servers run as another account that is already
there; for everybody else as themselves. No account is ever created.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreshard.errors import ForeshardError

PREFERRED = ("postgres", "nobody", "daemon")


@dataclass(frozen=True)
class OsUser:
    """A user and primary group, by number."""

    uid: int
    gid: int

    @classmethod
    def current(cls) -> OsUser:
        """The caller."""
        return cls(os.geteuid(), os.getegid())

    @property
    def is_caller(self) -> bool:
        """True when nothing needs to be handed over."""
        return self.uid == os.geteuid()

    def run(
        self, command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` as this user in a session of its own: the caller's Ctrl-C does not reach it.

        Output is captured (both streams in ``stdout``); the exit status is the caller's to judge.
        """
        return subprocess.run(
            [os.fspath(part) for part in command],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            start_new_session=True,
            check=False,
            user=None if self.is_caller else self.uid,
            group=None if self.is_caller else self.gid,
            extra_groups=None if self.is_caller else (),
        )

    def can_enter(self, directory: Path) -> bool:
        """Whether this user can pass into ``directory``: asks the system, which knows of ACLs and mounts."""
        probe = ["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)]
        return self.run(probe, env={}, cwd=Path("/"), timeout=30).returncode == 0

    def give(self, path: Path) -> None:
        """Make this user the owner of ``path``."""
        if not self.is_caller:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_user() -> OsUser:
    """The account for new servers: the caller, or for root the first other account that can run a program.

    Raises ``ForeshardError`` if root has no such account (a user namespace that maps only root).
    """
    if os.geteuid() != 0:
        return OsUser.current()
    for user in _candidates():
        try:
            if user.can_enter(Path("/")):
                return user
        except (OSError, subprocess.SubprocessError):  # not mapped in this user namespace
            continue
    raise ForeshardError(
        "PostgreSQL refuses to run as root, and no other account of this machine can run a program.",
        remedy="Run Foreshard as an ordinary user.",
    )


def _candidates() -> Iterator[OsUser]:
    accounts = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    ordered = [name for name in PREFERRED if name in accounts]
    for name in [*ordered, *(name for name in sorted(accounts) if name not in PREFERRED)]:
        yield OsUser(accounts[name].pw_uid, accounts[name].pw_gid)
