"""CarRacing of gymnasium's Box2D: a race track from above, with continuous steering, gas and brake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.base import PolicyFactory, Position
from worldsim_envs.games.gymnasium_game import GymnasiumGame
from worldsim_envs.games.policies import HeldRandom

SKIP = 2
ZOOM_SCREENS = 50
"""Screens, one second, in which the picture zooms in on the car from far above."""
OPENING_ACTION_STEPS = 20


BAR_ROWS, BAR_ORIGIN = slice(87, 90), 47.5
"""Where the green bar is drawn, which begins at the origin and grows to the side that the wheels are turned to."""
LEAST_GREEN = 0.1
"""Pixels of full green: a bar shorter than that is none to be seen."""


@dataclass(frozen=True)
class Drive:
    """A save state: all that was done since the reset, which leads to the same bytes again."""

    seed: int
    actions: tuple[np.ndarray, ...]
    """Of every screen."""
    frame: np.ndarray
    ended: bool


class CarRacing(GymnasiumGame):
    """CarRacing-v3 with two screens a step, so 25 steps a second; a new track every episode.

    The action is the source's own, Box([-1, 0, 0], 1): steering to the right, gas, brake. A frame is the source's
    picture with the bar below: score, speed, wheels, steering and turning. An episode begins when the picture has
    zoomed in. The reward is the number of road tiles first touched in a step; the source's own, 1000 / tiles on the
    track for each and -0.1 a screen, has other values on every track.

    Box2D cannot copy its state. A save state is the seed with all actions, and is played again, unseen, to get there.
    """

    name = "carracing"
    env_id = "CarRacing-v3"
    licence = "gymnasium MIT; no further assets"
    packages = ("gymnasium", "Box2D", "pygame-ce")
    fps = 50 // SKIP
    height = width = 96
    max_episode_steps = 500
    actions = ActionSpec(
        [Channel("steer", "axis"), Channel("gas", "pedal"), Channel("brake", "pedal")],
        keys={
            "steer-": ("left", "a"),
            "steer+": ("right", "d"),
            "gas": ("up", "w"),
            "brake": ("down", "s", "space"),
        },
    )

    choices = ((0, 0, 0), (-1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 0.8), (-0.5, 0.5, 0), (0.5, 0.5, 0))
    effects = {"steer": (0, -1, 1, 0, 0, -1, 1)}
    draws_player = False

    def __init__(self) -> None:
        super().__init__()
        self._draw = self.env.unwrapped._render
        self._seed, self._played = 0, []

    def picture(self, observation: Any) -> np.ndarray:
        return self._draw("state_pixels")

    def reset(self, seed: int | np.random.SeedSequence) -> np.ndarray:
        """Start an episode after the zoom and 0 to 20 steps of random driving."""
        rng = np.random.default_rng(seed)
        self._start(int(rng.integers(1 << 31)))
        self._frame = self._look(None)
        opening = HeldRandom(rng)
        for _ in range(rng.integers(OPENING_ACTION_STEPS, endpoint=True)):
            self.step(opening(self))
        return self._frame.copy()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool]:
        tiles = self._go(action)
        self._frame = self._look(None)
        return self._frame.copy(), float(tiles), self._ended

    def last_frames(self, actions: Iterable[Any], count: int) -> np.ndarray:
        """As `Game.last_frames`, drawing only those: first all is driven unseen, to see where it ends, then again."""
        actions, start = [*actions], self.save()
        played = 0
        for action in actions:
            self._go(action)
            played += 1
            if self._ended:
                break
        unseen = max(0, played - count)
        self.restore(start)
        for action in actions[:unseen]:
            self._go(action)
        return super().last_frames(actions[unseen:played], count)

    def save(self) -> Drive:
        if self._frame is None:
            raise RuntimeError("there is no episode to save; call reset(seed) first")
        return Drive(self._seed, tuple(self._played), self._frame.copy(), self._ended)

    def restore(self, state: Drive) -> np.ndarray:
        """Play the state's actions again; from here on where they go on from the present state, else from the reset."""
        done = len(self._played)
        ahead = self._seed == state.seed and 0 < done <= len(state.actions) and not self._ended
        if not ahead or any(a is not b for a, b in zip(self._played, state.actions, strict=False)):
            self._start(state.seed, zoom=False)
        for action in state.actions[len(self._played) :]:
            self._drive(action)
        self._frame, self._ended = state.frame.copy(), state.ended
        return self._frame.copy()

    @staticmethod
    def player_xy(frame: np.ndarray) -> Position | None:
        """How far the wheels are turned, as x in pixels to the right, read off the green bar; None without the bar.

        The car itself never leaves its place in the picture.
        """
        bar = frame[BAR_ROWS].astype(np.float64)
        green = np.clip((bar[..., 1] - bar[..., [0, 2]].max(axis=-1)) / 255, 0.0, 1.0).mean(axis=0)
        if green.sum() < LEAST_GREEN:
            return None
        columns = np.arange(frame.shape[1]) - BAR_ORIGIN
        return float(2 * (green @ columns) / green.sum()), (BAR_ROWS.start + BAR_ROWS.stop - 1) / 2

    @classmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        from worldsim_envs.games.carracing_policies import Driver, Leaver, drifting

        return {"mixed": drifting, "driver": Driver, "random": HeldRandom, "leaver": Leaver}

    def road(self) -> np.ndarray:
        """Middle line of the track, (N, 2) in metres, in driving order."""
        return np.array([(x, y) for _, _, x, y in self.env.unwrapped.track])

    def car(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Place (2,) in metres, unit vector (2,) of where its nose points, and speed in metres a second."""
        hull = self.env.unwrapped.car.hull
        nose = np.array([-np.sin(hull.angle), np.cos(hull.angle)])
        return np.array(hull.position), nose, float(np.linalg.norm(hull.linearVelocity))

    def _start(self, seed: int, *, zoom: bool = True) -> None:
        # Drawing takes most of a screen's time and changes nothing; only `picture` draws.
        self.env.unwrapped._render = lambda mode: None
        self.env.unwrapped.reset(seed=seed)
        self._seed, self._played, self._ended = seed, [], False
        rest = self.actions.vector()
        for _ in range(ZOOM_SCREENS * zoom):
            self._drive(rest)

    def _go(self, action: Any) -> int:
        """One step, unseen; returns the road tiles that it touched first."""
        action = self.actions.encode(action)
        if action.shape != (self.actions.size,):
            raise ValueError(f"action has shape {action.shape}; give one vector ({self.actions.size},)")
        if self._ended:
            raise RuntimeError("there is no episode to step; call reset(seed) first")
        before = self.env.unwrapped.tile_visited_count
        for _ in range(SKIP):
            if not self._ended:
                self._drive(action)
        return self.env.unwrapped.tile_visited_count - before

    def _drive(self, action: np.ndarray) -> None:
        _, _, terminated, truncated, _ = self.env.unwrapped.step(action)
        self._played.append(action)
        self._ended = bool(terminated or truncated)
