"""The prediction test: how much better a world foresees the next frames than a still picture does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldsim.world_model import WorldModel
from worldsim_training import imagine, metrics
from worldsim_training.heldout import HeldOut, Moment


def measure_gains(
    model: WorldModel,
    heldout: HeldOut,
    moments: Sequence[Moment],
    *,
    horizons: Sequence[int],
    rng: np.random.Generator,
    settings: imagine.Settings,
) -> dict[str, float | int]:
    """Pooled PSNR of world and floor on the same windows, and the gain with its 95 % interval, at each horizon.

    From each of the moments on, after real frames and real actions. One step ahead is so teacher-forced; later steps
    run freely. The floor shows the last real frame throughout.
    """
    length = max(horizons)
    seeds = rng.integers(2**31, size=len(moments))
    at = np.array(horizons) - 1

    def play(part: slice, settings: imagine.Settings) -> tuple[np.ndarray, np.ndarray]:
        past, past_actions = heldout.context(moments[part], model.info.window_frames)
        truth, actions = heldout.future(moments[part], length)
        state = imagine.begin(model, past, past_actions, seeds[part])
        painted, _ = imagine.play(model, state, actions, settings)
        still = np.broadcast_to(past[:, -1:], truth[:, at].shape)
        return metrics.squared_error(painted[:, at], truth[:, at]), metrics.squared_error(still, truth[:, at])

    errors, floors = map(np.concatenate, zip(*imagine.in_batches(len(moments), settings, play), strict=True))
    report: dict[str, float | int] = {"windows": len(moments)}
    for h, model_error, floor_error in zip(horizons, errors.T, floors.T, strict=True):
        report |= _at_horizon(h, heldout, moments, model_error, floor_error, rng)
    return report


def _at_horizon(
    h: int, heldout: HeldOut, moments: Sequence[Moment], model: np.ndarray, floor: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    episodes = np.array([moment.episode for moment in moments])
    policies = np.array([heldout.policies[episode] for episode in episodes])
    low, high = metrics.bootstrap_interval(metrics.gain_over, episodes, model, floor, rng=rng)
    by_policy = {
        f"gain_{h}_db_{policy}": metrics.gain_over(model[policies == policy], floor[policies == policy])
        for policy in dict.fromkeys(policies.tolist())
    }
    return {
        f"gain_{h}_db": metrics.gain_over(model, floor),
        f"gain_{h}_db_low": low,
        f"gain_{h}_db_high": high,
        f"psnr_{h}_db": metrics.pooled_psnr(model),
        f"floor_{h}_db": metrics.pooled_psnr(floor),
        **by_policy,
    }
