"""The example application as a process of its own, and callers that remember what it told them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

import httpx

from foreshard.fleet.ledger import Kind, Ledger, Start, State
from foreshard.fleet.server import free_port
from tests.integration.moving_fleet import wait_until
from tests.integration.told import Told

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]
CALLERS = 4


@contextmanager
def service(control_dsn: str, log: Path) -> Iterator[str]:
    """The service, up; its address. It is killed at the end: it may wait for a control database that is cut off."""
    port = free_port(set())
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", "examples.airline_operations.service:application"),
        *("--host", HOST, "--port", str(port), "--log-level", "warning"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "AIRLINE_CONTROL_DSN": control_dsn},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    address = f"http://{HOST}:{port}"

    def is_up() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{address}/openapi.json").is_success
        return False

    try:
        wait_until(is_up, "the service is up", timeout_s=60)
        yield address
    finally:
        process.kill()
        process.wait()


class Callers:
    """Threads that call the service until the block ends, and what they were told. A context manager.

    ``errors``: every answer that is not one of success, and every call that was not answered.
    """

    def __init__(self, address: str, starts: Sequence[Start], ledger: Ledger) -> None:
        self.told: list[Told] = []
        self.errors: list[str] = []
        self._address = address
        self._starts = starts
        self._ledger = ledger
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"caller-{number}")
            for number in range(CALLERS)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        """Wait until that many more answers have come."""
        wanted = len(self.told) + count
        wait_until(lambda: len(self.told) >= wanted, f"{count} answers, errors: {self.errors[:3]}", 60)

    def _work(self, number: int) -> None:
        draw = random.Random(number)
        with httpx.Client(base_url=self._address, timeout=30) as client:
            while not self._stop.is_set():
                # Few aircraft, for all callers the same: what one was told the others must find.
                start = draw.choice(self._starts)
                act = draw.choice((self._count, self._board, self._sign_off, self._look))
                act(client, start)

    def _look(self, client: httpx.Client, start: Start) -> int | None:
        begun = monotonic()
        answer = self._call(client, "GET", f"/aircraft/{start.tailnum}")
        if answer is None:
            return None
        cycles = int(answer.json()["cycles"])
        self._tell(Told(start.tailnum, cycles, begun, monotonic()))
        return cycles

    def _count(self, client: httpx.Client, start: Start) -> None:
        op_id = self._ledger.intend(Kind.CYCLE, start.tailnum, start.bucket)
        begun = monotonic()
        answer = self._call(client, "POST", f"/aircraft/{start.tailnum}/cycles")
        if answer is not None:
            cycles = int(answer.json()["cycles"])
            self._ledger.settle(op_id, State.ACKNOWLEDGED, value=cycles)
            self._tell(Told(start.tailnum, cycles, begun, monotonic(), raised=True))

    def _sign_off(self, client: httpx.Client, start: Start) -> None:
        seen = self._look(client, start)
        if seen is None:
            return
        op_id = self._ledger.intend(Kind.READ_MODIFY_WRITE, start.tailnum, start.bucket)
        begun = monotonic()
        path = f"/aircraft/{start.tailnum}/sign-off"
        answer = self._call(client, "POST", path, json={"cycles": seen}, also=httpx.codes.CONFLICT)
        if answer is None:
            return
        if (
            answer.status_code == httpx.codes.CONFLICT
        ):  # it has flown meanwhile, which the service may not overlook
            self._ledger.settle(op_id, State.REFUSED)
            return
        cycles = int(answer.json()["cycles"])
        self._ledger.settle(op_id, State.ACKNOWLEDGED, value=cycles)
        self._tell(Told(start.tailnum, cycles, begun, monotonic(), raised=True))

    def _board(self, client: httpx.Client, start: Start) -> None:
        op_id = self._ledger.intend(Kind.EVENT, start.tailnum, start.bucket)
        boardings = f"/aircraft/{start.tailnum}/boardings"
        body = {"flight_id": start.flight_id, "passenger": "Ada"}
        headers = {"Idempotency-Key": str(op_id)}
        for _ in range(2):  # as a caller does who has lost the answer: the second one must find the first
            begun = monotonic()
            if self._call(client, "POST", boardings, json=body, headers=headers) is None:
                return
        self._ledger.settle(op_id, State.ACKNOWLEDGED)
        self._tell(Told(f"boarding {op_id}", 1, begun, monotonic()))
        begun = monotonic()
        answer = self._call(client, "GET", f"{boardings}/{op_id}", also=httpx.codes.NOT_FOUND)
        if answer is not None:
            there = answer.status_code == httpx.codes.OK
            self._tell(Told(f"boarding {op_id}", int(there), begun, monotonic()))

    def _call(
        self,
        client: httpx.Client,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: dict[str, str] | None = None,
        also: int | None = None,
    ) -> httpx.Response | None:
        """The answer of success, or with the status ``also``. None if it is an error: its outcome is unknown then."""
        try:
            answer = client.request(method, path, json=json, headers=headers)
        except httpx.HTTPError as error:
            self._failed(f"{method} {path}: {type(error).__name__}: {error}")
            return None
        if answer.is_success or answer.status_code == also:
            return answer
        self._failed(f"{method} {path}: {answer.status_code} {answer.text}")
        return None

    def _tell(self, told: Told) -> None:
        with self._lock:
            self.told.append(told)

    def _failed(self, what: str) -> None:
        with self._lock:
            self.errors.append(what)
