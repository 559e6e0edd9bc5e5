"""Moments of a recording as start states: where a world begins, and where an agent that learns in it may begin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldsim.world_info import Starts
from worldsim_training.dataset import Recording


def recorded_starts(recording: Recording, count: int, length: int, seed: int, policies: Sequence[str] = ()) -> Starts:
    """So many moments after which the game went on, all alike likely, each with the past of `length` frames to it.

    length: best `WorldInfo.window_frames`. policies: whose episodes they are of; none: everybody's. With short episodes
    from many such moments an agent stays near what the world has seen, where it is truest, and meets what long play
    does not dream up by itself (branched rollouts of Janner et al. 2019, MBPO). ValueError where no such episode is
    longer than `length`.
    """
    firsts = recording.sample_starts(np.random.default_rng(seed), count, length + 1, policies)  # one more: it went on
    frames = np.stack([recording.frames[first : first + length] for first in firsts])
    led = [recording.actions[first + 1 : first + length] for first in firsts]
    return Starts(frames, np.array([[recording.spec.decode(vector) for vector in vectors] for vectors in led]))
