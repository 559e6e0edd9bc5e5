"""FD-self: how far a simulator's frames are from the real ones in what the game's own probe makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldsim_training import metrics
from worldsim_training.battery.futures import Futures
from worldsim_training.battery.probes import Probe
from worldsim_training.battery.simulator import Played

LEAST_ROWS = 2000
"""Fewer frames give no distance worth the name."""


@dataclass(frozen=True)
class Looks:
    """What real frames look like to the probe: components of its features and of their change to the next frame."""

    probe: Probe
    white: metrics.Whitening
    real: np.ndarray
    """(n, T-1, K) components of the real windows."""
    floor: float
    """Distance of one half of the real windows from the other."""

    def components(self, frames: np.ndarray) -> np.ndarray:
        """(n, T-1, K) of frames (n, T, H, W, 3) uint8."""
        return self.white(_features(self.probe, frames))


def check_amount(futures: Futures) -> None:
    """ValueError where recorded futures hold fewer than 2,000 frames, or one window of each episode only."""
    windows, steps = len(futures.episodes), futures.actions.shape[2]
    if windows * (steps - 1) < LEAST_ROWS:
        raise ValueError(f"{windows * (steps - 1)} real frames for the distance of features; it takes {LEAST_ROWS}")
    if _half(futures).max() == 0:
        raise ValueError("one window of each episode leaves no two halves to compare; draw more windows")


def real_looks(probe: Probe, futures: Futures) -> Looks:
    """Of the real frames of recorded futures."""
    features = _features(probe, futures.real.frames[:, 0])
    white = metrics.whitening(_rows(features))
    real, half = white(features), _half(futures)
    return Looks(probe, white, real, metrics.frechet_distance(*(_rows(real[half == k]) for k in (0, 1))))


def score_features(looks: Looks, futures: Futures, played: Played) -> dict[str, float]:
    """`fd_self`: Frechet distance of the simulator's frames from the real ones; `fd_share`: that over `fd_floor`.

    In squared units of the components, which have unit variance on real frames: comparable within one game and one fit
    of the probe only. Blind to control: a simulator that ignores the player may score well.
    """
    distance = metrics.frechet_distance(_rows(looks.components(played.frames[:, 0])), _rows(looks.real))
    return {"fd_self": distance, "fd_floor": looks.floor, "fd_share": distance / looks.floor}


def _half(futures: Futures) -> np.ndarray:
    """0 or 1 for each window (n,), so that windows of each episode lie in both halves."""
    return np.arange(len(futures.episodes)) // len(np.unique(futures.episodes)) % 2


def _features(probe: Probe, frames: np.ndarray) -> np.ndarray:
    """h_t and h_{t+1} - h_t side by side."""
    seen = probe.features(frames)
    return np.concatenate([seen[:, :-1], np.diff(seen, axis=1)], axis=-1)


def _rows(components: np.ndarray) -> np.ndarray:
    return components.reshape(-1, components.shape[-1])
