"""Moments that a real game reaches under random play, from which a world can go on."""

from __future__ import annotations

import numpy as np

from worldsim_envs.games.base import Game

LEAD_IN = (40, 120)  # frames of random play before a start, least and most


def real_past(game: Game, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The last frames (length, H, W, 3), and the actions between them, of some random play that goes on."""
    policy = game.policies()["random"](rng)
    frames, actions = [game.reset(int(rng.integers(2**31)))], []
    for _ in range(length - 1 + int(rng.integers(*LEAD_IN))):
        actions.append(policy(game))
        frame, _, ended = game.step(actions[-1])
        frames.append(frame)
        if ended:
            return real_past(game, length, rng)
    return np.stack(frames[-length:]), np.asarray(actions[len(actions) - (length - 1) :])
