"""What a migration costs, in the units of risk: shares of capacity over the horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import Prediction


@dataclass(frozen=True)
class MigrationCost:
    """Capacity-seconds of both ends over capacity x horizon, part by part, but ``operator``, which is stated.

    ``copy``: reading on the source and writing on the target, then its indexes. ``wal``: the target's WAL.
    ``network``: the link of either end. ``pause``: seconds of refused writes. ``operator``: the people who watch.
    ``verify``: reading on both ends to compare them; 0 in plans stored before it was reckoned with.
    """

    copy: float
    wal: float
    network: float
    pause: float
    operator: float
    verify: float = 0.0

    @property
    def parts(self) -> Mapping[str, float]:
        """Every part by its name."""
        return asdict(self)

    @property
    def total(self) -> float:
        """The sum of the parts: the seed's ``migration_cost``."""
        return sum(self.parts.values())


def migration_cost(prediction: Prediction, horizon_s: float, policy: DecisionPolicy) -> MigrationCost:
    """Cost of the move that ``prediction`` is of, as part of a horizon of ``horizon_s`` seconds.

    A copy takes ``copy_load`` of an end as long as it runs, and so does a comparison; what they send takes the whole
    bandwidth while it is sent, and WAL the whole rate at which it can be written. How long each runs is learnt, once
    there is something to learn from, and so is the pause.
    """
    copying = 2 * prediction.copy_s + prediction.index_s
    return MigrationCost(
        copy=policy.copy_load * copying / horizon_s,
        wal=prediction.bytes / policy.wal_bytes_per_s / horizon_s,
        network=2 * prediction.bytes / policy.network_bytes_per_s / horizon_s,
        pause=prediction.pause_ms / 1000 / horizon_s,
        operator=policy.operator_overhead,
        verify=policy.copy_load * 2 * prediction.verify_s / horizon_s,
    )
