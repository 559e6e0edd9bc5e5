"""Episodes in a world that begin at moments of a recording: where a world may begin when an agent learns in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from worldsim_training.dataset import Recording


@dataclass(frozen=True)
class RecordedStarts:
    """A `start_loader` of `WorldVectorEnv`: every episode begins at a moment of the recording, all alike likely.

    length: frames of a past, best `WorldInfo.window_frames`. No episode begins where the game has ended. With short
    episodes an agent stays near what the world has seen, where it is truest, and meets what long play does not dream
    up by itself (branched rollouts of Janner et al. 2019, MBPO). ValueError where no episode is longer than `length`.
    """

    recording: Recording
    length: int

    def __post_init__(self) -> None:
        self.recording.windows(self.length + 1)

    def __call__(self, world: int, rng: np.random.Generator) -> dict[str, Any]:
        """Reset options: frames (K, H, W, 3) uint8 and the K - 1 native actions between them."""
        first = int(self.recording.sample_starts(rng, 1, self.length + 1)[0])  # one frame more: the game went on
        led = self.recording.actions[first + 1 : first + self.length]
        actions = [self.recording.spec.decode(vector) for vector in led]
        return {"frames": self.recording.frames[first : first + self.length], "actions": np.array(actions)}
