"""Doom's deadly_corridor: six gunmen in niches on the way to a vest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.base import PolicyFactory
from worldsim_envs.games.doom import DoomGame, turn_between
from worldsim_envs.games.policies import HeldRandom, Switching

# The corridor in map units: it leads along x, from the player's first place at 0 to the vest; left is +y.
HALF_WIDTH = 32.0
GUNMEN = ("Zombieman", "ShotgunGuy", "ChaingunGuy")
"""ViZDoom's names of those alive; a dead one's begins with "Dead"."""
NICHE_DEPTH = 160.0
"""From a gunman's place in the middle of a niche back along the corridor to where the niche begins."""

REWARD_GRID = 3.0
"""Map units. A player in full stride makes 33 a step, 11 lines. Recordings hold some 30 values of the 64 at most that
an outcome head tells apart."""
DEATH, VEST = -100.0, 1000.0

COMBINATIONS = (
    (),
    ("left",),
    ("right",),
    ("attack",),
    ("forward",),
    ("backward",),
    ("turn_left",),
    ("turn_right",),
    ("forward", "left"),
    ("forward", "right"),
    ("forward", "turn_left"),
    ("forward", "turn_right"),
    ("forward", "attack"),
    ("left", "attack"),
    ("right", "attack"),
    ("turn_left", "attack"),
    ("turn_right", "attack"),
)
"""The channels that each native action holds."""
CHANNELS = ("left", "right", "attack", "forward", "backward", "turn_left", "turn_right")


def _way(more: str, less: str) -> tuple[int, ...]:
    """For each native action 1, -1 or 0: which of two opposite channels it holds."""
    return tuple((more in held) - (less in held) for held in COMBINATIONS)


class DeadlyCorridor(DoomGame):
    """ViZDoom's deadly_corridor: walk to the vest at the far end, past gunmen who shoot from niches on either side.

    Doom's skill is 3. At 5, the file's own, a random player is dead after 21 steps (mean of 24 episodes) and recordings
    of it hardly show more than the first niches; at 3 after 56. Weapon and muzzle flash are drawn, and blood where
    somebody is hit; the player's health is not to be seen. Nothing bobs as the player walks: the engine works out a
    weapon's bob from how often it was drawn before, in other episodes, too, so that no picture would come twice.

    The reward is the way made along the corridor, counted in lines across it, 3 map units apart: 3 for every one
    crossed, -3 for every one crossed back. So it takes few values, and their sum is the scenario's own to within one
    line. A step that takes the vest gives 1000 and one that the player dies in -100, without the way made in it, up to
    40 units. The episode ends in the step with the vest or in the one after it, which gives 0.

    Means of 48 episodes of each policy, the scenario's own score in brackets, and the share that reached the vest:

        marksman   74 steps   2060 (2078)   88 %
        mixed      76 steps   1053 (1064)   40 %
        random     56 steps     76 (77)      0 %
    """

    name = "deadly_corridor"
    env_id = "VizdoomDeadlyCorridor-v1"
    scenario = "deadly_corridor"
    buttons = {
        "left": "MOVE_LEFT",
        "right": "MOVE_RIGHT",
        "attack": "ATTACK",
        "forward": "MOVE_FORWARD",
        "backward": "MOVE_BACKWARD",
        "turn_left": "TURN_LEFT",
        "turn_right": "TURN_RIGHT",
    }
    skill = 3
    arguments = "+movebob 0"
    opening_steps = 3  # random play does not live long
    max_episode_steps = 525  # 2100 tics, the file's own limit
    actions = ActionSpec(
        [Channel(name) for name in CHANNELS],
        [[float(name in held) for name in CHANNELS] for held in COMBINATIONS],
        names=tuple("_".join(held).upper() or "NOOP" for held in COMBINATIONS),
        keys={
            "left": ("a",),
            "right": ("d",),
            "attack": ("space",),
            "forward": ("up", "w"),
            "backward": ("down", "s"),
            "turn_left": ("left",),
            "turn_right": ("right",),
        },
    )
    effects = {
        "walk": _way("forward", "backward"),
        "strafe": _way("right", "left"),
        "turn": _way("turn_right", "turn_left"),
    }
    state_names = ("player_x", "player_y", "player_angle", "gunmen")
    draws_player = False

    def visible_state(self) -> np.ndarray:
        """Where the player stands and looks, as `player` has it, and how many living gunmen are in view.

        In view is whose middle no wall hides. NaN after the end.
        """
        if self._frame is None:
            raise RuntimeError("there is no state; call reset(seed) first")
        player = self.player()
        if np.isnan(player).any():
            return np.full(4, np.nan)
        return np.array([*player, sum(abs(turn) < 45.0 for turn, _ in self.gunmen())])

    def gunmen(self) -> list[tuple[float, float]]:
        """Of each living gunman whom no wall hides from the player: degrees to turn left to face him, and distance.

        The nearest first.
        """
        x, y, angle = self.player()
        seen = []
        for name, place in self.objects():
            if name in GUNMEN and _in_sight(x, y, *place[:2]):
                dx, dy = place[0] - x, place[1] - y
                seen.append((turn_between(angle, np.degrees(np.arctan2(dy, dx))), float(np.hypot(dx, dy))))
        return sorted(seen, key=lambda each: each[1])

    @classmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        from worldsim_envs.games.doom_policies import Marksman

        return {
            "mixed": lambda rng: Switching(rng, (HeldRandom, Marksman)),
            "marksman": Marksman,
            "random": HeldRandom,
        }

    def _points(self, points: float) -> float:
        if self._ended and self._doom.is_player_dead():
            return DEATH
        if points > VEST / 2:
            return VEST
        if self._ended:
            return 0.0  # the vest was taken on the last tic of the step before
        way = self._doom.get_total_reward()  # of the whole episode, so that what is rounded off is never lost
        return REWARD_GRID * (round(way / REWARD_GRID) - round((way - points) / REWARD_GRID))


def _in_sight(x: float, y: float, gunman_x: float, gunman_y: float) -> bool:
    """Whether the line from the player to a gunman in his niche enters it through its mouth."""
    side = 1.0 if gunman_y > 0 else -1.0
    inside = side * gunman_y - HALF_WIDTH
    outside = HALF_WIDTH - side * y
    if outside <= 0.0:
        return abs(gunman_x - x) < NICHE_DEPTH
    return abs(gunman_x - x) * inside / (inside + outside) < NICHE_DEPTH
