"""Scripted players of Doom's scenarios, who see where everything is."""

from __future__ import annotations

import numpy as np

from worldsim_envs.games.deadly_corridor import COMBINATIONS, DeadlyCorridor
from worldsim_envs.games.doom import TakeCover

CLEARANCE = 60.0
"""Map units: the player is 16 wide on either side of its middle, a fireball 6."""
WALLS = (64.0, 704.0)

GUNMAN_RADIUS = 16.0
"""Map units, a little less than it is."""
FIRST_TURN_DEGREES = 7.0
"""What the first step of a turn turns by; one that goes on turns twice as fast."""


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


class Marksman:
    """Stops for every gunman in sight, turns to him and shoots, then walks on; now and then it plays anything.

    How near it lets them come differs from one episode to the next.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.whim = float(rng.uniform(0.0, 0.15))
        self.reach = float(rng.uniform(200.0, 400.0))
        self.turning = False

    def __call__(self, game: DeadlyCorridor) -> int:
        near = [gunman for gunman in game.gunmen() if gunman[1] < self.reach]
        held = self._shoot(*near[0]) if near else self._walk(*game.player()[1:])
        if self.rng.random() < self.whim:
            held = COMBINATIONS[self.rng.integers(len(COMBINATIONS))]
        self.turning = "turn_left" in held or "turn_right" in held
        return game.actions.decode(game.actions.vector(**dict.fromkeys(held, 1.0)))

    def _shoot(self, turn: float, distance: float) -> tuple[str, ...]:
        """The channels to hold for a gunman whom a turn to the left by so many degrees would face."""
        width = float(np.degrees(np.arctan2(GUNMAN_RADIUS, distance)))
        if abs(turn) < max(width, FIRST_TURN_DEGREES / 2):
            return ("attack",)
        if self.turning and abs(turn) < 1.5 * FIRST_TURN_DEGREES:
            return ()  # the next turn is a first one again, and does not go too far
        return (_side(turn, "turn_"), "attack") if abs(turn) < 2 * width else (_side(turn, "turn_"),)

    def _walk(self, y: float, angle: float) -> tuple[str, ...]:
        """The channels to hold on the way along the middle of the corridor."""
        if abs(angle) > FIRST_TURN_DEGREES:
            return ("forward", _side(-angle, "turn_"))
        return ("forward", _side(-y)) if abs(y) > 12.0 else ("forward",)


def _side(left: float, prefix: str = "") -> str:
    return f"{prefix}{'left' if left > 0 else 'right'}"
