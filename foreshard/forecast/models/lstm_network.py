"""The network of the LSTM model and its training. Imports torch: only ``lstm`` imports this, and only when asked to."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from foreshard.forecast.band import QUANTILES

Floats32 = npt.NDArray[np.float32]

THREADS = 1
"""A small network gains little from a second one, and beside other work two wait for each other: ten times slower."""
STATE = 40
HIDDEN = 64
BATCH = 256
PATIENCE = 3  # epochs without a better loss on the newest windows, after which training ends
RATE = 2e-3

_MEDIAN = QUANTILES.index(0.5)


@dataclass(frozen=True)
class Sizes:
    """``patch`` steps make one of the LSTM's inputs; ``candidates`` and ``calendar``: values for each future step."""

    patch: int
    candidates: int
    calendar: int


@dataclass(frozen=True)
class Windows:
    """Inputs of some windows, all on the log scale, with zeros in gaps; ``truth`` is empty when it is not known.

    ``past``, (windows, patches, 2 x patch): values and which of them are known. ``candidates``, (windows, steps, c):
    earlier values that each future step may be like, NaN where unknown. ``calendar``, (windows, steps, k).
    ``truth``, (windows, steps), NaN where unknown.
    """

    past: Floats32
    candidates: Floats32
    calendar: Floats32
    truth: Floats32


class Network(nn.Module):
    """An LSTM reads the past; for each future step a perceptron mixes the candidates, shifts and spreads them.

    The median is a weighted mean of the candidates, plus a shift; the quantiles beside it are apart by softplus of
    what the perceptron says, so they cannot cross.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = nn.LSTM(2 * sizes.patch, STATE, batch_first=True)
        self.decoder = nn.Sequential(
            nn.Linear(STATE + 2 * sizes.candidates + sizes.calendar, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, sizes.candidates + len(QUANTILES)),
        )

    def forward(self, past: torch.Tensor, candidates: torch.Tensor, calendar: torch.Tensor) -> torch.Tensor:
        """Quantiles on the log scale, shape (windows, steps, 7)."""
        _, (state, _) = self.encoder(past)
        known = torch.isfinite(candidates)
        values = torch.where(known, candidates, torch.zeros_like(candidates))
        state = state[-1][:, None].expand(-1, candidates.shape[1], -1)
        said = self.decoder(torch.cat([state, values, known.float(), calendar], dim=-1))
        # A large negative number and not infinity: where nothing is known, weights are even and values zero.
        weights = torch.softmax(said[..., len(QUANTILES) :].masked_fill(~known, -1e4), dim=-1)
        median = (weights * values).sum(dim=-1, keepdim=True) + said[..., :1]
        apart = nn.functional.softplus(said[..., 1 : len(QUANTILES)] - 2.0)
        below = median - torch.cumsum(apart[..., :_MEDIAN], dim=-1).flip(-1)
        above = median + torch.cumsum(apart[..., _MEDIAN:], dim=-1)
        return torch.cat([below, median, above], dim=-1)


def train(
    sizes: Sizes,
    draw: Callable[[np.random.Generator], Windows],
    newest: Iterator[Windows],
    epochs: int,
    batches: int,
    seed: int,
) -> bytes:
    """A network trained for at most ``epochs`` of ``batches`` batches, saved.

    ``draw`` makes a batch of training windows, ``newest`` those that say when to stop.
    """
    rng = np.random.default_rng(seed)
    with _threads(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(sizes)
        optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
        held_out = list(newest)
        best, best_state, since = np.inf, copy.deepcopy(network.state_dict()), 0
        for _ in range(epochs):
            network.train()
            for _ in range(batches):
                loss = _loss(network, draw(rng))
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
            network.eval()
            with torch.no_grad():
                now = float(np.mean([_loss(network, windows).item() for windows in held_out]))
            if now < best:
                best, best_state, since = now, copy.deepcopy(network.state_dict()), 0
            else:
                since += 1
                if since == PATIENCE:
                    break
    saved = io.BytesIO()
    torch.save({"sizes": asdict(sizes), "weights": best_state}, saved)
    return saved.getvalue()


def load(saved: bytes) -> Network:
    """The network that ``train`` saved; reads tensors and numbers and runs no code."""
    read = torch.load(io.BytesIO(saved), weights_only=True)
    network = Network(Sizes(**read["sizes"]))
    network.load_state_dict(read["weights"])
    network.eval()
    return network


def predict(network: Network, windows: Windows) -> Floats32:
    """Quantiles on the log scale, shape (windows, steps, 7)."""
    with _threads(), torch.no_grad():
        quantiles: Floats32 = network(*_tensors(windows)).numpy()
    return quantiles


def _tensors(windows: Windows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.from_numpy(windows.past),
        torch.from_numpy(windows.candidates),
        torch.from_numpy(windows.calendar),
    )


def _loss(network: Network, windows: Windows) -> torch.Tensor:
    """Mean pinball loss of the steps whose truth is known."""
    truth = torch.from_numpy(windows.truth)[..., None]
    known = torch.isfinite(truth)
    error = torch.where(known, truth, torch.zeros_like(truth)) - network(*_tensors(windows))
    levels = torch.tensor(QUANTILES, dtype=error.dtype)
    pinball = torch.maximum(levels * error, (levels - 1) * error) * known
    return pinball.sum() / (known.sum().clamp(min=1) * len(QUANTILES))


@contextmanager
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before)
