"""How well a server's CPU and I/O are attributed to buckets of known mix; a part of `benchmarks.bench_load`.

<metric>.<bucket>                 share of the server's load by attribution, and as the bucket's own backends used it
<metric>.own                      what is no bucket's: truly, the server's background processes
<metric>.worst_error_pct_points   largest difference of the two, of the whole load
<metric>.r_squared                of windows that were left out of the fit
"""

from __future__ import annotations

from foreshard.fleet.throwaway import ThrowawayServers
from tests.integration.mixed_load import measure

WINDOWS = 40
WINDOW_S = 1.5


def attribution_figures() -> dict[str, object]:
    """About 75 seconds of load on a server of its own."""
    with ThrowawayServers() as servers:
        found = measure(servers.new_shard("source"), WINDOWS, WINDOW_S)
    return {name: value for one in found for name, value in one.figures().items()}
