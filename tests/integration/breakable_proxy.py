"""A TCP proxy that counts round trips and can lose the answer to a COMMIT."""

from __future__ import annotations

import select
import socket
import threading
from types import TracebackType


class BreakableProxy:
    """Forwards ``port`` to the server at ``to_port``, both on loopback.

    ``round_trips``: how often the client spoke after the server had. With ``lose_commit`` set, the next COMMIT is
    passed on and its answer waited for, but the client's connection is cut instead of answered.
    """

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.round_trips = 0
        self.lose_commit = threading.Event()
        self.lost_commit = threading.Event()

    def __enter__(self) -> BreakableProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to_port)) as server:
            server_spoke = True
            losing = False
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if client in ready:
                    said = client.recv(65536)
                    if not said:
                        return
                    self.round_trips += server_spoke
                    server_spoke = False
                    if self.lose_commit.is_set() and b"COMMIT" in said:
                        self.lose_commit.clear()
                        losing = True
                    server.sendall(said)
                if server in ready:
                    said = server.recv(65536)
                    if losing:
                        self.lost_commit.set()
                        return
                    if not said:
                        return
                    server_spoke = True
                    client.sendall(said)
