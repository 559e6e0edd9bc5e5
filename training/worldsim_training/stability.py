"""The long-rollout test: does a world still look and behave like its game after hundreds of imagined frames?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from worldsim.world_model import WorldModel, WorldState
from worldsim_envs.games import Game
from worldsim_envs.games.policies import HeldRandom
from worldsim_training import imagine, metrics, mutants
from worldsim_training.collapse import (
    BLOCK,
    REASONS,
    Limits,
    Reference,
    Signs,
    collapse_reasons,
    read_signs,
    sprite_track,
)
from worldsim_training.heldout import HeldOut, Moment

T = TypeVar("T")

MUTATED_ROLLOUTS = 2


@dataclass(frozen=True)
class Judge:
    """The collapse test of one game."""

    game: Game
    reference: Reference
    limits: Limits
    real_end: dict[str, Any]
    """`end_statistics` of real rollouts."""

    def signs(self, frames: np.ndarray) -> Signs:
        """Signs of one rollout (T, H, W, 3) uint8."""
        return _signs(self.game, self.reference, frames)

    def reasons(self, frames: np.ndarray) -> tuple[str, ...]:
        """Why one rollout counts as collapsed; empty where it does not."""
        return collapse_reasons(self.signs(frames), self.limits)


def appoint_judge(
    game: Game, looks: Sequence[np.ndarray], widths: Sequence[np.ndarray], ends: Sequence[np.ndarray]
) -> Judge:
    """The judge that real rollouts make: `looks` say what the game looks like, `widths` how far a real rollout strays.

    Neither may share an episode with the other, nor with the rollouts of `check_judge`. The ends of `ends`, best played
    by the policy that plays in the world, are what the ends of imagined rollouts are compared with.
    """
    reference = Reference.from_real(looks)
    limits = Limits.from_real([_signs(game, reference, frames) for frames in widths])
    return Judge(game, reference, limits, end_statistics(ends, reference))


def check_judge(judge: Judge, rollouts: Sequence[np.ndarray], rng: np.random.Generator) -> int:
    """Try the judge on real rollouts and on mutants of the first two; returns the number of mutants.

    ValueError where a real rollout counts as collapsed or a mutant does not: then it may judge no world.
    """
    for frames in rollouts:
        signs = judge.signs(frames)
        if reasons := collapse_reasons(signs, judge.limits):
            raise ValueError(f"collapse test refused: a real rollout is {' and '.join(reasons)} by it: {signs}")
    tried = 0
    for frames in rollouts[:MUTATED_ROLLOUTS]:
        for name, (mutant, expected) in make_mutants(judge.game, frames, rng).items():
            tried += 1
            if not expected.intersection(reasons := judge.reasons(mutant)):
                seen = " and ".join(reasons) or "sound"
                raise ValueError(f"collapse test refused: a real rollout that was {name} is {seen} by it")
    return tried


def make_mutants(
    game: Game, frames: np.ndarray, rng: np.random.Generator
) -> dict[str, tuple[np.ndarray, frozenset[str]]]:
    """Broken copies of a real rollout that break halfway, and for each the signs of which one must show."""
    half = len(frames) // 2
    sprites = {"player": game.player_xy} if game.draws_player else {}
    sprites |= {"opponent": game.opponent_xy} if game.reads_opponent() else {}
    erased = {
        f"{name} erased": (
            mutants.erased(frames, half, sprite_track(frames, locate)),
            frozenset({"vanished", "smeared"}),
        )
        for name, locate in sprites.items()
    }
    return {
        "frozen": (mutants.frozen(frames, half, rng), frozenset({"frozen"})),
        "blurred": (mutants.blurred(frames, half), frozenset({"smeared"})),
        "smeared": (mutants.smeared(frames, half), frozenset({"smeared", "vanished"})),
        "noisy": (mutants.noisy(frames, half, rng), frozenset({"noise"})),
        "saturated": (mutants.saturated(frames, half), frozenset({"saturated"})),
        "faded": (mutants.faded(frames, half), frozenset({"saturated"})),
        **erased,
    }


def end_statistics(rollouts: Sequence[np.ndarray], reference: Reference) -> dict[str, Any]:
    """Motion, sharpness (on moving pixels), saturation and mean colour histogram of the last 64 frames of rollouts."""
    ends = np.stack([frames[-BLOCK:] for frames in rollouts])
    return {
        "motion": float(metrics.motion(ends).mean()),
        "sharpness": float(metrics.sharpness(ends, reference.moving).mean()),
        "saturation": float(metrics.saturation(ends).mean()),
        "colours": metrics.colour_cumulative(ends.reshape(-1, *ends.shape[2:])).mean(axis=0),
    }


def held_actions(game: Game, count: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Random native actions, each held for 1 to 8 steps: (count, steps)."""
    players = [HeldRandom(rng) for _ in range(count)]
    return np.array([[player(game) for _ in range(steps)] for player in players])


def roll_out(
    model: WorldModel,
    game: Game,
    heldout: HeldOut,
    moments: Sequence[Moment],
    play: Callable[[WorldState, np.ndarray, imagine.Settings], Sequence[T]],
    *,
    length: int,
    rng: np.random.Generator,
    settings: imagine.Settings,
) -> list[T]:
    """What `play` answers for each of so many worlds, which begin at held-out moments, under random held actions.

    play: (state of B worlds, their actions (B, length), settings of the batch) -> one answer a world.
    """
    frames, past = heldout.context(moments, model.info.window_frames)
    actions = held_actions(game, len(moments), length, rng)
    seeds = rng.integers(2**31, size=len(moments))

    def work(part: slice, settings: imagine.Settings) -> Sequence[T]:
        return play(imagine.begin(model, frames[part], past[part], seeds[part]), actions[part], settings)

    return [*chain(*imagine.in_batches(len(moments), settings, work))]


def measure_stability(
    model: WorldModel,
    judge: Judge,
    heldout: HeldOut,
    *,
    rollouts: int,
    length: int,
    rng: np.random.Generator,
    settings: imagine.Settings,
) -> dict[str, float | int]:
    """Imagine rollouts under random held actions and judge each: counts of collapses, and the state of their ends."""

    def play(
        state: WorldState, actions: np.ndarray, settings: imagine.Settings
    ) -> list[tuple[Signs, np.ndarray, bool]]:
        painted, over = imagine.play(model, state, actions, settings)
        return [(judge.signs(x), x[-BLOCK:].copy(), bool(ended.any())) for x, ended in zip(painted, over, strict=True)]

    past = model.info.window_frames
    future = min(length, heldout.room(rollouts, past=past))  # what was recorded there is not compared with
    moments = heldout.moments(rollouts, past=past, future=max(future, 1), rng=rng)
    played = roll_out(model, judge.game, heldout, moments, play, length=length, rng=rng, settings=settings)
    signs, ends, ended = zip(*played, strict=True)
    found = [collapse_reasons(sign, judge.limits) for sign in signs]
    counts = Counter(reason for reasons in found for reason in reasons)
    return {
        "collapsed": sum(map(bool, found)),
        "rollouts": rollouts,
        "rollout_steps": length,
        **{f"collapsed_{name}": counts[name] for name in REASONS},
        "rollouts_with_predicted_end": sum(ended),
        **against_real(end_statistics(ends, judge.reference), judge.real_end),
        "nearest_real_db_min": min(sign.nearest_db for sign in signs),
        "still_steps_max": max(sign.still_steps for sign in signs),
        "stuck_steps_max": max(sign.stuck_steps for sign in signs),
        "missing_frames_max": max(sign.missing_frames for sign in signs),
    }


def _signs(game: Game, reference: Reference, frames: np.ndarray) -> Signs:
    return read_signs(frames, reference, (game.player_xy, game.opponent_xy))


def against_real(end: dict, real: dict) -> dict[str, float]:
    return {
        "end_motion_ratio": end["motion"] / real["motion"],
        "end_sharpness_ratio": end["sharpness"] / real["sharpness"],
        "end_saturation_ratio": end["saturation"] / real["saturation"],
        "end_colour_emd": float(metrics.colour_distance(end["colours"], real["colours"])),
    }
