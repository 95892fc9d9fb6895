from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from foreshard.errors import ShardUnavailable
from foreshard.load import machine_source
from foreshard.load.instant import Instant
from foreshard.load.machine_source import OF_HOST, OF_PROCESSES, MachineSource
from foreshard.load.process import ProcessReading
from foreshard.load.source import Reading, Visit

T0 = datetime(2013, 11, 27, tzinfo=UTC)
BYTES = "io_bytes_per_s"


@dataclass(frozen=True)
class Shard:
    name: str = "one"
    dsn: str = "host=127.0.0.1"


@dataclass
class Machine:
    """What is read of the server; ``postmaster`` None: its processes are not seen."""

    postmaster: int | None = 77
    io_bytes: int | None = 0
    minute: int = 0

    def now(self) -> Instant:
        return Instant(T0 + timedelta(minutes=self.minute), "boot", 60.0 * self.minute)

    def read(self, pid: int, shard: str, at: Instant) -> ProcessReading:
        del shard
        return ProcessReading(at, pid, 5.0, 30.0 * self.minute, 10**8, self.io_bytes)

    def collect(
        self, source: MachineSource, before: Reading | None, shard: Shard, *, alone: bool = True
    ) -> tuple[Reading, set[str]]:
        self.minute += 1
        visit = Visit(shard, (), self.now().wall, self.now, alone=alone)
        found = source.collect(visit, before)
        return found.reading, {sample.metric for sample in found.samples}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(Visit, "server", lambda _: None)
    monkeypatch.setattr(machine_source, "postmaster_of", lambda _: machine.postmaster)
    monkeypatch.setattr(machine_source, "read_process", machine.read)
    return machine


def test_processes_of_a_server_here_are_read_and_owned(machine: Machine) -> None:
    source, shard = MachineSource(), Shard()
    assert source.owns(shard, None) == OF_PROCESSES
    first, told = machine.collect(source, None, shard)
    assert told == {"memory_bytes"}
    second, told = machine.collect(source, first, shard)
    assert told == OF_PROCESSES == source.owns(shard, second)


def test_who_gives_io_is_decided_once_for_a_dsn(machine: Machine) -> None:
    source, shard = MachineSource(), Shard()
    machine.io_bytes = None
    reading, _ = machine.collect(source, None, shard)
    assert BYTES not in source.owns(shard, reading)
    machine.io_bytes = 0  # now we may read it, but PostgreSQL's series has begun
    for _ in range(2):
        reading, told = machine.collect(source, reading, shard)
        assert told == {"memory_bytes", "cpu_cores"}
    assert BYTES not in source.owns(shard, reading)
    moved = replace(shard, dsn="host=localhost")
    reading, _ = machine.collect(source, reading, moved)
    assert BYTES in source.owns(moved, reading)


def test_processes_that_are_not_seen_any_more_are_a_gap_and_stay_owned(machine: Machine) -> None:
    source, shard = MachineSource(), Shard()
    reading, _ = machine.collect(source, None, shard)
    machine.postmaster = None
    with pytest.raises(ShardUnavailable, match="not seen any more"):
        machine.collect(source, reading, shard)
    assert source.owns(shard, reading) == OF_PROCESSES


def test_behind_a_tunnel_postgresql_gives_io(machine: Machine) -> None:
    source, shard = MachineSource(), Shard()
    machine.postmaster = None
    reading, told = machine.collect(source, None, shard)
    assert told == set()
    assert BYTES not in source.owns(shard, reading)


@pytest.mark.parametrize(("dsn", "alone"), [("host=db1.example.com", True), ("host=127.0.0.1", False)])
def test_a_server_elsewhere_or_shared_tells_nothing(machine: Machine, dsn: str, alone: bool) -> None:
    assert machine.collect(MachineSource(), None, Shard(dsn=dsn), alone=alone) == ({}, set())


def test_a_shard_that_has_the_machine_gets_its_network_too(machine: Machine) -> None:
    source = MachineSource(["one"])
    assert source.owns(Shard(), None) == OF_HOST
    reading, _ = machine.collect(source, None, Shard())
    _, told = machine.collect(source, reading, Shard())
    assert {"memory_bytes", "cpu_cores"} <= told <= OF_HOST
    machine.postmaster = None
    with pytest.raises(ShardUnavailable, match="does not run on this machine"):
        machine.collect(source, reading, Shard())
