"""The proxy that other tests break: held, cut, refusing, pointed elsewhere. Plain sockets, no server needed."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.breakable_proxy import HOST, BreakableProxy, Direction
from tests.integration.moving_fleet import wait_until


class Echo:
    """A server that answers with what it was told, after its name."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        try:
            with client:
                client.sendall(self.name)
                while said := client.recv(1 << 16):
                    client.sendall(said)
        except ConnectionError:
            pass


@pytest.fixture
def proxy() -> Iterator[BreakableProxy]:
    before = threading.active_count()
    with closing(Echo(b"one")) as echo, BreakableProxy(echo.port) as running:
        yield running
    wait_until(lambda: threading.active_count() <= before, "all threads end")


def dial(proxy: BreakableProxy, greeting: bytes = b"one") -> socket.socket:
    """A connection that the server has answered."""
    client = socket.create_connection((HOST, proxy.port), timeout=5)
    assert client.recv(len(greeting)) == greeting
    return client


def read(client: socket.socket, count: int) -> bytes:
    """Exactly that many bytes."""
    got = bytearray()
    while len(got) < count:
        said = client.recv(count - len(got))
        assert said, "the connection ended"
        got += said
    return bytes(got)


def test_large_volumes_go_both_ways_at_once_on_many_connections(proxy: BreakableProxy) -> None:
    load = bytes(range(256)) * 40_000  # 10 MB each: far more than all buffers

    def talk(digests: list[bytes]) -> None:
        with dial(proxy) as client:
            sender = threading.Thread(target=client.sendall, args=(load,))
            sender.start()
            digests.append(hashlib.sha256(read(client, len(load))).digest())
            sender.join()

    digests: list[bytes] = []
    talkers = [threading.Thread(target=talk, args=(digests,)) for _ in range(8)]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join()
    assert digests == [hashlib.sha256(load).digest()] * 8


@pytest.mark.parametrize("direction", list(Direction))
def test_held_in_one_direction_a_connection_stays_open_and_nothing_is_lost(
    proxy: BreakableProxy, direction: Direction
) -> None:
    with dial(proxy) as client:
        proxy.hold([direction])
        client.sendall(b"late")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        proxy.release()
        client.settimeout(5)
        assert read(client, 4) == b"late"


def test_a_partition_hides_that_an_end_has_gone_and_new_connections_hang(proxy: BreakableProxy) -> None:
    with dial(proxy) as client:
        proxy.hold()
        gone = dial_silently(proxy)
        gone.settimeout(0.2)
        with pytest.raises(TimeoutError):
            gone.recv(1)
        client.close()
        assert proxy.connections == 1
        gone.settimeout(5)
        proxy.release()
        assert gone.recv(3) == b"one"
        gone.close()
        wait_until(lambda: proxy.connections == 0, "the ends are noticed")


def dial_silently(proxy: BreakableProxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=5)


def test_cut_resets_connections_and_refuse_turns_new_ones_away(proxy: BreakableProxy) -> None:
    with dial(proxy) as client:
        proxy.refuse()
        client.sendall(b"still here")
        assert read(client, 10) == b"still here"
        with pytest.raises(ConnectionRefusedError):
            dial_silently(proxy)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    proxy.accept()
    dial(proxy).close()


def test_new_connections_go_where_it_points(proxy: BreakableProxy) -> None:
    with closing(Echo(b"two")) as other, dial(proxy) as old:
        proxy.point_to(other.port)
        dial(proxy, b"two").close()
        old.sendall(b"x")
        assert read(old, 1) == b"x"
