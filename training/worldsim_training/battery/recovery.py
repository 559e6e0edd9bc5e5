"""Action recovery: can the action be told from what the simulator shows?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from worldsim_envs.games import Game
from worldsim_training import metrics
from worldsim_training.battery.fitting import Fitted, fit
from worldsim_training.battery.futures import SAMPLES, Futures
from worldsim_training.battery.simulator import Played
from worldsim_training.battery.traces import Trace
from worldsim_training.heldout import HeldOut, Moment

BEFORE, AFTER = 1, 3
"""Frames that the window shows before the action's own and after it: some sprites answer one step late."""
LEAST_REAL_SHARE = 0.75
"""The instrument is refused where, on real frames, it scores less of what exact branches allow."""
FIT_STEPS = 300


Locate = Callable[[np.ndarray], np.ndarray]
"""Frames (..., H, W, 3) uint8 -> the player's coordinates (..., D) in pixels, NaN where it is not to be seen."""


@dataclass(frozen=True)
class Recoverer:
    """Reads the class of an action, for every effect, off the player's places around it."""

    game: Game
    locate: Locate
    fitted: dict[str, Fitted]

    def truth(self, effect: str, actions: np.ndarray) -> np.ndarray:
        """The class of each native action (...) or, of vectors (..., A), that of the nearest of the game's choices."""
        kinds = np.array(self.game.effects[effect])
        if self.game.actions.table is None:
            apart = np.square(actions[..., None, :] - self.game.natives()).sum(axis=-1)
            actions = apart.argmin(axis=-1)
        return (kinds - kinds.min())[actions]

    def guess(self, effect: str, windows: np.ndarray) -> np.ndarray:
        """The class that each window (n, F) of `windows_of` shows."""
        return self.fitted[effect](windows).argmax(axis=1)


def fit_recoverer(game: Game, locate: Locate, traces: Sequence[Trace], *, seed: int) -> Recoverer:
    """Fit on traces of uniformly random actions: under any other policy it would read the policy.

    ValueError where the game does not tell its effect classes or its player cannot be located in frames.
    """
    if not game.effects:
        raise ValueError(f"{game.name} does not say which actions have the same effect (Game.effects)")
    parts = [windows_of(locate, trace.frames[None], trace.actions[None]) for trace in traces]
    inputs, actions = (np.concatenate(each) for each in zip(*parts, strict=True))
    if not np.abs(inputs).any():
        raise ValueError(
            f"the player of {game.name} cannot be read from real frames (Game.player_xy or Game.visible_state)"
        )
    recoverer = Recoverer(game, locate, {})
    for effect in game.effects:
        classes = torch.from_numpy(recoverer.truth(effect, actions))
        recoverer.fitted[effect] = fit(
            inputs,
            int(classes.max()) + 1,
            lambda answers, rows, classes=classes: F.cross_entropy(answers, classes[rows]),
            steps=FIT_STEPS,
            seed=seed,
        )
    return recoverer


def windows_of(locate: Locate, frames: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the recoverer sees of frames (n, T+1, H, W, 3), and the action (m,) it is to tell, of actions (n, T).

    (m, F): the player's moves from the frame before the action's own to 3 after it, and its place; 0 where unseen.
    """
    places = locate(frames)
    at = np.arange(BEFORE, actions.shape[1] - AFTER + 1)
    window = places[:, at[:, None] + np.arange(-BEFORE, AFTER + 1)]
    moves = np.diff(window, axis=2).reshape(*window.shape[:2], -1)
    seen = np.concatenate([moves, window[:, :, BEFORE]], axis=-1)
    return np.where(np.isnan(seen), 0.0, seen).reshape(-1, seen.shape[-1]), actions[:, at].reshape(
        -1, *actions.shape[2:]
    )


def score_recovery(
    recoverer: Recoverer, futures: Futures, played: Played, rng: np.random.Generator
) -> dict[str, float]:
    """Macro-F1 over the effect classes on the simulator's frames and on the real ones; ratio of their means.

    futures: as `random_futures` gives them.
    """
    game, actions, last = recoverer.game, futures.actions[:, 0], futures.past.frames[:, -1:]
    seen, told = windows_of(recoverer.locate, np.concatenate([last, played.frames[:, 0]], axis=1), actions)
    real, _ = windows_of(recoverer.locate, np.concatenate([last, futures.real.frames[:, 0]], axis=1), actions)
    episodes = np.repeat(futures.episodes, len(told) // len(actions))
    out, columns = {}, []
    for effect in game.effects:
        truth, own, reference = recoverer.truth(effect, told), *(recoverer.guess(effect, each) for each in (seen, real))
        columns += [truth, own, reference]
        out[f"action_f1_{effect}"] = metrics.macro_f1(truth, own)
        out[f"action_f1_real_{effect}"] = metrics.macro_f1(truth, reference)
    low, high = metrics.bootstrap_interval(_ratio, episodes, *columns, rng=rng, samples=SAMPLES)
    return out | {"action_ratio": _ratio(*columns), "action_ratio_low": low, "action_ratio_high": high}


def check_recovery(scores: dict[str, float], ceilings: dict[str, float]) -> None:
    """ValueError where on real frames the instrument falls short of what exact branches allow."""
    for effect, ceiling in ceilings.items():
        if scores[f"action_f1_real_{effect}"] < LEAST_REAL_SHARE * ceiling:
            got = f"{scores[f'action_f1_real_{effect}']:.2f}"
            raise ValueError(f"action recovery scores {got} on real frames, of {ceiling:.2f} that branches allow")


def recovery_ceilings(
    game: Game, heldout: HeldOut, moments: Sequence[Moment], rng: np.random.Generator
) -> dict[str, float]:
    """For each effect the best accuracy that a reader of the frames after the action can have, from exact branches.

    From each moment every action is played once and the same random ones follow. Of actions whose frames are equal the
    class can only be guessed.
    """
    chances = {effect: [] for effect in game.effects}
    for moment in moments:
        futures = _all_actions(game, heldout, moment, rng)
        for effect, kinds in game.effects.items():
            for kind, shown in zip(kinds, futures, strict=True):
                alike = [other == kind for other, frames in zip(kinds, futures, strict=True) if frames == shown]
                chances[effect].append(sum(alike) / len(alike))
    return {effect: float(np.mean(each)) for effect, each in chances.items()}


def _all_actions(game: Game, heldout: HeldOut, moment: Moment, rng: np.random.Generator) -> list[bytes]:
    """The bytes of the frames after each action of the game."""
    heldout.resume(game, moment)
    start, natives = game.save(), game.natives()
    tail, futures = natives[rng.integers(len(natives), size=AFTER - 1)], []
    for action in natives:
        game.restore(start)
        frames, ended = [], False
        for each in (action, *tail):
            if not ended:
                frame, _, ended = game.step(each)
                frames.append(frame.tobytes())
        futures.append(b"".join(frames))
    return futures


def _ratio(*columns: np.ndarray) -> float:
    scores = [
        (metrics.macro_f1(truth, own), metrics.macro_f1(truth, real))
        for truth, own, real in zip(columns[::3], columns[1::3], columns[2::3], strict=True)
    ]
    own, real = np.mean(scores, axis=0)
    return float(own / real)
