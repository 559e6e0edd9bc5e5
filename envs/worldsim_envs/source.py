"""A world's source game as an environment with the face of `WorldEnv`, to be played in its place or beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldsim.action import ActionSpec
from worldsim.names import titled
from worldsim.world_files import read_index
from worldsim.worlds import world_path
from worldsim_envs.games import matching_game
from worldsim_envs.games.past import real_past
from worldsim_envs.real import RealEnv, plain

REPLAYED = ("episode_seed", "actions", "frame")
"""Reset options, all or none, that begin where a recorded episode was after so many actions."""


@dataclass(frozen=True)
class SourceInfo:
    """What a player shows of a game."""

    name: str
    env_id: str
    window_frames: int
    """Frames that the world remembers; `past` holds as many."""
    step_choices: tuple[int, ...] = (1,)

    @property
    def title(self) -> str:
        """The name as a heading, as `WorldInfo.title`."""
        return titled(self.name, self.env_id)


@dataclass(frozen=True)
class SourceModel:
    """Where a `WorldEnv` has its network, the real game has its facts alone."""

    info: SourceInfo
    actions: ActionSpec
    fingerprint: str = ""


class SourceEnv(RealEnv):
    """The real game that a world imagines, with its actions and frames (H, W, 3) uint8.

    world: a shipped world's name or a folder; no network is loaded. game: the user's own adapter, as module:Class.
    ValueError or ModuleNotFoundError in one line where the real game cannot be had.

    An episode begins after some random play that the seed decides; with reset options, where a recorded one stands:
    `episode_seed` of a dataset's episode, the `actions` (N,) since its beginning, and the `frame` (H, W, 3) that they
    led to. ValueError where this game shows another.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self, world: str = "boxing", *, game: str | None = None, render_mode: str | None = None) -> None:
        index = read_index(world_path(world))
        facts, self.actions = index["world"], ActionSpec.from_json(index["actions"])
        kind = matching_game(facts["env_id"], (facts["height"], facts["width"]), self.actions, game)
        super().__init__(kind, max_episode_steps=kind.max_episode_steps, render_mode=render_mode)
        info = SourceInfo(facts["name"], facts["env_id"], facts["window_frames"])
        self.model = SourceModel(info, self.actions)
        self.metadata = {**type(self).metadata, "render_fps": int(facts["fps"])}
        self.action_space = self.actions.space()
        self.steps = 1
        self.past: dict[str, np.ndarray] = {}
        """The last frames (K, H, W, 3) up to where the episode began, and their actions: a world's reset options."""

    def facts(self) -> dict[str, Any]:
        """What a dataset of this game says of it."""
        return self.game.facts()

    def _opening(self, options: Mapping[str, Any]) -> np.ndarray:
        length = self.model.info.window_frames
        if options:
            if set(options) != set(REPLAYED):
                seen = ", ".join(map(repr, options))
                raise ValueError(f"reset options {seen}; give none, or {', '.join(REPLAYED)} of a recorded episode")
            frames, actions = self._replayed(*(options[name] for name in REPLAYED))
        else:
            frames, actions = real_past(self.game, length, self.np_random)
        first = max(len(frames) - length, 0)
        self.past = {"frames": frames[first:], "actions": actions[first:]}
        return frames[-1].copy()

    def _replayed(self, seed: Sequence[int], actions: Sequence, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames and actions of a recorded episode, played again from its seed as the recorder plays it."""
        opening, _ = np.random.SeedSequence(tuple(seed)).spawn(2)
        frames = [self.game.reset(opening)]
        for action in actions:
            frames.append(self.game.step(plain(action))[0])
        if not np.array_equal(frames[-1], frame):
            raise ValueError("the real game does not reach this recorded moment; the recording is of another version")
        return np.stack(frames), np.asarray(actions)
