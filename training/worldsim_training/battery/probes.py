"""State probes: the game's own state, read from frames by a small network that is fitted on real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from worldsim_envs.games import Game
from worldsim_training import metrics
from worldsim_training.battery.fitting import Fitted, fit
from worldsim_training.battery.futures import Futures
from worldsim_training.battery.simulator import Played
from worldsim_training.battery.traces import Trace

LEAST_REAL_R2 = 0.8
"""A number of the state is not scored where the probe explains less of it on real held-out frames."""
FIT_STEPS = 1500


@dataclass(frozen=True)
class Probe:
    """Frames -> state. What it sees of a frame is how far each row and each column lie from the usual picture."""

    names: tuple[str, ...]
    background: np.ndarray
    """(H, W, 3) float32, the median picture."""
    fitted: Fitted
    middle: np.ndarray
    width: np.ndarray

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """State (..., S) float64 of frames (..., H, W, 3) uint8, in the state's own units."""
        flat = frames.reshape(-1, *frames.shape[-3:])
        read = np.concatenate(
            [self.fitted(profiles(part, self.background)) for part in np.array_split(flat, 1 + len(flat) // 256)]
        )
        return (read * self.width + self.middle).reshape(*frames.shape[:-3], -1)


def profiles(frames: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Means over rows and over columns of what is brighter and of what is darker than the background, (n, F) float32."""
    off = frames.astype(np.float32) - background
    parts = [
        part.mean(axis=axis).reshape(len(frames), -1)
        for part in (np.maximum(off, 0), np.maximum(-off, 0))
        for axis in (1, 2)
    ]
    return np.concatenate(parts, axis=1)


def fit_probe(game: Game, traces: Sequence[Trace], *, seed: int) -> Probe:
    """Fit on real traces. ValueError in a game that does not tell its state."""
    if not game.state_names or traces[0].states is None:
        raise ValueError(f"{game.name} does not tell its state (Game.state)")
    frames, states = (np.concatenate(each) for each in zip(*((one.frames, one.states) for one in traces), strict=True))
    background = np.median(frames[:: max(1, len(frames) // 500)], axis=0).astype(np.float32)
    middle, width = np.nanmean(states, axis=0), np.nanstd(states, axis=0)
    targets = torch.from_numpy(np.asarray((states - middle) / width, np.float32))
    known = ~torch.isnan(targets)
    targets = torch.where(known, targets, 0.0)

    def loss(answers: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        off = (answers - targets[rows]) * known[rows]
        return off.abs().sum() / known[rows].sum()

    inputs = np.concatenate([profiles(part, background) for part in np.array_split(frames, 1 + len(frames) // 256)])
    return Probe(
        game.state_names, background, fit(inputs, len(middle), loss, steps=FIT_STEPS, seed=seed), middle, width
    )


def sound_names(probe: Probe, futures: Futures) -> tuple[list[str], dict[str, float]]:
    """The numbers that the probe reads well on real held-out frames, and its R^2 for every number."""
    read = probe(futures.real.frames).reshape(-1, len(probe.names))
    truth = futures.states.reshape(-1, len(probe.names))
    scores = {name: metrics.determination(truth[:, i], read[:, i]) for i, name in enumerate(probe.names)}
    return [name for name, score in scores.items() if score >= LEAST_REAL_R2], scores


def score_probes(
    probe: Probe, futures: Futures, played: Played, horizons: Sequence[int], rng: np.random.Generator
) -> dict[str, float | str]:
    """For each number of the state r = MAE on the simulator's frames / MAE on the real ones, at each horizon.

    1 for a perfect simulator. MAE against the real state under the same actions, in the state's units. A number that the
    probe cannot read off real frames gets no figure and is named under `probe_refused`. ValueError where none can be.
    """
    sound, fits = sound_names(probe, futures)
    if not sound:
        raise ValueError(f"on real frames the probe explains {_said(fits)} of the state; it takes {LEAST_REAL_R2}")
    at = np.array(horizons) - 1
    truth = futures.states[:, 0, at]
    own, real = (np.abs(probe(each.frames[:, 0, at]) - truth) for each in (played, futures.real))
    out: dict[str, float | str] = {f"probe_real_r2_{name}": value for name, value in fits.items()}
    for i, name in enumerate(probe.names):
        for j, h in enumerate(horizons) if name in sound else ():
            pair = own[:, j, i], real[:, j, i]
            low, high = metrics.bootstrap_interval(_ratio, futures.episodes, *pair, rng=rng, samples=200)
            key = f"probe_ratio_{h}_{name}"
            out |= {key: _ratio(*pair), f"{key}_low": low, f"{key}_high": high}
            out[f"probe_mae_{h}_{name}"] = float(np.nanmean(pair[0]))
    worst = {h: max(out[f"probe_ratio_{h}_{name}"] for name in sound) for h in horizons}
    out |= {f"probe_ratio_{h}_worst": value for h, value in worst.items()}
    refused = [name for name in probe.names if name not in sound]
    return out | ({"probe_refused": ", ".join(refused)} if refused else {})


def _ratio(own: np.ndarray, real: np.ndarray) -> float:
    return float(np.nanmean(own) / max(np.nanmean(real), 1e-9))


def _said(fits: dict[str, float]) -> str:
    return ", ".join(f"{value:.2f} of {name}" for name, value in fits.items())
