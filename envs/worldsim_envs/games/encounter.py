"""Encounter as a source game: what is recorded of it holds each NPC's temperament in the action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from worldsim_envs.encounter.drawing import draw, find_tunic
from worldsim_envs.encounter.game import action_spec, new_scene, play_vector
from worldsim_envs.encounter.rules import BUTTONS, FPS, GESTURES, HEIGHT, TEMPERAMENTS, WIDTH
from worldsim_envs.encounter.scene import PLAYER_LOOK, Scene
from worldsim_envs.games.base import Game, PolicyFactory, Position


def _single_buttons(npcs: int) -> tuple[tuple[float, ...], ...]:
    """None of the player's buttons, then each of them alone; they leave the NPCs as they are."""
    spec = action_spec(npcs)
    return tuple(tuple(spec.vector(**held)) for held in ({}, *({button: 1.0} for button in BUTTONS)))


class Encounter(Game):
    """A player and one NPC. The action is the channel vector, the temperament among it; `scene` tells who did what."""

    name = "encounter"
    env_id = "worldsim/EncounterGame-v0"
    licence = "MIT; drawn by this package"
    packages = ("worldsim", "numpy")
    fps = FPS
    height, width = HEIGHT, WIDTH
    npcs: ClassVar[int] = 1
    actions = action_spec(1)
    max_episode_steps = 300
    choices = _single_buttons(1)
    effects = {"x": (0, -1, 1, *[0] * len(GESTURES))}

    def __init__(self) -> None:
        self._scene: Scene | None = None

    @property
    def scene(self) -> Scene:
        """The running scene, for policies and labels; change it only through `step`."""
        if self._scene is None:
            raise RuntimeError("there is no episode; call reset(seed) first")
        return self._scene

    def reset(self, seed: int | np.random.SeedSequence) -> np.ndarray:
        rng = np.random.default_rng(seed)
        self._scene = new_scene(rng, [str(name) for name in rng.choice(TEMPERAMENTS, self.npcs)])
        return draw(self._scene)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool]:
        vector = self.actions.encode(action)
        if vector.shape != (self.actions.size,):
            raise ValueError(f"action has shape {vector.shape}; give one vector ({self.actions.size},)")
        if self._scene is None:
            raise RuntimeError("there is no episode to step; call reset(seed) first")
        play_vector(self._scene, vector)
        return draw(self._scene), float(self._scene.reward), False

    def save(self) -> Scene:
        return self.scene.copy()

    def restore(self, state: Scene) -> np.ndarray:
        self._scene = state.copy()
        return draw(self._scene)

    def close(self) -> None:
        self._scene = None

    def luck(self) -> int:
        """The state of the dice, 64 bits."""
        return self.scene.luck

    def set_luck(self, luck: int) -> None:
        """Change the dice. ValueError for a number that is none of theirs."""
        if not 0 <= luck < 1 << 64:
            raise ValueError(f"luck {luck} is no state of the dice; use one that luck() gave")
        self.scene.luck = luck

    def reroll(self, rng: np.random.Generator) -> None:
        """Change the dice to any state."""
        self.set_luck(int(rng.integers(1 << 64, dtype=np.uint64)))

    @classmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        from worldsim_envs.encounter.policies import Duet, Masher, Visitor

        return {"visitor": Visitor, "random": Masher, "duet": Duet}

    @staticmethod
    def player_xy(frame: np.ndarray) -> Position | None:
        """Middle of the red tunic."""
        return find_tunic(frame, (PLAYER_LOOK,))

    @staticmethod
    def opponent_xy(frame: np.ndarray) -> Position | None:
        """Middle of the NPC's tunic, whichever of the four it wears; of two NPCs the one more to be seen."""
        return find_tunic(frame, tuple(range(PLAYER_LOOK)))


class EncounterPair(Encounter):
    """A player between two NPCs, each with a temperament of its own; the one that the player faces is meant."""

    name = "encounter_pair"
    env_id = "worldsim/EncounterPairGame-v0"
    npcs = 2
    actions = action_spec(2)
    choices = _single_buttons(2)
