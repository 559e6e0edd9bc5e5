"""MiniGrid's door and key, the worked example of an adapter: pick up the key, open the door, reach the green goal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.base import PolicyFactory, Position
from worldsim_envs.games.gymnasium_game import GymnasiumGame

TILE = 8  # pixels; also what one token of the network stands for
CHANNELS = ("left", "right", "forward", "pickup", "drop", "toggle")
NAMES = (*CHANNELS, "done")  # the game's own actions in its order; "done" does nothing and is what no key means


class MiniGrid(GymnasiumGame):
    """MiniGrid-DoorKey-6x6, seen from above. A frame shows all of its state: a key that is not there is carried."""

    name = "minigrid"
    env_id = "MiniGrid-DoorKey-6x6-v0"
    env_module = "minigrid"
    env_kwargs = {"tile_size": TILE, "highlight": False, "max_steps": 10**6}
    licence = "minigrid Apache-2.0; no further assets"
    packages = ("minigrid",)
    fps = 8
    height = width = 6 * TILE
    max_episode_steps = 200
    actions = ActionSpec(
        [Channel(name) for name in CHANNELS],
        [[name == channel for channel in CHANNELS] for name in NAMES],
        names=NAMES,
        keys={
            "left": ("left", "a"),
            "right": ("right", "d"),
            "forward": ("up", "w"),
            "pickup": ("space",),
            "drop": ("down", "s"),
            "toggle": ("return", "e"),
        },
    )
    effects = {"walk": tuple(int(name == "forward") for name in NAMES)}
    state_names = ("player_x", "player_y", "key_x", "key_y")

    def visible_state(self) -> np.ndarray:
        """Middles of the tiles with the player and with the key, in frame pixels; NaN for a key that is carried."""
        base = self.env.unwrapped
        keys = [
            (i % base.width, i // base.width) for i, each in enumerate(base.grid.grid) if each and each.type == "key"
        ]
        tiles = [base.agent_pos, keys[0] if keys else (np.nan, np.nan)]
        return np.array([TILE * column + (TILE - 1) / 2 for tile in tiles for column in tile], np.float64)

    def reward(self, reward: float) -> float:
        """1 for the goal; the game itself gives less the later it is reached, which no frame shows."""
        return float(reward > 0)

    @classmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        from worldsim_envs.games.minigrid_policies import Seeker, Wanderer

        return {"seeker": Seeker, "random": Wanderer}

    @staticmethod
    def player_xy(frame: np.ndarray) -> Position | None:
        """Centre of the tile with the red arrow; None when no arrow is there."""
        rows, columns = np.nonzero((frame[..., 0] > 128) & (frame[..., 1:] < 64).all(axis=-1))
        if not len(rows):
            return None
        return tuple(float(np.median(at) // TILE * TILE + (TILE - 1) / 2) for at in (columns, rows))
