"""Scripted drivers that read track and car from the game's state."""

from __future__ import annotations

import numpy as np

from worldsim_envs.games.base import Policy
from worldsim_envs.games.carracing import CarRacing
from worldsim_envs.games.policies import HeldRandom, Switching

LOOK_AHEAD_SECONDS = 0.35
TILE_METRES = 3.5
AWAY_METRES = 1000.0  # beyond the field from anywhere in it


class Driver:
    """Steers for a point of the road ahead and slows down before bends; each has a pace and a line of its own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.pace = float(rng.uniform(20.0, 45.0))
        self.whim = float(rng.uniform(0.0, 0.1))
        self.left, self.aside = 0, 0.0

    def __call__(self, game: CarRacing) -> np.ndarray:
        if self.left == 0:
            self.left, self.aside = int(self.rng.integers(15, 50)), float(self.rng.uniform(-3.0, 3.0))
        self.left -= 1
        road, (place, nose, speed) = game.road(), game.car()
        here = int(np.linalg.norm(road - place, axis=1).argmin())
        turn = _bearing(self._aim(road, here, speed) - place, nose)
        bend = abs(_bearing(road[(here + 14) % len(road)] - road[(here + 7) % len(road)], nose))
        wanted = self.pace / (1 + 1.5 * bend)
        steer = np.clip(2.0 * turn + self.rng.normal(0, self.whim), -1, 1)
        gas = float(np.clip(0.1 * (wanted - speed), 0, 1)) * (1 - 0.6 * abs(steer))
        return np.array([steer, gas, np.clip(0.05 * (speed - wanted - 5), 0, 0.8)], np.float32)

    def _aim(self, road: np.ndarray, here: int, speed: float) -> np.ndarray:
        far = (here + 3 + int(LOOK_AHEAD_SECONDS * speed / TILE_METRES)) % len(road)
        along = road[(far + 1) % len(road)] - road[far]
        return road[far] + self.aside * np.array([along[1], -along[0]]) / np.linalg.norm(along)


def drifting(rng: np.random.Generator) -> Policy:
    """Drivers who lose and find the road: random actions and the driver in turn."""
    return Switching(rng, (HeldRandom, Driver, Driver))


class Leaver:
    """Leaves the track for the edge of the field, now and then along it or back, and at last drives over it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.pace = float(rng.uniform(15.0, 40.0))
        self.left, self.goal = 0, np.zeros(2)

    def __call__(self, game: CarRacing) -> np.ndarray:
        place, nose, speed = game.car()
        if self.left == 0:
            self.left = int(self.rng.integers(30, 90))
            outward = np.arctan2(place[1], place[0])
            aside = self.rng.uniform(-0.7, 0.7) if self.rng.random() < 0.7 else self.rng.uniform(-np.pi, np.pi)
            self.goal = place + AWAY_METRES * np.array([np.cos(outward + aside), np.sin(outward + aside)])
        self.left -= 1
        turn = _bearing(self.goal - place, nose)
        gas = 0.6 * float(np.clip(0.1 * (self.pace - speed), 0, 1)) * (1 - 0.6 * min(1, abs(turn)))
        return np.array([np.clip(turn, -1, 1), gas, 0], np.float32)


def _bearing(way: np.ndarray, nose: np.ndarray) -> float:
    """Angle in radians from the nose to a way, positive to the right."""
    return float(np.arctan2(way[0] * nose[1] - way[1] * nose[0], way @ nose))
