"""A scene with an NPC, played by script or live."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from worldsim.checks import is_whole
from worldsim_envs.encounter.game import check_no_steps, check_temperament
from worldsim_envs.npc.clip import Clip
from worldsim_envs.npc.script import read_button, read_script
from worldsim_envs.npc.stage import GameStage, WorldStage, walk_up

if TYPE_CHECKING:
    from worldsim.world_model import WorldModel

GAME = "game"

Agent = Callable[[np.ndarray], str]
"""Frame (H, W, 3) uint8 -> the button that is held into the next one, "" for none."""


@dataclass(frozen=True)
class SceneState:
    """A moment of a scene, to go back to; what it holds never changes."""

    stage: Any
    place: str
    step: int
    temperament: str
    waiting: tuple[str, ...]
    driver: tuple[str, ...] | Agent | None


class NPCScene:
    """Somebody whom the player has just walked up to, and who answers what the player does.

    world:       "game" for the source game itself, or a world that imagines Encounter: a shipped world's name, a folder
                 that `WorldModel.save_pretrained` wrote, or a `WorldModel`, which scenes may share.
    seed:        of looks, place and chance. The opening is the same moment of the real game in every world, and shows
                 the same people for every temperament.
    temperament: friendly, timid, proud or hostile; `scene.temperament = ...` changes it from the next frame on.
    steps:       denoising steps a frame; None takes the world's default. device: where the network runs.

    What the player does is a script: "wave", "right*4,bow", "guard*12,rest*6,give" (`npc.script`). Gestures are wave,
    bow, give, threaten, strike and guard; left and right walk. The same seed, scripts and build give the same bytes.
    `drive` moves the NPC itself in the same words, or has an agent move it, until `release` gives it its mind back.
    Wrong names, conflicting buttons and scenes beyond `frames_left` are a ValueError in one line, which leaves the
    scene as it was.
    """

    def __init__(
        self,
        world: str | WorldModel = GAME,
        *,
        seed: int = 0,
        temperament: str = "friendly",
        steps: int | None = None,
        device: str = "cpu",
    ) -> None:
        check_temperament(temperament)
        if not is_whole(seed) or seed < 0:
            raise ValueError(f"seed={seed!r}; give a whole number from 0")
        opening = walk_up(int(seed), temperament)
        is_game = isinstance(world, str) and world == GAME
        if is_game:
            check_no_steps(steps)
        self._stage = (
            GameStage(opening) if is_game else WorldStage(world, opening, int(seed), steps=steps, device=device)
        )
        self._temperament, self._step = temperament, 0
        self._waiting: deque[str] = deque()
        self._driver: tuple[str, ...] | Agent | None = None

    @property
    def frame(self) -> np.ndarray:
        """The present frame (H, W, 3) uint8."""
        return self._stage.frame.copy()

    @property
    def fps(self) -> int:
        """Frames a second at which it is meant to be shown."""
        return self._stage.fps

    @property
    def source(self) -> str:
        """What paints the scene, in words for a caption."""
        return self._stage.source

    @property
    def frames_left(self) -> int:
        """Frames until the scene is as long as one may be."""
        return self._stage.most_frames - self._step

    @property
    def temperament(self) -> str:
        """Who the NPC is."""
        return self._temperament

    @temperament.setter
    def temperament(self, name: str) -> None:
        check_temperament(name)
        self._temperament = name

    # --- playing ---

    def react(self, script: str, frames: int = 24) -> Clip:
        """Do what the script says, then nothing, for so many frames; the scene goes on from there."""
        buttons = read_script(script)
        self._check_length(frames)
        with self._kept_by_errors():
            self._waiting.extend(buttons)
            return self._film(script, frames)

    def play(self, frames: int) -> Clip:
        """Go on for so many frames, under what was emitted."""
        self._check_length(frames)
        with self._kept_by_errors():
            return self._film("", frames)

    def emit(self, script: str) -> None:
        """Let the player do this from the next frame on, or when what was emitted before is done."""
        self._waiting.extend(read_script(script))

    def drive(self, driver: str | Agent) -> None:
        """Move the NPC directly from the next frame on, in place of its own mind, until `release`.

        driver: a script, begun when the one given before is done, as a person's keys would be; after it the NPC stands.
        Or an agent, called with each frame. What it answers is checked as scripts are, before the scene goes on; it is
        not copied by save states and comparisons, so one that remembers should only be asked forward.
        """
        if isinstance(driver, str):
            before = self._driver if isinstance(self._driver, tuple) else ()
            driver = (*before, *read_script(driver))
        elif not callable(driver):
            raise ValueError(
                f"driver {driver!r} moves nobody; give a script such as 'wave', or a function of the frame"
            )
        self._driver = driver

    def release(self) -> None:
        """Give the NPC its own mind back from the next frame on, calm and of the scene's temperament."""
        self._driver = None

    def step(self) -> np.ndarray:
        """Go on by one frame: (H, W, 3) uint8."""
        self._check_length(1)
        self._advance()
        return self.frame

    def compare(
        self, scripts: Mapping[str, str | EllipsisType], frames: int = 24, *, temperament: str | None = None
    ) -> dict[str, Clip]:
        """What would follow each script, by label, from this very moment and under the same noise.

        `...` for a script that its label already is. temperament: in all of them; None leaves it. The scene stays as it
        is.
        """
        if not isinstance(scripts, Mapping):
            raise ValueError(f"scripts={scripts!r}; give them by label, as {{'wave': ..., 'closer': 'left*2,give'}}")
        named = {label: label if script is ... else script for label, script in scripts.items()}
        for script in named.values():
            read_script(script)
        check_temperament(temperament or self._temperament)
        self._check_length(frames)
        return {label: self._branch(script, frames, temperament) for label, script in named.items()}

    # --- save states ---

    def save_state(self) -> SceneState:
        """The scene as it stands; `load_state` goes on from there, bit for bit."""
        waiting = tuple(self._waiting)
        return SceneState(self._stage.save(), self._stage.place, self._step, self._temperament, waiting, self._driver)

    def load_state(self, state: SceneState) -> np.ndarray:
        """Go back to a moment of this scene: its frame (H, W, 3) uint8. ValueError in one line for anything else."""
        here = self._stage.place
        if not isinstance(state, SceneState) or state.place != here:
            seen = f"of {state.place}" if isinstance(state, SceneState) else f"a {type(state).__name__}"
            raise ValueError(f"the state is {seen}; give what save_state() of a scene in {here} returned")
        self._stage.load(state.stage)
        self._step, self._temperament = state.step, state.temperament
        self._waiting, self._driver = deque(state.waiting), state.driver
        return self.frame

    def _branch(self, script: str, frames: int, temperament: str | None) -> Clip:
        here = self.save_state()
        try:
            self._temperament = temperament or self._temperament
            return self.react(script, frames)
        finally:
            self.load_state(here)

    @contextmanager
    def _kept_by_errors(self) -> Iterator[None]:
        """The scene as it was where what follows fails, as where an agent answers what is no button."""
        here = self.save_state()
        try:
            yield
        except BaseException:
            self.load_state(here)
            raise

    def _film(self, script: str, count: int) -> Clip:
        who = self._temperament if self._driver is None else "driven"
        title = f"Encounter, {who} ({self.source})"
        frames, vectors, words = [self.frame], [], []
        for _ in range(count):
            vector, button = self._advance()
            frames.append(self.frame)
            vectors.append(vector)
            words.append(button)
        return Clip(np.stack(frames), np.stack(vectors), tuple(words), self.fps, title, script)

    def _advance(self) -> tuple[np.ndarray, str]:
        """Go on by one frame; returns the channel vector (A,) and the button that the player held."""
        held = [f"npc_{self._temperament}"] if self._driver is None else self._driven()
        button = self._waiting.popleft() if self._waiting else ""
        vector = self._stage.actions.vector(**dict.fromkeys(held + ([button] if button else []), 1.0))
        self._stage.step(vector)
        self._step += 1
        return vector, button

    def _driven(self) -> list[str]:
        """The NPC's channels of the next frame; changes what is left of a script."""
        if isinstance(self._driver, tuple):
            button, self._driver = (self._driver or ("",))[0], self._driver[1:]
        else:
            button = read_button(self._driver(self.frame))
        return ["npc_driven", *([f"npc_{button}"] if button else [])]

    def _check_length(self, frames: int) -> None:
        if not is_whole(frames) or frames < 1:
            raise ValueError(f"frames={frames!r}; give a whole number from 1")
        if frames > self.frames_left:
            most = f"a scene has {self._stage.most_frames} frames at most and {self._step} are played"
            right = f"ask for {self.frames_left} or fewer" if self.frames_left else "begin a new scene"
            raise ValueError(f"frames={frames} is too long: {most}; {right}")
