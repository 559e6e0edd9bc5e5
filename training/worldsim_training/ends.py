"""The last frames of long rollouts beside the real game's, played from the same moments by the same actions.

Where a car or a fighter is after a thousand steps of such play decides what moves there and how colourful it is. So no
recording serves: the real game plays on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldsim_envs.games import Game
from worldsim_training import metrics
from worldsim_training.collapse import BLOCK, Reference
from worldsim_training.heldout import HeldOut, Moment

STATISTICS = ("motion", "sharpness", "saturation")


def compare_ends(
    ends: Sequence[np.ndarray],
    game: Game,
    reference: Reference,
    heldout: HeldOut,
    moments: Sequence[Moment],
    actions: np.ndarray,
    *,
    rng: np.random.Generator,
) -> dict[str, float]:
    """The last frames (T, H, W, 3) uint8 of rollouts from these moments against those of the real game.

    actions: native, (n, T), of the rollouts. `end_{motion, sharpness, saturation}_ratio` are ratios of means over all
    rollouts, with 95 % intervals over the episodes; sharpness is that of moving pixels; `end_colour_emd`, in levels, is
    the distance of the mean histograms. A real game that ends before its last action shows the 64 frames up to its end.
    Where either shows fewer the rollout is left out; without any other the answer is empty.
    """
    episodes, imagined, wanted = [], [], []
    for end, moment, played in zip(ends, moments, actions, strict=True):
        if len(end) == BLOCK and len(real := play_on(game, heldout, moment, played)) == BLOCK:
            episodes.append(moment.episode)
            imagined.append(_looks(end, reference))
            wanted.append(_looks(real, reference))
    if not episodes:
        return {}
    figures, groups = {}, np.array(episodes)
    for k, name in enumerate(STATISTICS):
        columns = [np.array([looks[k] for looks, _ in each]) for each in (imagined, wanted)]
        key = f"end_{name}_ratio"
        figures[key] = _ratio(*columns)
        figures[f"{key}_low"], figures[f"{key}_high"] = metrics.bootstrap_interval(_ratio, groups, *columns, rng=rng)
    colours = [np.mean([histogram for _, histogram in each], axis=0) for each in (imagined, wanted)]
    return figures | {"end_colour_emd": float(metrics.colour_distance(*colours)), "end_rollouts": len(episodes)}


def play_on(game: Game, heldout: HeldOut, moment: Moment, actions: np.ndarray) -> np.ndarray:
    """The last 64 frames that the real game shows, (n, H, W, 3) uint8, when it is played on from the moment by native
    actions (T,), up to its end. Where it shows fewer, recorded frames up to the moment stand before them."""
    heldout.resume(game, moment)
    shown = game.last_frames(actions, BLOCK)
    before = heldout.episodes[moment.episode].frames[: moment.frame + 1]
    return np.concatenate([before[-BLOCK:], shown])[-BLOCK:]


def _looks(frames: np.ndarray, reference: Reference) -> tuple[tuple[float, ...], np.ndarray]:
    """Motion, sharpness (on moving pixels) and saturation of frames (T, H, W, 3), and their mean colour histogram."""
    told = metrics.motion(frames), metrics.sharpness(frames, reference.moving), metrics.saturation(frames)
    return tuple(float(each.mean()) for each in told), metrics.colour_cumulative(frames).mean(axis=0)


def _ratio(imagined: np.ndarray, real: np.ndarray) -> float:
    return float(imagined.mean() / real.mean())
