"""Global models: fitted to all series together, kept for the day when a fit fails."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from foreshard.forecast.backtest import past_origins
from foreshard.forecast.forecast_options import ForecastOptions
from foreshard.forecast.history import History
from foreshard.forecast.models.candidates import GLOBAL, KeptFit
from foreshard.forecast.panel import Panel
from foreshard.forecast.prepared import prepared

_PAST = "/past"

THREADS = 2
"""Fits at the same time, of one thread each."""


@dataclass(frozen=True)
class Trained:
    """What was learnt from all series together.

    ``present``: by model, fitted to everything; ``past``: fitted to what was known at the first of the past origins,
    by which the model is judged. ``notes`` say what went wrong.
    """

    present: Mapping[str, KeptFit] = field(default_factory=dict)
    past: Mapping[str, KeptFit] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fresh: frozenset[str] = frozenset()

    def kept(self) -> dict[str, bytes]:
        """What was fitted anew, for the day when a fit fails: ``train`` takes it back."""
        return {
            f"{name}{part}": fits[name].to_bytes()
            for part, fits in (("", self.present), (_PAST, self.past))
            for name in sorted(self.fresh & fits.keys())
        }


def train(panel: Panel, options: ForecastOptions, kept: Mapping[str, bytes] | None = None) -> Trained:
    """Fit the global models among the candidates.

    Where a fit fails, its last known good one (``kept``) takes its place; without one the model does not compete.
    """
    kept = kept or {}
    names = [name for name in options.models if name in GLOBAL]
    if not names:
        return Trained()
    history = History(prepared(panel, options.horizon).panel)
    ends = [panel.steps, *past_origins(panel, options.horizon, options.origins)[:1]]
    present: dict[str, KeptFit] = {}
    past: dict[str, KeptFit] = {}
    notes: list[str] = []
    fresh = set()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="fit") as pool:
        fits = {
            name: [
                pool.submit(GLOBAL[name]().fit, history.seen(end), options.horizon, options.seed)
                for end in ends
            ]
            for name in names
        }
    for name in names:
        now: KeptFit | None
        then: KeptFit | None
        try:
            now, then = [*(fit.result() for fit in fits[name]), None][:2]
            fresh.add(name)
        except Exception as failure:  # of any library: the other models go on
            now, then, note = _last_known_good(name, kept, failure)
            notes.append(note)
        if now is not None:
            present[name] = now
        if then is not None:
            past[name] = then
    return Trained(present, past, tuple(notes), frozenset(fresh))


def restored(kept: Mapping[str, bytes], models: Collection[str] = tuple(GLOBAL)) -> Trained:
    """The global ``models`` as ``Trained.kept`` wrote them, to forecast other series of the same fleet without a fit.

    What was never kept is not there; what cannot be read is in the notes.
    """
    present: dict[str, KeptFit] = {}
    past: dict[str, KeptFit] = {}
    notes = []
    for name in models:
        if name in kept and f"{name}{_PAST}" in kept:
            try:
                model = GLOBAL[name]()
                present[name], past[name] = model.restored(kept[name]), model.restored(kept[f"{name}{_PAST}"])
            except Exception as broken:  # what was kept by another version of its library
                present.pop(name, None)
                notes.append(f"the last fit of {name} cannot be read ({broken})")
    return Trained(present, past, tuple(notes))


def _last_known_good(
    name: str, kept: Mapping[str, bytes], failure: Exception
) -> tuple[KeptFit | None, KeptFit | None, str]:
    why = f"{name} could not be fitted ({type(failure).__name__}: {failure})"
    earlier = restored(kept, [name])
    if name in earlier.present:
        return earlier.present[name], earlier.past[name], f"{why}: the last known good fit stands in"
    return (
        None,
        None,
        "; ".join([f"{why} and does not compete", *(earlier.notes or ["no earlier fit was kept"])]),
    )
