"""Drift: what hundreds and thousands of imagined steps do to a world, judged a stretch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np

from worldsim.world_model import WorldModel, WorldState
from worldsim_training import imagine, stability
from worldsim_training.battery.feature_tests import Looks, score_ends
from worldsim_training.collapse import BLOCK, REASONS, Signs, collapse_reasons
from worldsim_training.heldout import HeldOut

STRETCH = 500
"""Steps that are kept and judged together, so that memory does not grow with the length."""
FAR_DB = 10.0


@dataclass(frozen=True)
class Rollout:
    """The signs of each stretch of one rollout, and its last 64 frames."""

    signs: Sequence[Signs]
    end: np.ndarray


def measure_drift(
    model: WorldModel,
    judge: stability.Judge,
    heldout: HeldOut,
    *,
    rollouts: int,
    length: int,
    rng: np.random.Generator,
    settings: imagine.Settings,
    looks: Looks | None = None,
) -> dict[str, float | int]:
    """Rollouts under random held actions, from held-out pasts: events, and the last 64 frames against real ones.

    A rollout goes on after an end that the world says. Events: `collapsed` and its reasons as `collapse` defines them,
    in any stretch of 500 steps, the first such stretch in steps; `far` frames (of every tenth) more than 10 dB from
    every real frame; `frozen_64` steps without change. looks: `feature_tests.played_looks` under random actions, for
    the distance of the ends' features; None: without it. Keys begin with `drift_{length}_`.
    """

    def play(openings: np.ndarray, state: WorldState, actions: np.ndarray, settings: imagine.Settings) -> list[Rollout]:
        signs = []
        for first in range(0, length, STRETCH):
            painted, _ = imagine.play(model, state, actions[:, first : first + STRETCH], settings)
            signs.append(list(pool.map(judge.signs, painted, openings)))
        ends = [one[-BLOCK:].copy() for one in painted]
        return [Rollout(each, end) for each, end in zip(zip(*signs, strict=True), ends, strict=True)]

    moments = heldout.moments(rollouts, past=model.info.window_frames, future=1, rng=rng)
    amount = {"length": length, "rng": rng, "settings": settings}
    with ThreadPoolExecutor() as pool:  # a GPU paints faster than one thread judges
        played = stability.roll_out(model, judge.game, heldout, moments, play, **amount)
    ends = [one.end for one in played]
    figures = _events(played, judge, length) | judge.against_real(ends, moments)
    figures |= score_ends(looks, np.stack(ends)) if looks is not None else {}
    return {f"drift_{length}_{key}": value for key, value in figures.items()}


def _events(played: Sequence[Rollout], judge: stability.Judge, length: int) -> dict[str, float | int]:
    reasons = [[collapse_reasons(signs, judge.limits) for signs in one.signs] for one in played]
    firsts = [next((i for i, found in enumerate(each) if found), None) for each in reasons]
    counts = Counter(name for each in reasons for name in {*chain(*each)})
    broken = [first for first in firsts if first is not None]
    return {
        "rollouts": len(played),
        "collapsed": len(broken),
        **{f"collapsed_{name}": counts[name] for name in REASONS},
        "first_collapse_step": min(broken) * STRETCH if broken else length,
        "far": sum(any(signs.farthest_db < FAR_DB for signs in one.signs) for one in played),
        "frozen_64": sum(any(signs.still_steps >= BLOCK for signs in one.signs) for one in played),
        "nearest_real_db_min": min(signs.farthest_db for one in played for signs in one.signs),
    }
