"""Drift: what hundreds and thousands of imagined steps do to a world, judged a stretch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np

from worldsim.world_model import WorldModel, WorldState
from worldsim_training import imagine, stability
from worldsim_training.collapse import BLOCK, REASONS, collapse_reasons
from worldsim_training.ends import compare_ends
from worldsim_training.heldout import HeldOut
from worldsim_training.watch import Watch

STRETCH = 500
"""Steps that are kept and judged together, so that memory does not grow with the length."""
FAR_DB = 10.0


def measure_drift(
    model: WorldModel,
    judge: stability.Judge,
    heldout: HeldOut,
    *,
    rollouts: int,
    length: int,
    rng: np.random.Generator,
    settings: imagine.Settings,
    score: Callable[[np.ndarray], dict[str, float]] = lambda ends: {},
) -> dict[str, float | int]:
    """Rollouts under random held actions, from held-out pasts: events, and the last 64 frames against real ones so
    played.

    A rollout goes on after an end that its world says, as `rollouts_ended` do. Events: `collapsed` and its reasons as
    `collapse` defines them, in any stretch of 500 steps, `collapsed_shown` by what is painted up to an end, the first
    such stretch in steps; `far` frames (of every tenth) more than 10 dB from every real frame; `frozen_64` steps
    without change. The last frames are those up to an end. score: more figures of them (n, 64, H, W, 3). Keys begin
    with `drift_{length}_`.
    """

    def play(openings: np.ndarray, state: WorldState, actions: np.ndarray, settings: imagine.Settings) -> list[Watch]:
        watched = [Watch(judge.signs, opening) for opening in openings]
        for first in range(0, length, STRETCH):
            stretch = imagine.play(model, state, actions[:, first : first + STRETCH], settings)
            [*pool.map(Watch.see, watched, *stretch)]
        return watched

    moments = heldout.moments(rollouts, past=model.info.window_frames, future=1, rng=rng)
    actions = stability.held_actions(judge.game, rollouts, length, rng)
    with ThreadPoolExecutor() as pool:  # a GPU paints faster than one thread judges
        watched = stability.roll_out(model, heldout, moments, actions, play, rng=rng, settings=settings)
    ends = [one.end for one in watched]
    figures = _events(watched, judge, length)
    figures |= compare_ends(ends, judge.game, judge.reference, heldout, moments, actions, rng=rng)
    whole = [end for end in ends if len(end) == BLOCK]
    figures |= score(np.stack(whole)) if whole else {}
    return {f"drift_{length}_{key}": value for key, value in figures.items()}


def _events(watched: Sequence[Watch], judge: stability.Judge, length: int) -> dict[str, float | int]:
    reasons, shown = (
        [[collapse_reasons(signs, judge.limits) for signs in each] for each in kind]
        for kind in ([one.signs for one in watched], [one.shown for one in watched])
    )
    firsts = [next((i for i, found in enumerate(each) if found), None) for each in reasons]
    counts = Counter(name for each in reasons for name in {*chain(*each)})
    broken = [first for first in firsts if first is not None]
    return {
        "rollouts": len(watched),
        "rollouts_ended": sum(one.over for one in watched),
        "collapsed": len(broken),
        "collapsed_shown": sum(any(each) for each in shown),
        **{f"collapsed_{name}": counts[name] for name in REASONS},
        "first_collapse_step": min(broken) * STRETCH if broken else length,
        "far": sum(any(signs.farthest_db < FAR_DB for signs in one.signs) for one in watched),
        "frozen_64": sum(any(signs.still_steps >= BLOCK for signs in one.signs) for one in watched),
        "nearest_real_db_min": min(signs.farthest_db for one in watched for signs in one.signs),
    }
