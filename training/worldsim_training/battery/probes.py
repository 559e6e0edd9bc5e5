"""State probes: the game's own state, read from frames by a small network that is fitted on real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from worldsim_envs.games import Game
from worldsim_training import metrics
from worldsim_training.battery.fitting import initialise
from worldsim_training.battery.futures import SAMPLES, Futures
from worldsim_training.battery.simulator import Played
from worldsim_training.battery.traces import Trace

LEAST_REAL_R2 = 0.8
"""A number of the state is not scored where the probe explains less of it on real held-out frames."""
FIT_STEPS, BATCH, RATE = 1200, 32, 1e-2
HIDDEN, MAPS, SHARPNESS = 16, 24, 4.0


@dataclass(frozen=True)
class Probe:
    """Frames -> state, in the state's own units."""

    names: tuple[str, ...]
    net: nn.Module
    middle: np.ndarray
    width: np.ndarray

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """State (..., S) float64 of frames (..., H, W, 3) uint8."""
        return _in_parts(self.net, frames) * self.width + self.middle

    def features(self, frames: np.ndarray) -> np.ndarray:
        """What the network makes of frames (..., H, W, 3) uint8 before it tells the state: (..., F) float64."""
        return _in_parts(self.net.features, frames)


class Attention(nn.Module):
    """Frames (B, H, W, 3) uint8 -> (B, S): every map looks at one kind of pixels and tells where their middle is.

    The middle is that of a softmax over the picture (spatial softmax, Finn et al. 2016): few weights, and places that
    it has seen little of are read as well as the others.
    """

    def __init__(self, height: int, width: int, outputs: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, HIDDEN, 3, padding=1), nn.SiLU(), nn.Conv2d(HIDDEN, MAPS, 1)
        )
        self.tell = nn.Linear(2 * MAPS, outputs)
        rows, columns = torch.linspace(-1, 1, height // 2), torch.linspace(-1, 1, width // 2)
        self.register_buffer("places", torch.cartesian_prod(rows, columns))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.tell(self._middles(self.look(_pixels(frames))))

    def features(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, F): the middles of the maps, and mean and spread over the picture of what the maps are made of."""
        *first, last = self.look
        texture = nn.Sequential(*first)(_pixels(frames))
        return torch.cat([self._middles(last(texture)), texture.mean(dim=(2, 3)), texture.std(dim=(2, 3))], dim=1)

    def _middles(self, maps: torch.Tensor) -> torch.Tensor:
        weights = (SHARPNESS * maps.flatten(2)).softmax(dim=-1)
        return 2 * (weights @ self.places).flatten(1)


def fit_probe(game: Game, traces: Sequence[Trace], *, seed: int, steps: int = FIT_STEPS) -> Probe:
    """Fit on real traces. ValueError in a game that does not tell its state."""
    if not game.state_names or traces[0].states is None:
        raise ValueError(f"{game.name} does not tell its state (Game.visible_state)")
    frames, states = (np.concatenate(each) for each in zip(*((one.frames, one.states) for one in traces), strict=True))
    middle, width = np.nanmean(states, axis=0), np.nanstd(states, axis=0)
    targets = torch.from_numpy(np.asarray((states - middle) / width, np.float32))
    generator = torch.Generator().manual_seed(seed)
    net = Attention(game.height, game.width, len(middle))
    initialise(net, generator)
    _fit(net, torch.from_numpy(frames), targets, steps, generator)
    return Probe(game.state_names, net.eval(), middle, width)


def _fit(net: nn.Module, frames: torch.Tensor, targets: torch.Tensor, steps: int, generator: torch.Generator) -> None:
    """Change the network to tell the targets (n, S) of frames (n, H, W, 3); NaN is not asked for."""
    known = ~torch.isnan(targets)
    targets = torch.where(known, targets, 0.0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for _ in range(steps):
        rows = torch.randint(len(frames), (BATCH,), generator=generator)
        off = (net(frames[rows]) - targets[rows]).abs() * known[rows]
        optimizer.zero_grad()
        (off.sum() / known[rows].sum().clamp(min=1)).backward()
        optimizer.step()
        schedule.step()


def real_fit(probe: Probe, futures: Futures) -> dict[str, float]:
    """R^2 of the probe for every number of the state, on real held-out frames; ValueError where it reads none well."""
    read = probe(futures.real.frames).reshape(-1, len(probe.names))
    truth = futures.states.reshape(-1, len(probe.names))
    fits = {name: metrics.determination(truth[:, i], read[:, i]) for i, name in enumerate(probe.names)}
    if not any(value >= LEAST_REAL_R2 for value in fits.values()):
        said = ", ".join(f"{value:.2f} of {name}" for name, value in fits.items())
        raise ValueError(f"on real frames the probe explains {said}; it takes {LEAST_REAL_R2} of one of them")
    return fits


def locator(
    probe: Probe, fits: dict[str, float], wanted: Callable[[str], bool]
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Frames -> the numbers of the state with a wanted name that the probe reads well; None where there is none."""
    columns = [i for i, name in enumerate(probe.names) if wanted(name) and fits[name] >= LEAST_REAL_R2]
    return (lambda frames: probe(frames)[..., columns]) if columns else None


def score_probes(
    probe: Probe,
    fits: dict[str, float],
    futures: Futures,
    played: Played,
    horizons: Sequence[int],
    rng: np.random.Generator,
) -> dict[str, float | str]:
    """For each number of the state r = MAE on the simulator's frames / MAE on the real ones, at each horizon.

    1 for a perfect simulator. MAE against the real state under the same actions, in its units. fits: `real_fit`; a
    number below 0.8 gets no figure and is named under `probe_refused`.
    """
    sound = [name for name, value in fits.items() if value >= LEAST_REAL_R2]
    at = np.array(horizons) - 1
    truth = futures.states[:, 0, at]
    own, real, still = (
        np.abs(probe(frames) - truth)
        for frames in (played.frames[:, 0, at], futures.real.frames[:, 0, at], futures.past.frames[:, -1:])
    )
    out: dict[str, float | str] = {f"probe_real_r2_{name}": value for name, value in fits.items()}
    for i, name in enumerate(probe.names):
        for j, h in enumerate(horizons) if name in sound else ():
            pair, key = (own[:, j, i], real[:, j, i]), f"probe_ratio_{h}_{name}"
            low, high = metrics.bootstrap_interval(_ratio, futures.episodes, *pair, rng=rng, samples=SAMPLES)
            out |= {key: _ratio(*pair), f"{key}_low": low, f"{key}_high": high}
            out |= {f"probe_mae_{h}_{name}": _mean(pair[0]), f"probe_mae_still_{h}_{name}": _mean(still[:, j, i])}
    for h in horizons:
        out[f"probe_ratio_{h}_worst"] = max(out[f"probe_ratio_{h}_{name}"] for name in sound)
    refused = [name for name in probe.names if name not in sound]
    return out | ({"probe_refused": ", ".join(refused)} if refused else {})


@torch.no_grad()
def _in_parts(read: Callable[[torch.Tensor], torch.Tensor], frames: np.ndarray) -> np.ndarray:
    """Answers (..., F) float64 on frames (..., H, W, 3) uint8, some hundred at a time."""
    flat = torch.from_numpy(np.ascontiguousarray(frames.reshape(-1, *frames.shape[-3:])))
    told = torch.cat([read(part) for part in flat.split(256)]).double().numpy()
    return told.reshape(*frames.shape[:-3], -1)


def _pixels(frames: torch.Tensor) -> torch.Tensor:
    return frames.movedim(-1, 1).float() / 127.5 - 1


def _ratio(own: np.ndarray, real: np.ndarray) -> float:
    return _mean(own) / max(_mean(real), 1e-9)


def _mean(errors: np.ndarray) -> float:
    """Mean over the rows that are known; NaN where none is."""
    known = errors[~np.isnan(errors)]
    return float(known.mean()) if len(known) else float("nan")
