"""Agents that Stable-Baselines3 saved, without reading a pickle.

Such a .zip holds the policy's weights as plain tensors, and beside them pickled objects, which could run any code: they
are left alone. So the network must be one that its name and the weights tell: PPO's or A2C's `CnnPolicy` with default
`policy_kwargs`, trained on frames (H, W, 3) uint8 or on several of them stacked (`VecFrameStack`).
"""

from __future__ import annotations

import json
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

FIRST_LAYER = "features_extractor.cnn.0.weight"  # (32, C, 8, 8)


def trained_agent(path: Path, observations: gym.Space, actions: gym.Space) -> Stacked:
    """The agent in that file, which acts greedily. ValueError in one line where it cannot be had or was trained on
    other frames (H, W, 3) or actions than these.
    """
    try:
        from stable_baselines3.common.policies import ActorCriticCnnPolicy
        from stable_baselines3.common.save_util import load_from_zip_file
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'an agent.zip needs stable-baselines3: pip install "worldsim[rl]"', name="stable_baselines3"
        ) from None
    _check_kind(path)
    _, parameters, _ = load_from_zip_file(path, device="cpu", load_data=False)
    weights = parameters["policy"]
    height, width, colours = observations.shape
    stacked = _stacked(path, weights, colours)
    space = gym.spaces.Box(0, 255, (colours * stacked, height, width), np.uint8)
    policy = ActorCriticCnnPolicy(space, actions, lambda progress: 0.0)
    try:
        policy.load_state_dict(weights)
    except RuntimeError:
        raise ValueError(
            f"agent '{path}' was trained on other frames or actions; here are {height}x{width} and {actions}"
        ) from None
    policy.set_training_mode(False)
    return Stacked(policy, stacked)


class Stacked:
    """A policy that sees the last frames on the screen, oldest first; black ones before the first."""

    def __init__(self, policy, count: int) -> None:
        self._policy = policy
        self._seen: deque[np.ndarray] = deque(maxlen=count)

    def reset(self) -> None:
        """Forget the frames: the next one is the first."""
        self._seen.clear()

    def __call__(self, frame: np.ndarray) -> Any:
        """The action for a frame (H, W, 3) uint8."""
        while len(self._seen) < self._seen.maxlen - 1:
            self._seen.append(np.zeros_like(frame))
        self._seen.append(frame)
        planes = np.moveaxis(np.concatenate(self._seen, axis=2), 2, 0)
        action, _ = self._policy.predict(planes, deterministic=True)
        return action


def _check_kind(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            told = json.loads(archive.read("data"))
        policy, kwargs = str(told["policy_class"]["__init__"]), told["policy_kwargs"]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError):
        raise ValueError(f"'{path}' is no agent that Stable-Baselines3 saved; give what model.save() wrote") from None
    if "ActorCriticCnnPolicy." not in policy or kwargs:
        seen = policy.removeprefix("<function ").partition(".")[0] + (" with policy_kwargs" if kwargs else "")
        raise ValueError(f"agent '{path}' is a {seen}; PPO's or A2C's CnnPolicy with default policy_kwargs can be read")


def _stacked(path: Path, weights: dict, colours: int) -> int:
    """How many frames the network sees at once."""
    planes = weights[FIRST_LAYER].shape[1]
    if planes % colours:
        raise ValueError(f"agent '{path}' sees {planes} planes; frames here have {colours} colours, so no whole number")
    return planes // colours
