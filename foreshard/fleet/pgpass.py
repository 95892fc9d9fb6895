"""The password file: the one place where passwords of the fleet stand. Connection strings only name it."""

from __future__ import annotations

import os
import re
import secrets
import threading
from pathlib import Path

from foreshard.errors import ForeshardError

HOST = "127.0.0.1"


class PasswordFile:
    """A file in libpq's format, mode 0600, one line per role and port of the loopback address.

    Threads may share an instance; processes must not change one file at the same time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def password(self, port: int, role: str) -> str | None:
        """The password of ``role`` on the server at ``port``, if there is one."""
        return self._read().get((port, role))

    def ensure(self, port: int, role: str) -> str:
        """The password of ``role`` on the server at ``port``; a random one is made if there is none."""
        with self._lock:
            entries = self._read()
            if (port, role) not in entries:
                entries[port, role] = secrets.token_urlsafe(24)
                self._write(entries)
            return entries[port, role]

    def copy_port(self, old: int, new: int) -> None:
        """The passwords of the server at port ``old`` hold at ``new`` from now on, too."""
        with self._lock:
            entries = self._read()
            moved = {(new, role): word for (port, role), word in entries.items() if port == old}
            self._write(entries | moved)

    def _read(self) -> dict[tuple[int, str], str]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        entries = {}
        for number, line in enumerate(lines, start=1):
            fields = [
                re.sub(r"\\(.)", r"\1", field) for field in re.findall(r"((?:\\.|[^:\\])*)(?::|$)", line)
            ]
            if line.startswith("#") or not line:
                continue
            if len(fields) < 5 or not fields[1].isdigit():
                raise ForeshardError(f"Line {number} of {self.path} is not a line of a password file.")
            entries[int(fields[1]), fields[3]] = fields[4]
        return entries

    def _write(self, entries: dict[tuple[int, str], str]) -> None:
        # A new file takes the old one's place: nobody sees half of it, and others can never read it.
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for (port, role), word in entries.items():
                file.write(f"{HOST}:{port}:*:{_escaped(role)}:{_escaped(word)}\n")
        fresh.replace(self.path)


def _escaped(field: str) -> str:
    return re.sub(r"([\\:])", r"\\\1", field)
