"""Policies for MiniGrid's door and key, so that a short recording holds every event of the game."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from worldsim_envs.games.gymnasium_game import GymnasiumGame

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)
WHIMS = (0.18, 0.18, 0.34, 0.08, 0.08, 0.08, 0.06)  # chance of each of the 7 actions: mostly walking
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # of the four directions, as MiniGrid numbers them

Pose = tuple[int, int, int]
"""Column, row, direction."""


class Wanderer:
    """Random actions, none held: a turn that is held goes round in circles, and most others do nothing twice."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def __call__(self, game: GymnasiumGame) -> int:
        return int(self.rng.choice(len(WHIMS), p=WHIMS))


class Seeker:
    """Walks to the key, then to the door, then to the goal, with random actions in between.

    How many differs from episode to episode, up to nearly all.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.wander = Wanderer(rng)
        self.whim = rng.uniform(0.1, 0.9)

    def __call__(self, game: GymnasiumGame) -> int:
        if self.rng.random() < self.whim:
            return self.wander(game)
        world = game.env.unwrapped
        things = {cell.type: at for at, cell in _cells(world) if cell is not None}
        target = "goal" if world.grid.get(*things["door"]).is_open else "key" if "key" in things else "door"
        return _way(world, things[target])


def _cells(world) -> Iterator[tuple[tuple[int, int], object]]:
    for x in range(world.width):
        for y in range(world.height):
            yield (x, y), world.grid.get(x, y)


def _way(world, target: tuple[int, int]) -> int:
    """The first action of a shortest way to stand before the target and use it, or, for the goal, to enter it."""
    use = {"key": PICKUP, "door": TOGGLE, "goal": FORWARD}[world.grid.get(*target).type]
    start: Pose = (*map(int, world.agent_pos), int(world.agent_dir))
    first: dict[Pose, int | None] = {start: None}
    queue = deque([start])
    while queue:
        x, y, facing = pose = queue.popleft()
        ahead = (x + STEPS[facing][0], y + STEPS[facing][1])
        if ahead == target:
            return use if first[pose] is None else first[pose]
        moves = {LEFT: (x, y, (facing - 1) % 4), RIGHT: (x, y, (facing + 1) % 4)}
        cell = world.grid.get(*ahead)
        if cell is None or cell.can_overlap():
            moves[FORWARD] = (*ahead, facing)
        for action, after in moves.items():
            if after not in first:
                first[after] = action if first[pose] is None else first[pose]
                queue.append(after)
    return TOGGLE  # the way is barred by what the player dropped
