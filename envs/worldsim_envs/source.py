"""A world's source game as an environment with the face of `WorldEnv`, to be played in its place or beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from worldsim.action import ActionSpec
from worldsim.worlds import world_path
from worldsim_envs.games import matching_game
from worldsim_envs.games.past import real_past

INDEX = "model_index.json"


@dataclass(frozen=True)
class SourceInfo:
    """What a player shows of a game."""

    name: str
    window_frames: int
    """Frames that the world remembers; `past` holds as many."""
    step_choices: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class SourceModel:
    """Where a `WorldEnv` has its network, the real game has its facts alone."""

    info: SourceInfo
    actions: ActionSpec
    fingerprint: str = ""


@dataclass(frozen=True)
class SourceState:
    """A save state, valid as long as its environment is open."""

    game: Any
    frame: np.ndarray
    step: int
    over: bool


class SourceEnv(gym.Env):
    """The real game that a world imagines, with its actions and frames (H, W, 3) uint8.

    world: a shipped world's name or a folder; no network is loaded. game: the user's own adapter, as module:Class.
    ValueError or ModuleNotFoundError in one line where the real game cannot be had.
    """

    metadata = {"render_modes": [], "render_fps": 15}

    def __init__(self, world: str = "boxing", *, game: str | None = None) -> None:
        index = json.loads((world_path(world) / INDEX).read_text(encoding="utf-8"))
        facts, self.actions = index["world"], ActionSpec.from_json(index["actions"])
        shape = facts["height"], facts["width"]
        self.game = matching_game(facts["env_id"], shape, self.actions, game)()
        self.model = SourceModel(SourceInfo(facts["name"], facts["window_frames"]), self.actions)
        self.metadata = {**type(self).metadata, "render_fps": int(facts["fps"])}
        self.observation_space = gym.spaces.Box(0, 255, (*shape, 3), np.uint8)
        self.action_space = self.actions.space()
        self.steps = 1
        self.past: dict[str, np.ndarray] = {}
        """The last frames (K, H, W, 3) up to where the episode began, and their actions: a world's reset options."""
        self._over, self._painted = True, None

    def facts(self) -> dict[str, Any]:
        """What a dataset of this game says of it."""
        return self.game.facts()

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None):
        """Begin after some random play that the seed decides, or where a recorded episode stands.

        options: none, or `episode_seed` of a dataset's episode, the `actions` (N,) since its beginning, and the `frame`
        (H, W, 3) that they led to. ValueError where this game shows another.
        """
        super().reset(seed=seed)
        length = self.model.info.window_frames
        if options:
            frames, actions = self._replayed(options["episode_seed"], options["actions"], options["frame"])
        else:
            frames, actions = real_past(self.game, length, self.np_random)
        first = max(len(frames) - length, 0)
        self.past = {"frames": frames[first:], "actions": actions[first:]}
        self._frame, self._count, self._over, self._painted = frames[-1].copy(), 0, False, None
        return self._frame.copy(), self._info()

    def step(self, action):
        """Play one of the game's own actions: observation, reward, terminated, truncated, info."""
        observation = self.paint(action)
        return observation, *self.commit()

    def paint(self, action) -> np.ndarray:
        """The first half of `step`: the next observation (H, W, 3) uint8. `commit` must follow."""
        if self._over or self._painted is not None:
            raise ResetNeeded("the episode is over; call reset()" if self._over else "call commit() before paint()")
        native = action if self.actions.table is None else int(action)
        self._frame, reward, ended = self.game.step(native)
        self._painted = reward, ended
        return self._frame.copy()

    def commit(self) -> tuple[float, bool, bool, dict[str, Any]]:
        """The second half of `step`: reward, terminated, truncated, info."""
        if self._painted is None:
            raise ResetNeeded("there is no new frame; call paint(action) first")
        reward, ended = self._painted
        self._painted = None
        self._count += 1
        late = self._count >= self.game.max_episode_steps
        self._over = ended or late
        return float(reward), bool(ended), bool(late and not ended), self._info()

    def save_state(self) -> SourceState:
        """The game as it stands, for `load_state`."""
        return SourceState(self.game.save(), self._frame.copy(), self._count, self._over)

    def load_state(self, state: SourceState) -> tuple[np.ndarray, dict[str, Any]]:
        """Go on from a state of this environment, exactly: observation and info."""
        self.game.restore(state.game)
        self._frame, self._count, self._over, self._painted = state.frame.copy(), state.step, state.over, None
        return self._frame.copy(), self._info()

    def close(self) -> None:
        """Release the game."""
        self.game.close()

    def _replayed(self, seed: Sequence[int], actions: Sequence, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames and actions of a recorded episode, played again from its seed as the recorder plays it."""
        opening, _ = np.random.SeedSequence(tuple(seed)).spawn(2)
        frames = [self.game.reset(opening)]
        for action in actions:
            frames.append(self.game.step(action if self.actions.table is None else int(action))[0])
        if not np.array_equal(frames[-1], frame):
            raise ValueError("the real game does not reach this recorded moment; the recording is of another version")
        return np.stack(frames), np.asarray(actions)

    def _info(self) -> dict[str, Any]:
        return {"step": self._count}
