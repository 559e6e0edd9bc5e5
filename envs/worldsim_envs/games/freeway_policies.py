"""The scripted Freeway player."""

from __future__ import annotations

import numpy as np

from worldsim_envs.games.freeway import Freeway


class UpHolder:
    """Walks up without looking, which crosses the road some 20 times a game; now and then it plays anything."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.whim = float(rng.uniform(0.0, 0.2))

    def __call__(self, game: Freeway) -> int:
        if self.rng.random() < self.whim:
            return int(self.rng.integers(len(game.actions.table)))
        return game.actions.decode(game.actions.vector(up=1.0))
