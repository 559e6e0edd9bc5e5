"""A small network, fitted on the spot to what the real game shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

HIDDEN, BATCH, RATE, DECAY = 32, 256, 1e-2, 1.0


class Fitted:
    """Two hidden layers on standardised inputs (n, F); answers (n, O) float64."""

    def __init__(self, net: nn.Module, middle: np.ndarray, width: np.ndarray) -> None:
        self.net, self.middle, self.width = net, middle, width

    @torch.no_grad()
    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        scaled = np.asarray((inputs - self.middle) / self.width, np.float32)
        return self.net(torch.from_numpy(scaled)).double().numpy()


def fit(
    inputs: np.ndarray,
    outputs: int,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    steps: int,
    seed: int,
) -> Fitted:
    """Fit to inputs (n, F). loss: (answers (B, O), rows (B,) of the inputs) -> scalar. The same seed, the same network.

    Adam under one cycle of the learning rate. An input that hardly varies is not blown up: its spread counts as
    1/20 of the widest at least.
    """
    middle = inputs.mean(axis=0)
    spread = inputs.std(axis=0)
    width = np.maximum(spread, 0.05 * spread.max() + 1e-6)
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(inputs.shape[1], HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, outputs)
    )
    initialise(net, generator)
    scaled = torch.from_numpy(np.asarray((inputs - middle) / width, np.float32))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for _ in range(steps):
        rows = torch.randint(len(scaled), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss(net(scaled[rows]), rows).backward()
        optimizer.step()
        schedule.step()
    return Fitted(net, middle, width)


def initialise(net: nn.Module, generator: torch.Generator) -> None:
    """Change a network's weights to fresh random ones, its biases to 0, by the generator alone."""
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
            nn.init.zeros_(layer.bias)
