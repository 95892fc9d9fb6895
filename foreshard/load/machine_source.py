"""The operating system of this machine as a source of live load: a server's processes, or the whole host."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import TypeAdapter

from foreshard.errors import ShardUnavailable
from foreshard.load.host import HostReading, host_samples, read_host
from foreshard.load.process import ProcessReading, leads_here, postmaster_of, process_samples, read_process
from foreshard.load.source import Collected, Reading, Shard, Visit

IO = "io_bytes_per_s"
OF_PROCESSES = frozenset({"cpu_cores", "memory_bytes", IO})
OF_HOST = OF_PROCESSES | {"io_ops_per_s", "net_bytes_per_s"}

_PROCESS: TypeAdapter[ProcessReading] = TypeAdapter(ProcessReading)
_HOST: TypeAdapter[HostReading] = TypeAdapter(HostReading)


class MachineSource:
    """CPU, memory and I/O of servers on this machine.

    Of a shard named in ``whole_machine`` they are the host's, and its network's bytes with them. Of another whose DSN
    leads here they are those of the server's processes. Bytes of I/O can be read of our own processes and by root only:
    the first reading decides whether they come from here or from PostgreSQL, for as long as the DSN stays the same. Of
    servers elsewhere nothing can be known from here, and of one that several shards share nothing is any shard's.
    """

    name = "machine"

    def __init__(self, whole_machine: Collection[str] = ()) -> None:
        self._whole_machine = frozenset(whole_machine)

    def owns(self, shard: Shard, reading: Reading | None) -> frozenset[str]:
        """As `LoadSource`. Before the first reading everything that it may come to own."""
        if shard.name in self._whole_machine:
            return OF_HOST
        if not leads_here(shard.dsn):
            return frozenset()
        return OF_PROCESSES - {IO} if _io_is_ours(shard, reading) is False else OF_PROCESSES

    def collect(self, visit: Visit, before: Reading | None) -> Collected:
        """As `LoadSource`; raises ShardUnavailable and NotFound."""
        whole = visit.shard.name in self._whole_machine
        if not visit.alone or not (whole or leads_here(visit.shard.dsn)):
            note = f"{visit.shard.name} is in load.whole_machine, but not the only shard on its server"
            return Collected({}, [], (note,) if whole else ())
        postmaster = postmaster_of(visit.server())
        if not whole:
            return self._processes(visit, postmaster, before)
        if postmaster is None:
            raise ShardUnavailable(
                f"{visit.shard.name} does not run on this machine.",
                remedy="Take it out of load.whole_machine, or collect where it runs.",
                shard=visit.shard.name,
            )
        return self._host(visit, before)

    def _host(self, visit: Visit, before: Reading | None) -> Collected:
        late = read_host(visit.now())
        early = _HOST.validate_python(before["host"]) if before is not None and "host" in before else None
        samples = host_samples(visit.shard.name, visit.ts, early, late, visit.covered_until)
        return Collected({"host": _HOST.dump_python(late, mode="json")}, samples)

    def _processes(self, visit: Visit, postmaster: int | None, before: Reading | None) -> Collected:
        ours = _io_is_ours(visit.shard, before)
        if postmaster is None:  # a tunnel, or a container that we cannot look into
            if before is not None and "process" in before:
                raise ShardUnavailable(f"The processes of {visit.shard.name} are not seen any more.")
            return Collected({"dsn": visit.shard.dsn, "io": bool(ours)}, [])
        late = read_process(postmaster, visit.shard.name, visit.now())
        if ours is None:
            ours = late.io_bytes is not None
        early = None
        if before is not None and "process" in before:
            early = _PROCESS.validate_python(before["process"])
        samples = process_samples(visit.shard.name, visit.ts, early, late, visit.covered_until)
        reading = {"dsn": visit.shard.dsn, "io": ours, "process": _PROCESS.dump_python(late, mode="json")}
        return Collected(reading, [sample for sample in samples if ours or sample.metric != IO])


def _io_is_ours(shard: Shard, reading: Reading | None) -> bool | None:
    """What an earlier reading of the same DSN settled; None: nothing."""
    return bool(reading["io"]) if reading is not None and reading.get("dsn") == shard.dsn else None
