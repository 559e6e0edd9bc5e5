"""Simulators broken on purpose: the real game with one fault, which the metric meant for it must flag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from worldsim.action import ActionSpec
from worldsim_envs.games import Game
from worldsim_training import mutants
from worldsim_training.battery.simulator import Past, Played, Simulator
from worldsim_training.collapse import sprite_track

BLUR_PIXELS, NOISE_LEVELS, DRIFT_PER_STEP = 0.7, 4.0, 0.005
DROPPED, ENDING = 0.2, 0.05
OPPOSITE = {"up": "down", "down": "up", "left": "right", "right": "left"}

Change = Callable[[Past, np.ndarray, np.ndarray], np.ndarray]
"""(past, actions (B, N, T[, A]), seeds) -> other actions (B, N, T'[, A])."""

Spoil = Callable[[Past, Played, np.ndarray], Played]
"""(past, what was played, seeds) -> what is shown."""


@dataclass(frozen=True)
class OtherActions:
    """A simulator that hears other actions than it is told."""

    sound: Simulator
    change: Change

    def play(self, past: Past, actions: np.ndarray, seeds: np.ndarray) -> Played:
        return self.sound.play(past, self.change(past, actions, seeds), seeds)


@dataclass(frozen=True)
class OtherShow:
    """A simulator that shows, pays or ends otherwise than it should."""

    sound: Simulator
    spoil: Spoil

    def play(self, past: Past, actions: np.ndarray, seeds: np.ndarray) -> Played:
        return self.spoil(past, self.sound.play(past, actions, seeds), seeds)


@dataclass(frozen=True)
class DoubleSpeed:
    """A simulator that plays every action twice and shows the second frame."""

    sound: Simulator

    def play(self, past: Past, actions: np.ndarray, seeds: np.ndarray) -> Played:
        fast = self.sound.play(past, np.repeat(actions, 2, axis=2), seeds)
        rewards = fast.rewards.reshape(*actions.shape[:3], 2).sum(axis=-1)
        return Played(fast.frames[:, :, 1::2], rewards, fast.ended[:, :, 1::2])


def broken(game: Game, sound: Simulator) -> dict[str, Simulator]:
    """The faults by name, each on the sound simulator; without the erased opponent where the game reads none."""
    copies = {
        "frozen": OtherShow(sound, _frozen),
        "ignores actions": OtherActions(sound, lambda past, actions, seeds: _anything(game, actions, seeds)),
        "swaps directions": OtherActions(sound, lambda past, actions, seeds: _swapped(game, actions)),
        "late by one step": OtherActions(sound, _late),
        "drops actions": OtherActions(sound, lambda past, actions, seeds: _dropped(game, actions, seeds)),
        "double speed": DoubleSpeed(sound),
        "blurred": OtherShow(sound, lambda past, played, seeds: _shown(played, blur(played.frames))),
        "colours drift": OtherShow(sound, _drifting),
        "noisy": OtherShow(sound, _noisy),
        "wrong rewards": OtherShow(sound, lambda past, played, seeds: replace(played, rewards=-played.rewards)),
        "ends early": OtherShow(sound, _ends_early),
    }
    if not game.reads_opponent():
        return copies
    return copies | {"opponent erased": OtherShow(sound, lambda past, played, seeds: _erased(game, past, played))}


def blur(frames: np.ndarray, *, pixels: float = BLUR_PIXELS) -> np.ndarray:
    """Frames (..., H, W, 3) uint8 under a Gaussian of so many pixels standard deviation."""
    reach = np.arange(-3, 4)
    kernel = np.exp(-0.5 * np.square(reach / pixels))
    kernel /= kernel.sum()
    picture = frames.astype(np.float32)
    for axis in (-3, -2):
        length = picture.shape[axis]
        padded = np.concatenate([picture.take([0] * 3, axis), picture, picture.take([-1] * 3, axis)], axis=axis)
        picture = sum(w * padded.take(range(i, i + length), axis) for i, w in enumerate(kernel))
    return _rounded(picture)


def _shown(played: Played, frames: np.ndarray) -> Played:
    return replace(played, frames=frames)


def _frozen(past: Past, played: Played, seeds: np.ndarray) -> Played:
    still = np.broadcast_to(past.frames[:, None, None, -1], played.frames.shape).copy()
    return Played(still, np.zeros_like(played.rewards), np.zeros_like(played.ended))


def _anything(game: Game, actions: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Random actions, the same in all futures of a past."""
    natives = game.natives()
    drawn = [natives[np.random.default_rng(seed).integers(len(natives), size=actions.shape[2])] for seed in seeds]
    return np.broadcast_to(np.stack(drawn)[:, None], actions.shape)


def _swapped(game: Game, actions: np.ndarray) -> np.ndarray:
    """The native actions with their directions the wrong way round."""
    if game.actions.table is None:
        return _turned(game.actions, actions)
    return np.array([game.actions.decode(vector) for vector in _turned(game.actions, game.actions.table)])[actions]


def _turned(spec: ActionSpec, vectors: np.ndarray) -> np.ndarray:
    """Channel vectors (..., A) in which opposite buttons have changed places, and axes their signs."""
    names = [channel.name for channel in spec.channels]
    opposite = {one: OPPOSITE[one] for one in names if OPPOSITE.get(one) in names}
    places = [names.index(opposite.get(name, name)) for name in names]
    signs = np.array([-1 if channel.kind == "axis" else 1 for channel in spec.channels], vectors.dtype)
    return vectors[..., places] * signs


def _late(past: Past, actions: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    last = past.actions[:, None, -1:]
    first = np.broadcast_to(last, (*actions.shape[:2], *last.shape[2:]))
    return np.concatenate([first, actions[:, :, :-1]], axis=2)


def _dropped(game: Game, actions: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    rest = game.actions.decode(game.actions.vector())
    lost = np.stack([np.random.default_rng(seed).random(actions.shape[2]) < DROPPED for seed in seeds])
    return np.where(lost.reshape(len(lost), 1, -1, *[1] * (actions.ndim - 3)), rest, actions)


def _erased(game: Game, past: Past, played: Played) -> Played:
    """The opponent is replaced by the scene behind it."""
    seen, frames = past.frames.shape[1], np.empty_like(played.frames)
    for b, n in np.ndindex(frames.shape[:2]):
        whole = np.concatenate([past.frames[b], played.frames[b, n]])
        frames[b, n] = mutants.erased(whole, seen, sprite_track(whole, game.opponent_xy))[seen:]
    return _shown(played, frames)


def _drifting(past: Past, played: Played, seeds: np.ndarray) -> Played:
    """Red grows and blue fades, a little more with every step."""
    step = DRIFT_PER_STEP * np.arange(1, played.frames.shape[2] + 1)
    gain = np.stack([1 + step, np.ones_like(step), 1 - step], axis=-1)[:, None, None]
    return _shown(played, _rounded(played.frames * gain))


def _noisy(past: Past, played: Played, seeds: np.ndarray) -> Played:
    noise = [np.random.default_rng(seed).normal(0, NOISE_LEVELS, played.frames.shape[1:]) for seed in seeds]
    return _shown(played, _rounded(played.frames + np.stack(noise)))


def _ends_early(past: Past, played: Played, seeds: np.ndarray) -> Played:
    said = [np.random.default_rng(seed).random(played.ended.shape[1:]) < ENDING for seed in seeds]
    return replace(played, ended=played.ended | np.stack(said))


def _rounded(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
