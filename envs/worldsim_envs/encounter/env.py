"""Encounter as a plain gymnasium environment."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from worldsim_envs.encounter.drawing import draw
from worldsim_envs.encounter.game import action_spec, check_temperament, new_scene, play_vector
from worldsim_envs.encounter.rules import FPS, HEIGHT, TEMPERAMENTS, WIDTH
from worldsim_envs.encounter.scene import Scene
from worldsim_envs.rules import known_options

OPTIONS = ("temperament",)


class EncounterEnv(gym.Env):
    """You meet one or two people, who answer what you do as their temperament and mood have it (`encounter.rules`).

    npcs:         1 or 2.
    temperament:  of each NPC, a name or one name for each; None draws them at each reset.
    render_scale: screen pixels a pixel of the 64x64 scene in `render()`; observations are 64x64 whatever it is.

    The action is a vector of buttons (`self.actions` names them) in [0, 1], a button counts as held from 0.5: the
    player's eight, and for each NPC its temperament, which holds until another is held, and what drives it directly.
    Observations are (64, 64, 3) uint8. An episode has no end of its own.

    `info`: `step` (frames since reset), `temperament` and `mood` (a name for each NPC), and `reactions`, a dict for
    each answer that begins with this frame: npc (0 or 1), reaction, gesture, gesture_frame, onset_frame, delay (frames
    from gesture to answer), temperament, mood (before it).
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": FPS}

    def __init__(
        self,
        *,
        npcs: int = 1,
        temperament: str | Sequence[str] | None = None,
        render_mode: str | None = None,
        render_scale: int = 1,
    ) -> None:
        if npcs not in (1, 2):
            raise ValueError(f"npcs={npcs!r}; there is room for 1 or 2")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"unknown render_mode {render_mode!r}; use None, 'rgb_array' or 'human'")
        if isinstance(render_scale, bool) or not isinstance(render_scale, int) or not 1 <= render_scale <= 16:
            raise ValueError(f"render_scale={render_scale!r}; use a whole number from 1 to 16")
        self.npcs, self.render_mode, self.render_scale = npcs, render_mode, render_scale
        self.actions = action_spec(npcs)
        self._usual = None if temperament is None else self._checked(temperament)
        self.action_space = self.actions.space()
        self.observation_space = gym.spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        self._scene: Scene | None = None
        self._viewer = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin a scene. options: `temperament`, a name, one for each NPC, or None to draw it, for this episode."""
        asked = known_options(options, OPTIONS).get("temperament", self._usual)
        asked = None if asked is None else self._checked(asked)
        super().reset(seed=seed)
        drawn = [str(name) for name in self.np_random.choice(TEMPERAMENTS, self.npcs)]
        self._scene = new_scene(self.np_random, asked or drawn)
        self._show()
        return draw(self._scene), self._info()

    def step(self, action):
        """Play one frame under a vector of buttons (A,); ValueError in one line for any other action."""
        vector = self.actions.encode(action)
        if vector.shape != (self.actions.size,):
            raise ValueError(f"action has shape {vector.shape}; give one vector ({self.actions.size},)")
        play_vector(self.scene, vector)
        self._show()
        return draw(self.scene), float(self.scene.reward), False, False, self._info()

    @property
    def scene(self) -> Scene:
        """The running scene. Its `copy()` is a save state; `restore` goes back to one."""
        if self._scene is None:
            raise ResetNeeded("call reset() first")
        return self._scene

    def restore(self, scene: Scene) -> np.ndarray:
        """Go back to a scene that `scene.copy()` gave, exactly; returns the frame that was shown there."""
        self._scene = scene.copy()
        return draw(self._scene)

    def render(self) -> np.ndarray | None:
        """The scene (64 * render_scale, 64 * render_scale, 3) uint8; mode "human" shows each frame by itself."""
        return draw(self.scene, self.render_scale) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    def get_keys_to_action(self) -> dict[tuple[int, ...], np.ndarray]:
        """Every set of one or two held pygame keys and the action it means, as `gymnasium.utils.play` asks for it."""
        from worldsim.window import key_code

        names = sorted({name for keys in self.actions.keys.values() for name in keys})
        return {
            tuple(sorted(key_code(name) for name in held)): self.actions.from_keys(held)
            for held in itertools.chain.from_iterable(itertools.combinations(names, n) for n in (1, 2))
        }

    def _checked(self, temperament: str | Sequence[str]) -> list[str]:
        if not isinstance(temperament, str | list | tuple):
            raise ValueError(f"temperament={temperament!r}; give a name, or one for each NPC")
        names = [temperament] * self.npcs if isinstance(temperament, str) else list(temperament)
        for name in names:
            check_temperament(name)
        if len(names) != self.npcs:
            raise ValueError(f"temperament names {len(names)} for {self.npcs} NPCs; give one, or one for each")
        return names

    def _info(self) -> dict[str, Any]:
        npcs = self.scene.figures[1:]
        return {
            "step": self.scene.frame,
            "temperament": tuple(npc.temperament for npc in npcs),
            "mood": tuple(npc.mood for npc in npcs),
            "reactions": tuple(reaction.told() for reaction in self.scene.reactions),
        }

    def _show(self) -> None:
        if self.render_mode != "human":
            return
        picture = draw(self.scene, self.render_scale)
        if self._viewer is None:
            from worldsim.window import Viewer

            self._viewer = Viewer("Encounter", picture.shape[:2], FPS)
        self._viewer.show(picture)
