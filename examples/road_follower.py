"""An agent that drives CarRacing by the road that it sees.

worldsim record carracing --agent examples/road_follower.py
"""

import numpy as np

AHEAD = slice(38, 58)
"""Rows of the picture in front of the car, which stays at row 66 and column 48."""
CAR, FULL_LOCK = 47.5, 16.0
"""The car's column, and how many columns beside it the road must lie for the wheel to be turned as far as it goes."""


def act(observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(96, 96, 3) uint8 -> steering in [-1, 1], gas and brake in [0, 1]: towards the grey ahead, else straight on."""
    ahead = observation[AHEAD].astype(int)
    grey = (np.ptp(ahead, axis=-1) < 25) & (ahead.mean(axis=-1) < 150)
    aside = (np.nonzero(grey)[1].mean() - CAR) / FULL_LOCK if grey.any() else 0.0
    steering = float(np.clip(aside, -1.0, 1.0))
    return np.array([steering, 0.3 * (1.0 - abs(steering)) + 0.05, 0.1 * abs(steering)], np.float32)
