"""What a migration costs, in the units of risk: shares of capacity over the horizon."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.planning.policy import DecisionPolicy
from foreshard.planning.prediction import Prediction


@dataclass(frozen=True)
class MigrationCost:
    """The parts, each a share of one shard's capacity over the whole horizon, but ``operator``, which is
    stated.

    ``copy``: reading on the source and writing on the target, then its indexes. ``wal``: the target's WAL.
    ``network``: the link. ``pause``: seconds of refused writes. ``operator``: the people who watch.
    """

    copy: float
    wal: float
    network: float
    pause: float
    operator: float

    @property
    def total(self) -> float:
        """The sum of the parts: the seed's ``migration_cost``."""
        return self.copy + self.wal + self.network + self.pause + self.operator


def migration_cost(prediction: Prediction, horizon_s: float, policy: DecisionPolicy) -> MigrationCost:
    """Cost of the move that ``prediction`` is of, as part of a horizon of ``horizon_s`` seconds."""
    return MigrationCost(
        copy=policy.copy_load * (2 * prediction.copy_s + prediction.index_s) / horizon_s,
        wal=prediction.bytes / policy.wal_bytes_per_s / horizon_s,
        network=prediction.bytes / policy.network_bytes_per_s / horizon_s,
        pause=policy.expected_pause_s / horizon_s,
        operator=policy.operator_overhead,
    )
