"""Moments that a real game reaches under random play, from which a world can go on."""

from __future__ import annotations

import numpy as np

from worldsim_envs.games.base import Game

LEAD_IN = (40, 120)  # frames of random play before a start, least and most
TRIES = 50  # rounds of random play that may end before their start


def real_past(game: Game, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The last frames (K, H, W, 3), and the actions between them, of some random play that goes on; K is `length`, or 1
    in a game whose random play ends too soon for that."""
    for lead_in in (LEAD_IN, (0, 1)):
        for _ in range(TRIES):
            if past := random_past(game, length, lead_in, rng):
                return past
    return random_past(game, 1, (0, 1), rng)


def random_past(
    game: Game, length: int, lead_in: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """The last `length` frames, and the actions between them, of random play that began so many steps before them; None
    where it ended on the way. lead_in: least steps, and the least number that is too many."""
    policy = game.policies()["random"](rng)
    frames, actions = [game.reset(int(rng.integers(2**31)))], []
    for _ in range(length - 1 + int(rng.integers(*lead_in))):
        actions.append(policy(game))
        frame, _, ended = game.step(actions[-1])
        frames.append(frame)
        if ended:
            return None
    return np.stack(frames[-length:]), np.asarray(actions[len(actions) - (length - 1) :])
