"""FD-self: how far a simulator's frames are from the real ones in what the game's own probe makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


def played_looks(looks: Looks, windows: Sequence[np.ndarray], count: int) -> Looks:
    """The same for real windows (T, H, W, 3) of one way to play; `count`: of rollouts whose ends are compared.

    A distance grows as rows get fewer. The floor is therefore that of so many of the windows from the others, the mean
    over as many draws as there are without a window twice. ValueError where the windows are not twice as many.
    """
    if len(windows) < 2 * count:
        raise ValueError(f"{len(windows)} real windows for the ends of {count} rollouts; it takes {2 * count}")
    real, draws = looks.components(np.stack(windows)), len(windows) // count
    turn = np.arange(len(windows)) % draws  # neighbours in an episode go to different draws
    floors = [metrics.frechet_distance(_rows(real[turn == k][:count]), _rows(real[turn != k])) for k in range(draws)]
    return replace(looks, real=real, floor=float(np.mean(floors)))


def score_ends(looks: Looks, ends: np.ndarray) -> dict[str, float]:
    """`end_fd_self`: Frechet distance of the last frames of rollouts (n, T, H, W, 3) from real frames so played, as
    `played_looks` gives them for n rollouts; `end_fd_share`: that over `end_fd_floor`."""
    distance = metrics.frechet_distance(_rows(looks.components(ends)), _rows(looks.real))
    return {"end_fd_self": distance, "end_fd_floor": looks.floor, "end_fd_share": distance / looks.floor}


def _half(futures: Futures) -> np.ndarray:
    """0 or 1 for each window (n,), so that windows of each episode lie in both halves."""
    return np.arange(len(futures.episodes)) // len(np.unique(futures.episodes)) % 2


def _features(probe: Probe, frames: np.ndarray) -> np.ndarray:
    """h_t and h_{t+1} - h_t side by side."""
    seen = probe.features(frames)
    return np.concatenate([seen[:, :-1], np.diff(seen, axis=1)], axis=-1)


def _rows(components: np.ndarray) -> np.ndarray:
    return components.reshape(-1, components.shape[-1])
