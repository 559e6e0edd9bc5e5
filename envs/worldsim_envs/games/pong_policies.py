"""Scripted Pong players that read the field from the game's state."""

from __future__ import annotations

import numpy as np

from worldsim_envs.games.pong import Pong

NEAR_PIXELS = 2.0


class Follower:
    """Moves the paddle towards the ball, each time a little off its middle, and now and then plays anything."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.whim = float(rng.uniform(0.05, 0.4))
        self.left, self.aim = 0, 0.0

    def __call__(self, game: Pong) -> int:
        if self.left == 0:
            self.left, self.aim = int(self.rng.integers(10, 40)), float(self.rng.uniform(-4, 4))
        self.left -= 1
        if self.rng.random() < self.whim:
            return int(self.rng.integers(len(game.actions.table)))
        player, _, _, ball = game.visible_state()
        away = ball + self.aim - player  # NaN without a ball: no way to go
        up, down = float(away < -NEAR_PIXELS), float(away > NEAR_PIXELS)
        return game.actions.decode(game.actions.vector(up=up, down=down))
