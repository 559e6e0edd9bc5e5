"""Where a scene is played: in the source game Encounter itself, or in a world that imagines it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from worldsim_envs.encounter.game import new_scene
from worldsim_envs.encounter.scene import Scene
from worldsim_envs.games.encounter import Encounter
from worldsim_envs.rules import Beginning, Rules, tensor

if TYPE_CHECKING:
    from worldsim.world_model import WorldModel

LEAD_IN = 32
"""Frames of the opening, at least: more than a world remembers."""
NEAR_PX = 17
"""To which the player walks up: every gesture reaches from here, and nobody is pushed."""


@dataclass(frozen=True)
class Opening:
    """The player has walked up to somebody idle: frames (K, H, W, 3) uint8, actions (K - 1, A), the game's state."""

    frames: np.ndarray
    actions: np.ndarray
    scene: Scene


@lru_cache(maxsize=32)
def walk_up(seed: int, temperament: str) -> Opening:
    """The opening of a scene, played in the source game. The seed decides looks, place, side and dice alike for all
    temperaments."""
    game = Encounter()
    frames = [game.restore(new_scene(np.random.default_rng(seed), [temperament]))]
    actions: list[np.ndarray] = []
    while len(actions) < LEAD_IN or any(figure.act != "stand" for figure in game.scene.figures):
        gap = game.scene.figures[1].x - game.scene.figures[0].x
        walk = {"right" if gap > 0 else "left": 1.0} if abs(gap) > NEAR_PX else {}
        actions.append(game.actions.vector(**walk, **{f"npc_{temperament}": 1.0}))
        frames.append(game.step(actions[-1])[0])
    return Opening(np.stack(frames), np.stack(actions), game.save())


class GameStage:
    """The source game, from an opening on."""

    source, place = "source game", "the source game"
    fps, most_frames, actions = Encounter.fps, Encounter.max_episode_steps, Encounter.actions

    def __init__(self, opening: Opening) -> None:
        self._game = Encounter()
        self.frame = self._game.restore(opening.scene)

    def step(self, vector: np.ndarray) -> np.ndarray:
        """Play one frame under a channel vector (A,): the frame (H, W, 3) uint8."""
        self.frame, *_ = self._game.step(vector)
        return self.frame

    def save(self) -> Any:
        """Everything that decides the future, for `load`."""
        return self._game.save()

    def load(self, state: Any) -> None:
        """Go on from a saved state, exactly."""
        self.frame = self._game.restore(state)


class WorldStage:
    """A world that imagines Encounter, from an opening of the real game on. seed: of its noise.

    The world's own notion of an episode's end is left alone: a scene ends when its caller ends it.
    """

    def __init__(
        self, world: str | WorldModel, opening: Opening, seed: int, *, steps: int | None = None, device: str = "cpu"
    ) -> None:
        rules = Rules(world, device=device)
        self._model, info = rules.model, rules.model.info
        if self._model.actions.channels != Encounter.actions.channels:
            seen = ", ".join(channel.name for channel in self._model.actions.channels)
            raise ValueError(f"world {info.name!r} has no NPC to meet, only {seen}; give a world of {Encounter.env_id}")
        self._steps = rules.checked_steps(info.default_steps if steps is None else steps)
        self.fps, self.most_frames, self.actions = info.fps, info.max_episode_steps, self._model.actions
        self.place = f"the world {info.name}"
        self.source = f"imagined by the world {info.name}, {self._steps} steps a frame"
        count = min(info.window_frames, len(opening.frames))
        past = opening.frames[-count:], opening.actions[len(opening.actions) - (count - 1) :]
        self._state = rules.enter(Beginning(-1, *past, seed))
        self.frame = opening.frames[-1]

    def step(self, vector: np.ndarray) -> np.ndarray:
        """As `GameStage.step`."""
        done = self._model.step(self._state, tensor(vector[None]), steps=self._steps)
        self.frame = done.frame[0].permute(1, 2, 0).cpu().numpy().copy()
        return self.frame

    def save(self) -> Any:
        """As `GameStage.save`."""
        return self._state.clone(), self.frame

    def load(self, state: Any) -> None:
        """As `GameStage.load`."""
        memory, self.frame = state
        self._state = memory.clone()
