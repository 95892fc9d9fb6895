"""How busy a source on this machine is, as a copy from it sees it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from psycopg.conninfo import make_conninfo

from foreshard.migration.copying import utilisation
from foreshard.migration.copying.utilisation import SourceUse
from tests.integration.breakable_proxy import BreakableProxy
from tests.integration.moving_fleet import MovingFleet


@dataclass
class HeardPace:
    """Remembers what it was told of the source."""

    uses: list[float] = field(default_factory=list)

    def begin(self, bytes_per_s: float) -> None:
        del bytes_per_s

    def follow(self, use: float, limit: float, present_bytes_per_s: float) -> None:
        del limit, present_bytes_per_s
        self.uses.append(use)


def test_behind_a_tunnel_the_source_is_measured_and_not_the_tunnel(fleet: MovingFleet) -> None:
    """The tunnel is this process: at rest while the server works."""
    server = fleet.pair.source.server
    with fleet.runner() as runner, BreakableProxy(server.port) as tunnel:
        server.passwords.copy_port(server.port, tunnel.port)
        work = runner.work
        dsn = make_conninfo(work.source.dsn, port=tunnel.port)
        work.source = replace(work.source, dsn=dsn, capacity={utilisation.CPU: 1.0})
        use, pace = SourceUse(work), HeardPace()
        use.begin(pace)  # type: ignore[arg-type]
        with fleet.pair.source.connect() as conn:
            conn.execute("SELECT sum(sqrt(n)) FROM generate_series(1, 4000000) AS n")
        use.follow(pace, 0.0)  # type: ignore[arg-type]
    assert len(pace.uses) == 1
    assert pace.uses[0] > 0.1
