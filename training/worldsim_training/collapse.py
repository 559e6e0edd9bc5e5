"""The signs by which a long imagined rollout counts as collapsed.

No sign has a limit of its own: `Limits.from_real` widens the range that real rollouts of the same split cover. A real
rollout must therefore never be flagged, and each mutant of `mutants` must be; `evaluate` checks both before it judges
a world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from worldsim_training import metrics

BLOCK = 64
"""Frames over which a picture statistic is averaged before it is judged."""

REASONS = ("frozen", "stuck", "vanished", "smeared", "noise", "saturated")

Locate = Callable[[np.ndarray], tuple[float, float] | None]
"""Frame (H, W, 3) uint8 -> position (x, y) of one sprite in pixels, None where it cannot be seen."""


@dataclass(frozen=True)
class Reference:
    """What real frames of one game look like."""

    frames: np.ndarray
    """(R, H, W, 3) float32 in 0..255, a sample of real frames."""
    background: np.ndarray
    """(H, W, 3) uint8, the median picture."""
    moving: np.ndarray
    """(H, W) bool, the pixels that vary; sharpness and contrast are read there."""
    colours: np.ndarray
    """(3, 256) mean cumulative colour histogram."""
    sharpness: float
    """Mean Laplacian on the moving pixels, in levels."""
    contrast: float
    """Mean squared deviation from the background on the moving pixels."""
    saturation: float
    """Mean chroma, in levels."""
    motion: float
    """Mean change a frame, in levels."""
    still_pixels: float
    """A step that changes fewer pixels than this changed nothing: a tenth of the median step."""

    @classmethod
    def from_real(cls, rollouts: Sequence[np.ndarray], *, frames: int = 1000) -> Reference:
        """The reference of real rollouts, each (T, H, W, 3) uint8; keeps at most about `frames` of their frames."""
        stride = max(1, sum(len(rollout) for rollout in rollouts) // frames)
        sample = np.concatenate([rollout[::stride] for rollout in rollouts])
        moving = metrics.moving_pixels(sample)
        if not moving.any():
            raise ValueError(f"{len(sample)} real frames hold no moving pixel; a still game has no collapse")
        background = np.median(sample, axis=0).astype(np.uint8)
        changes = np.concatenate([metrics.changed_pixels(rollout) for rollout in rollouts])
        return cls(
            frames=sample.astype(np.float32),
            background=background,
            moving=moving,
            colours=metrics.colour_cumulative(sample).mean(axis=0),
            sharpness=float(metrics.sharpness(sample, moving).mean()),
            contrast=float(metrics.contrast(sample, background, moving).mean()),
            saturation=float(metrics.saturation(sample).mean()),
            motion=float(np.mean([metrics.motion(rollout).mean() for rollout in rollouts])),
            still_pixels=max(1.0, 0.1 * float(np.median(changes))),
        )


@dataclass(frozen=True)
class Signs:
    """What one rollout shows; ratios are to real frames, extremes are over blocks of 64 frames."""

    still_steps: int
    """Longest run of steps without change."""
    stuck_steps: int
    """Longest run of steps in which the player's sprite keeps its place (0 where the game cannot locate it)."""
    missing_frames: int
    """Longest run of frames in which some sprite cannot be seen."""
    sharpness_low: float
    sharpness_high: float
    contrast_low: float
    motion_high: float
    saturation_low: float
    saturation_high: float
    colour_distance: float
    """Largest distance of the colour histogram, in levels."""
    nearest_db: float
    """PSNR of the frame farthest from every real frame, in dB."""


def read_signs(frames: np.ndarray, reference: Reference, sprites: Sequence[Locate] = (), *, stride: int = 10) -> Signs:
    """Signs of one rollout (T, H, W, 3) uint8. sprites: the player's first. stride: of the neighbour search."""
    sharp = metrics.moving_average(metrics.sharpness(frames, reference.moving) / reference.sharpness, BLOCK)
    contrast = metrics.contrast(frames, reference.background, reference.moving) / reference.contrast
    chroma = metrics.moving_average(metrics.saturation(frames) / reference.saturation, BLOCK)
    colours = metrics.colour_distance(metrics.colour_cumulative(frames), reference.colours)
    tracks = [sprite_track(frames, locate) for locate in sprites]
    return Signs(
        still_steps=metrics.longest_run(metrics.changed_pixels(frames) < reference.still_pixels),
        stuck_steps=longest_stay(tracks[0]) if tracks else 0,
        missing_frames=max((metrics.longest_run(np.isnan(track[:, 0])) for track in tracks), default=0),
        sharpness_low=float(sharp.min()),
        sharpness_high=float(sharp.max()),
        contrast_low=float(metrics.moving_average(contrast, BLOCK).min()),
        motion_high=float(metrics.moving_average(metrics.motion(frames) / reference.motion, BLOCK).max()),
        saturation_low=float(chroma.min()),
        saturation_high=float(chroma.max()),
        colour_distance=float(metrics.moving_average(colours, BLOCK).max()),
        nearest_db=float(metrics.nearest_psnr(frames[::stride], reference.frames).min()),
    )


def sprite_track(frames: np.ndarray, locate: Locate) -> np.ndarray:
    """Positions of a sprite over a rollout, (T, 2) float64 in pixels; NaN where it cannot be seen."""
    return np.array([(np.nan, np.nan) if (xy := locate(frame)) is None else xy for frame in frames], dtype=np.float64)


def longest_stay(track: np.ndarray, *, pixels: float = 0.5) -> int:
    """Longest run of steps over which a seen sprite stays within `pixels` of where it was; track (T, 2)."""
    longest, start = 0, 0
    for t in range(1, len(track)):
        if not np.abs(track[t] - track[start]).max() <= pixels:  # NaN ends a stay: an unseen sprite is judged elsewhere
            start = t
        longest = max(longest, t - start)
    return longest


@dataclass(frozen=True)
class Limits:
    """The range within which a rollout has not collapsed; the margins beyond the real range are in `from_real`."""

    still_steps: int
    stuck_steps: int
    missing_frames: int
    sharpness: tuple[float, float]
    contrast: float
    motion: float
    saturation: tuple[float, float]
    colour_distance: float
    nearest_db: float

    @classmethod
    def from_real(cls, signs: Sequence[Signs]) -> Limits:
        """Limits that leave every one of these real rollouts well inside."""

        def highest(name: str) -> float:
            return max(getattr(sign, name) for sign in signs)

        def lowest(name: str) -> float:
            return min(getattr(sign, name) for sign in signs)

        return cls(
            still_steps=max(64, 2 * int(highest("still_steps"))),
            stuck_steps=max(64, 2 * int(highest("stuck_steps"))),
            missing_frames=max(16, 2 * int(highest("missing_frames"))),
            sharpness=(0.5 * lowest("sharpness_low"), 2.0 * highest("sharpness_high")),
            contrast=0.6 * lowest("contrast_low"),
            motion=4.0 * highest("motion_high"),
            saturation=(0.75 * lowest("saturation_low"), 1.33 * highest("saturation_high")),
            colour_distance=max(6.0, 4.0 * highest("colour_distance")),
            nearest_db=max(10.0, lowest("nearest_db") - 6.0),
        )


def collapse_reasons(signs: Signs, limits: Limits) -> tuple[str, ...]:
    """Why a rollout counts as collapsed, of REASONS; empty where it does not.

    A value that is not a number counts as noise.
    """
    flags = {
        "frozen": signs.still_steps >= limits.still_steps,
        "stuck": signs.stuck_steps >= limits.stuck_steps,
        "vanished": signs.missing_frames >= limits.missing_frames,
        "smeared": not (signs.sharpness_low >= limits.sharpness[0] and signs.contrast_low >= limits.contrast),
        "noise": not (
            signs.sharpness_high <= limits.sharpness[1]
            and signs.motion_high <= limits.motion
            and signs.nearest_db >= limits.nearest_db
        ),
        "saturated": not (
            limits.saturation[0] <= signs.saturation_low
            and signs.saturation_high <= limits.saturation[1]
            and signs.colour_distance <= limits.colour_distance
        ),
    }
    return tuple(name for name in REASONS if flags[name])
