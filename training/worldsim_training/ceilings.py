"""The ceilings of prediction: the real game itself, played on from the same moments with other luck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from worldsim_envs.games import Game
from worldsim_training import metrics
from worldsim_training.heldout import HeldOut, Moment


def measure_ceilings(
    game: Game,
    heldout: HeldOut,
    moments: Sequence[Moment],
    *,
    horizons: Sequence[int],
    branches: int,
    rng: np.random.Generator,
    progress: Callable[[int], object] = lambda steps: None,
) -> dict[str, float | int]:
    """Gains over the still picture, pooled, with 95 % intervals over episodes, of what nothing but luck is amiss with.

    `reroll_{h}_db`: the real game under the recorded actions and other luck, `branches` times from each moment. So
    scores a perfect simulator that throws its own dice; above it lies only what foresees the dice or what blurs.
    `reroll_mean_{h}_db`: the mean picture of those games, so what blurring can reach. With V the variance of a pixel
    over the luck, the squared error of a game is 2 V and that of the mean of n is (1 + 1/n) V: at most 3.01 dB better,
    2.50 dB with 8. Where the luck can be told from what was seen (Boxing's runs in step with its clock), a world that
    has learnt it may rightly pass both.

    A branch that ends the game early shows its last frame from there on. `progress` is told the steps played.
    ValueError where the game with its own luck back is not the one that was recorded, or where luck changes nothing.
    """
    at = np.array(horizons) - 1
    played = [_errors_of(game, heldout, moment, at, branches, rng, progress) for moment in moments]
    own, mean, floor = map(np.stack, zip(*played, strict=True))
    if not own.any():
        raise ValueError(f"re-roll refused: in {len(moments)} windows other luck changed nothing in {game.name}")
    episodes = np.array([moment.episode for moment in moments])
    report: dict[str, float | int] = {"reroll_states": len(moments), "reroll_branches": branches}
    for i, h in enumerate(horizons):
        report |= _gain(f"reroll_{h}_db", episodes, own[..., i], floor[:, i], rng)
        report |= _gain(f"reroll_mean_{h}_db", episodes, mean[:, i], floor[:, i], rng)
    return report


def play_on(game: Game, actions: Sequence[Any]) -> np.ndarray:
    """Change the game by T native actions: frames (T, H, W, 3) uint8, the last one repeated where it ends early."""
    frames, ended = [], False
    for action in actions:
        if not ended:
            frame, _, ended = game.step(action)
        frames.append(frame)
    return np.stack(frames)


def _errors_of(
    game: Game,
    heldout: HeldOut,
    moment: Moment,
    at: np.ndarray,
    branches: int,
    rng: np.random.Generator,
    progress: Callable[[int], object],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared errors at the n horizons: of each branch (branches, n), of their mean (n,), of the still picture (n,)."""
    [truth], [actions] = heldout.future([moment], int(at.max()) + 1)
    heldout.resume(game, moment)
    state = game.save()
    _check_own_luck(game, moment, truth, actions, rng)
    progress(len(actions))
    frames = []
    for _ in range(branches):
        shown = game.restore(state)
        game.reroll(rng)
        frames.append(play_on(game, actions)[at])
        progress(len(actions))
    pictures, truth = np.stack(frames), truth[at]
    return (
        metrics.squared_error(pictures, np.broadcast_to(truth, pictures.shape)),
        metrics.squared_error(pictures.mean(axis=0), truth),
        metrics.squared_error(np.broadcast_to(shown, truth.shape), truth),
    )


def _check_own_luck(
    game: Game, moment: Moment, truth: np.ndarray, actions: np.ndarray, rng: np.random.Generator
) -> None:
    """A re-roll changes nothing but luck: the game that gets its own luck back goes on to the byte as recorded."""
    luck = game.luck()
    game.reroll(rng)
    game.set_luck(luck)
    if not np.array_equal(play_on(game, actions), truth):
        where = f"episode {moment.episode}, frame {moment.frame}"
        raise ValueError(f"re-roll refused: with its own luck back {game.name} differs from its recording ({where})")


def _gain(
    key: str, episodes: np.ndarray, errors: np.ndarray, floor: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    low, high = metrics.bootstrap_interval(metrics.gain_over, episodes, errors, floor, rng=rng)
    return {key: metrics.gain_over(errors, floor), f"{key}_low": low, f"{key}_high": high}
