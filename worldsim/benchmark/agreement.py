"""How far the frames of a world as it is played are from those of its networks as they are written."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from worldsim.benchmark.playing import begin, random_action
from worldsim.world_model import WorldModel

WORLDS = 8
"""Worlds at once, each at a start state of its own as far as there are such."""


def agreement(
    model: WorldModel, plain: WorldModel, *, frames: int, steps: int, seed: int
) -> dict[str, float | int | str]:
    """Mean difference of frames in grey levels of 255: of each frame painted from the same memory and noise (the
    mean, the largest of all frames' means, and the share of outcomes told alike), and of frames left alone after a
    common start, where any rounding grows.

    plain: the same world after `play_plain`.
    """
    rng = np.random.default_rng(seed)
    # Code compiled for a CPU plays one world; several would be the packed network's.
    worlds = 1 if model.engine == "compiled" and model.device.type == "cpu" else WORLDS
    frames *= WORLDS // worlds
    state, alone, right = (begin(each, seed, worlds) for each in (model, model, plain))
    same, apart, alike = [], [], []
    for _ in tqdm(range(frames), unit="frame", desc="agreement", disable=frames < 100):
        action = random_action(model, rng, worlds)
        state.put(range(worlds), right)
        seen, free, wanted = (
            each.step(played, action, steps=steps) for each, played in ((model, state), (model, alone), (plain, right))
        )
        same.append((seen.frame.float() - wanted.frame.float()).abs().mean().item())
        apart.append((free.frame.float() - wanted.frame.float()).abs().mean().item())
        alike.append(((seen.reward == wanted.reward) & (seen.ended == wanted.ended)).float().mean().item())
    return {
        "agree_frames": frames * worlds,
        "agree_mean_levels": float(np.mean(same)),
        "agree_worst_levels": max(same),
        "agree_outcomes_share": float(np.mean(alike)),
        "agree_alone_mean_levels": float(np.mean(apart)),
        "agree_within_1_level": "yes" if np.mean(same) <= 1.0 else "no",
    }
