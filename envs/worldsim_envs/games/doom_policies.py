"""A scripted player of take_cover who sees where everything is."""

from __future__ import annotations

import numpy as np

from worldsim_envs.games.doom import TakeCover

CLEARANCE = 60.0
"""Map units: the player is 16 wide on either side of its middle, a fireball 6."""
WALLS = (64.0, 704.0)


class Dodger:
    """Walks out of the way of the fireball that will hit first; now and then it plays anything."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.whim = float(rng.uniform(0.0, 0.15))
        self.left, self.way = 0, 0

    def __call__(self, game: TakeCover) -> int:
        if self.left == 0:
            self.left, self.way = int(self.rng.integers(2, 8)), int(self.rng.choice((-1, 0, 1)))
        self.left -= 1
        if self.rng.random() < self.whim:
            return int(self.rng.integers(len(game.actions.table)))
        way = self._way(game)
        return game.actions.decode(game.actions.vector(left=float(way > 0), right=float(way < 0)))

    def _way(self, game: TakeCover) -> int:
        """1 to the left (+y), -1 to the right, 0 to stay."""
        things = game.objects()
        player = next(place for name, place in things if name == "DoomPlayer")
        meets = []
        for name, (x, y, dx, dy) in things:
            if name == "DoomImpBall" and dx < 0 and x > player[0]:
                tics = (x - player[0]) / -dx
                meets.append((tics, player[1] - (y + tics * dy)))
        threats = [gap for tics, gap in sorted(meets) if tics < 40 and abs(gap) < CLEARANCE]
        if not threats:
            return self.way
        way = 1 if threats[0] >= 0 else -1
        near_wall = player[1] > WALLS[1] if way > 0 else player[1] < WALLS[0]
        return -way if near_wall else way
