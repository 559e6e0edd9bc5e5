"""What a world is apart from its networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from worldsim.names import titled
from worldsim.sampler import NOMINAL_STEPS, step_sigmas

LATER_FIELDS = {"draws_ends", "drawn_end_reward", "final_rewards", "kept_sigma", "still_levels"}
"""Of `WorldInfo`, which worlds saved before them lack."""


@dataclass(frozen=True)
class WorldInfo:
    """What a world is, apart from its weights."""

    name: str
    env_id: str
    """gymnasium id of the source game."""
    height: int
    width: int
    fps: int
    """Frames a second at which the source game was recorded."""
    window_frames: int
    """Past frames that the network's attention sees; as many real frames make a good start."""
    max_episode_steps: int
    shift: float
    """Warp of the nominal step lists; above 1 their later steps start nearer to pure noise."""
    single_sigma: float = 1.0
    """Noise level of the call that paints a frame in one step; see `worldsim.sampler.step_sigmas`."""
    default_steps: int = 2
    step_choices: tuple[int, ...] = tuple(NOMINAL_STEPS)
    draws_ends: bool = False
    """Whether an episode ends by chance, as often as the head thinks that it may, and not where that is likelier than
    not. So it is in a game whose end hangs on what no frame shows, such as the player's health."""
    drawn_end_reward: float | None = None
    """What the step pays whose end came by chance, against the head's own guess, as the source game pays for a death
    that nobody sees coming. None: what the head reads off the frame."""
    final_rewards: tuple[float, ...] = ()
    """Rewards that only the last step of an episode pays, such as the goal's: they end it, whatever the head thinks."""
    kept_sigma: float = 0.0
    """Up to this noise level the last denoising call of a frame leaves its keys and values as the frame's memory, so
    that no pass has to write clean ones. Above it, and for frames that no call painted, one does. A frame that held a
    NaN is remembered as zeros. 0: all frames are committed."""
    still_levels: int = 0
    """A pixel that the network changes by at most so many of 255 levels in each channel keeps its bytes, as most do in
    a game whose picture stands: what nobody sees in one frame would else wear edges away in hundreds."""

    @property
    def title(self) -> str:
        """The name as a heading."""
        return titled(self.name, self.env_id)

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """Noise levels of the calls that paint a frame in 1, 2 or 4 steps; ValueError for any other count."""
        return step_sigmas(steps, self.shift, single=self.single_sigma)

    @classmethod
    def from_json(cls, stored: Mapping) -> WorldInfo:
        """The description in a world's index; ValueError where it has missing or unknown fields."""
        known = {field.name for field in fields(cls)}
        if odd := (set(stored) ^ known) - (LATER_FIELDS - set(stored)):
            raise ValueError(f"world description has missing or unknown fields: {', '.join(sorted(odd))}")
        listed = {name: tuple(stored[name]) for name in ("step_choices", "final_rewards") if name in stored}
        return cls(**{**stored, **listed})


@dataclass(frozen=True)
class Starts:
    """Held-out real moments to begin from: frames (S, K, H, W, 3) uint8, native actions (S, K-1[, A])."""

    frames: np.ndarray
    actions: np.ndarray

    def save(self, path: Path) -> None:
        """Write the frames as one PNG: a start a row, its frames from left to right."""
        Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in self.frames])).save(path)

    @classmethod
    def load(cls, path: Path, height: int, width: int, actions: list) -> Starts:
        """What `save` wrote, with the actions beside it; ValueError where the sheet's size is not theirs."""
        native = np.asarray(actions)
        right = (width * (native.shape[1] + 1), height * native.shape[0]) if native.ndim > 1 else None
        with Image.open(path, formats=["PNG"]) as image:
            if image.size != right:  # checked before a pixel is decoded
                raise ValueError(f"start frames {path} are {image.size} pixels; its actions call for {right}")
            sheet = np.asarray(image.convert("RGB"))
        rows = sheet.reshape(-1, height, native.shape[1] + 1, width, 3)
        return cls(rows.transpose(0, 2, 1, 3, 4).copy(), native if native.size else native.astype(np.int64))
