"""The opponent's habits: does it move in the simulator as the real one does where things stand alike?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from worldsim_training import metrics
from worldsim_training.battery.fitting import Fitted, fit
from worldsim_training.battery.futures import SAMPLES, Futures
from worldsim_training.battery.simulator import Played
from worldsim_training.battery.traces import Trace

Locate = Callable[[np.ndarray], np.ndarray]
"""Frames (..., H, W, 3) uint8 -> places (..., 2 + 2 + D): the player's, the opponent's, then whatever else is known."""

STILL_PIXELS = 0.5
"""A move by less has no direction."""
FIT_STEPS = 600
LEAST_LIFT = 0.25
"""The instrument is refused where, on real frames, it mends less of what guessing the commonest move gets wrong."""
CELL_EDGES = (-12.0, -4.0, 4.0, 12.0)
"""Pixels from the opponent to the player, in x and in y, at which one situation ends and another begins."""


@dataclass(frozen=True)
class Moves:
    """n moments at which player and opponent were seen: what was known (n, F), and the class of the next move (n,)."""

    known: np.ndarray
    moves: np.ndarray
    cells: np.ndarray
    """(n,) where the player stood as seen from the opponent, one of 25."""
    windows: np.ndarray
    """(n,) the window that each is from."""


def moves_in(locate: Locate, frames: np.ndarray) -> Moves:
    """The opponent's moves in frames (n, T, H, W, 3); those next to a frame without player or opponent do not count."""
    places = locate(frames)
    now, before, after = places[:, 1:-1], places[:, :-2], places[:, 2:]
    step = after[..., 2:4] - now[..., 2:4]
    ways = (step > STILL_PIXELS).astype(int) - (step < -STILL_PIXELS)
    apart = now[..., :2] - now[..., 2:4]
    known = np.concatenate([now, now - before, apart], axis=-1)
    cells = [np.digitize(apart[..., axis], CELL_EDGES) for axis in (0, 1)]
    counted = ~np.isnan(np.concatenate([before, now, after], axis=-1)[..., _actors(places.shape[-1])]).any(axis=-1)
    windows = np.broadcast_to(np.arange(len(frames))[:, None], counted.shape)
    return Moves(
        np.nan_to_num(known[counted]),  # a ball that is not in play stands at 0, which the network can learn
        (3 * ways[..., 0] + ways[..., 1])[counted] + 4,
        (cells[0] * (len(CELL_EDGES) + 1) + cells[1])[counted],
        windows[counted],
    )


def fit_predictor(locate: Locate, traces: Sequence[Trace], *, seed: int) -> Fitted:
    """A small network that tells the opponent's next move from places and their last change, fitted on real frames."""
    parts = [moves_in(locate, trace.frames[None]) for trace in traces]
    known, moves = (np.concatenate(each) for each in zip(*((one.known, one.moves) for one in parts), strict=True))
    if len(moves) == 0:
        raise ValueError("player and opponent are never seen together in real frames")
    classes = torch.from_numpy(moves)
    return fit(known, 9, lambda answers, rows: F.cross_entropy(answers, classes[rows]), steps=FIT_STEPS, seed=seed)


def check_predictor(predictor: Fitted, real: Moves) -> dict[str, float]:
    """Its accuracy on real held-out frames and that of the commonest move; ValueError where it knows little more."""
    accuracy, commonest = float(_right(predictor, real).mean()), np.bincount(real.moves).max() / len(real.moves)
    if accuracy < commonest + LEAST_LIFT * (1 - commonest):
        raise ValueError(
            f"on real frames the opponent's next move is foretold with {accuracy:.2f}, {commonest:.2f} by the commonest"
            f" move alone; it takes {commonest + LEAST_LIFT * (1 - commonest):.2f}"
        )
    return {"opponent_real_accuracy": accuracy, "opponent_commonest": float(commonest)}


def score_opponent(
    predictor: Fitted,
    locate: Locate,
    told: dict[str, float],
    real: Moves,
    futures: Futures,
    played: Played,
    rng: np.random.Generator,
) -> dict[str, float]:
    """`opponent_ratio`: accuracy of the predictor on the simulator's frames over that on the real ones.

    1 for an opponent that follows the real one's habits; a still one is easily foretold, too, so the next belongs to
    it. `opponent_habits`: how differently it moves where the player stands alike (`metrics.histogram_distance`), and
    `opponent_habits_floor`: the same between two halves of the real windows. real: `moves_in` the real frames;
    told: what `check_predictor` answered.
    """
    shown = moves_in(locate, played.frames[:, 0])
    half = real.windows // len(np.unique(futures.episodes)) % 2  # windows of each episode lie in both halves
    out = dict(told)
    if len(shown.moves) == 0:
        return out | {"opponent_ratio": float("nan"), "opponent_habits": float("nan")}
    right, base = _right(predictor, shown), told["opponent_real_accuracy"]
    low, high = metrics.bootstrap_interval(np.mean, futures.episodes[shown.windows], right, rng=rng, samples=SAMPLES)
    sides = [each[half == k] for k in (0, 1) for each in (real.moves, real.cells)]
    return out | {
        "opponent_ratio": float(right.mean()) / base,
        "opponent_ratio_low": low / base,
        "opponent_ratio_high": high / base,
        "opponent_habits": metrics.histogram_distance(shown.moves, shown.cells, real.moves, real.cells),
        "opponent_habits_floor": metrics.histogram_distance(*sides),
    }


def _right(predictor: Fitted, moves: Moves) -> np.ndarray:
    return predictor(moves.known).argmax(axis=1) == moves.moves


def _actors(width: int) -> np.ndarray:
    """Of three places side by side, the columns of the player's and the opponent's."""
    return np.concatenate([np.arange(4) + k * width for k in range(3)])
