"""How long a migration is expected to take, part by part, and by which rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from foreshard.planning.learnt_rates import LearntRates
from foreshard.planning.policy import DecisionPolicy


@dataclass(frozen=True)
class Prediction:
    """Seconds of each part; ``rates`` says in words which rates were used, and where they are from.

    ``index_s`` is 0 where the copy's rate is the policy's: that one is of the whole backfill. ``pause_ms``: write pause
    of all flips.
    """

    bytes: int
    copy_s: float
    index_s: float
    catch_up_s: float
    verify_s: float
    soak_s: float
    margin_s: float
    pause_ms: float
    rates: tuple[str, ...]

    @staticmethod
    def read(stored: Mapping[str, Any]) -> Prediction | None:
        """One that a plan was stored with; None if it is of another version: no migration ends in an error for it."""
        try:
            return _STORED.validate_python(dict(stored))
        except ValidationError:
            return None

    @property
    def backfill_s(self) -> float:
        """Copy and indexes."""
        return self.copy_s + self.index_s

    @property
    def work_s(self) -> float:
        """The whole migration without margin, and without the time that people take to answer."""
        return self.backfill_s + self.catch_up_s + self.verify_s + self.soak_s

    @property
    def total_s(self) -> float:
        """With margin: what a timeline reckons with."""
        return self.work_s + self.margin_s


_STORED = TypeAdapter(Prediction)


def predict(
    source: str, target: str, size_bytes: int, learnt: LearntRates, policy: DecisionPolicy
) -> Prediction:
    """What moving ``size_bytes`` from ``source`` to ``target`` is expected to take."""
    copy = learnt.copy_bytes_per_s(source, target, policy.copy_bytes_per_s)
    index = learnt.index_bytes_per_s(source, target) if copy.learnt else None
    catch_up = learnt.catch_up_s(source, target, policy.catch_up_s)
    verify = learnt.verify_bytes_per_s(source, target, policy.verify_bytes_per_s)
    pause = learnt.pause_s(source, target, policy.expected_pause_s)
    rates = [f"copy {_mb_per_s(copy.value)} ({copy.origin})"]
    if index is not None:
        rates.append(f"indexes {_mb_per_s(index.value)} ({index.origin})")
    rates += [
        f"catch-up {catch_up.value:.0f} s ({catch_up.origin})",
        f"verification {_mb_per_s(verify.value)} ({verify.origin})",
        f"write pause {pause.value * 1000:.3g} ms ({pause.origin})",
    ]
    return Prediction(
        bytes=size_bytes,
        copy_s=size_bytes / copy.value,
        index_s=0.0 if index is None else size_bytes / index.value,
        catch_up_s=catch_up.value,
        verify_s=size_bytes / verify.value,
        soak_s=policy.soak_s,
        margin_s=policy.margin_s,
        pause_ms=pause.value * 1000,
        rates=tuple(rates),
    )


def _mb_per_s(rate: float) -> str:
    return f"{rate / 1e6:.3g} MB/s"
