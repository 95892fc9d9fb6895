"""What a pooler looks like to a session, as far as preflight can tell: it greets in its own name."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType

from psycopg.conninfo import conninfo_to_dict, make_conninfo

HOST = "127.0.0.1"


class Pooler:
    """Serves the server of ``dsn`` at `dsn`, one connection at a time. It drops a session's start-up ``options``.

    ``own_pid``: it gives its clients a process id of its own, as poolers do, instead of the backend's.
    """

    def __init__(self, dsn: str, *, own_pid: bool) -> None:
        self._server = int(str(conninfo_to_dict(dsn)["port"]))
        self._own_pid = own_pid
        self._listener = socket.create_server((HOST, 0))
        port = self._listener.getsockname()[1]
        # The password file knows the server's port only; gssencmode, or libpq asks about it before it starts.
        parts = conninfo_to_dict(dsn)
        password = _password(str(parts.pop("passfile")), self._server, str(parts["user"]))
        self.dsn = make_conninfo(
            "", **{**parts, "port": port, "password": password, "sslmode": "disable", "gssencmode": "disable"}
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Pooler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._server))
                server.sendall(_without_options(client))
                forward = threading.Thread(target=_copy, args=(client, server), daemon=True)
                forward.start()
                self._greet(server, client)
                _copy(server, client)
                forward.join(10)

    def _greet(self, server: socket.socket, client: socket.socket) -> None:
        """Pass messages on until the server is ready; the key for cancelling is ours."""
        kind = b""
        while kind != b"Z":
            kind, size = struct.unpack("!ci", _read(server, 5))
            body = _read(server, size - 4)
            if kind == b"K" and self._own_pid:
                body = struct.pack("!i", 1) + body[4:]
            client.sendall(struct.pack("!ci", kind, size) + body)
            if kind == b"E":
                return


def _without_options(client: socket.socket) -> bytes:
    """The client's first message, less what it wants set for its session."""
    (size,) = struct.unpack("!i", _read(client, 4))
    body = _read(client, size - 4)
    words = body[4:].rstrip(b"\0").split(b"\0")
    kept = [
        part + b"\0"
        for name, value in zip(words[::2], words[1::2], strict=True)
        if name != b"options"
        for part in (name, value)
    ]
    message = body[:4] + b"".join(kept) + b"\0"
    return struct.pack("!i", len(message) + 4) + message


def _read(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = end.recv(size - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


def _copy(here: socket.socket, there: socket.socket) -> None:
    with suppress(OSError):
        while data := here.recv(65536):
            there.sendall(data)
    with suppress(OSError):
        there.shutdown(socket.SHUT_WR)


def _password(passfile: str, port: int, user: str) -> str:
    with open(passfile, encoding="utf-8") as file:
        for line in file:
            fields = line.rstrip("\n").split(":")
            if fields[1] == str(port) and fields[3] == user:
                return fields[4]
    raise LookupError(f"no password for {user} at {port}")
