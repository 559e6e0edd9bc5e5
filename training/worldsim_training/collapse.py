"""The signs by which a long imagined rollout counts as collapsed.

The scenes of one game may differ more from each other than a ruined picture of a scene differs from it. So sharpness
and colours are those of a rollout beside its own opening, the real frames that it begins with; a sign that asks for no
scene is read beside the whole game.

No sign has a limit of its own: `Limits.from_real` widens the range that real rollouts of the same split cover, each
beside its own opening too. A real rollout must therefore never be flagged, and each mutant of `mutants` must be;
`evaluate` checks both before it judges a world. The check needs real rollouts that the judge has not seen; a world may
begin wherever the held-out episodes have been, so they all show the judge what is real before it judges one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from worldsim_training import metrics

BLOCK = 64
"""Frames over which a picture statistic is averaged before it is judged."""
TRAIL_STEPS = 20
"""Steps whose change is compared with that of one: a smeared rollout shows them in one picture."""
BLANK = 0.1
"""Levels added on both sides of a ratio to an opening, which may be grey or empty."""

REASONS = ("frozen", "stuck", "vanished", "smeared", "noise", "saturated")

Locate = Callable[[np.ndarray], tuple[float, float] | None]
"""Frame (H, W, 3) uint8 -> position (x, y) of one sprite in pixels, None where it cannot be seen."""


@dataclass(frozen=True)
class Reference:
    """What holds for real frames of one game in all of its scenes."""

    frames: np.ndarray
    """(R, H, W, 3) float32 in 0..255, a sample of real frames."""
    colours: np.ndarray
    """(R, 3, 256) float32 in [0, 1], their cumulative colour histograms."""
    moving: np.ndarray
    """(H, W) bool, the pixels that vary within a rollout; sharpness is read there."""
    vivid_share: float
    """Half of the share of coloured pixels: the chroma that so many pixels reach is that of a typical coloured one."""
    motion: float
    """Mean change a frame, in levels."""
    still_pixels: float
    """A step that changes fewer pixels than this changed nothing: a tenth of the median step."""

    @cached_property
    def squared_lengths(self) -> np.ndarray:
        """(R,) float32, those of `frames`: every rollout asks for them."""
        return metrics.squared_lengths(self.frames)

    @classmethod
    def from_real(
        cls, rollouts: Sequence[np.ndarray], *, episodes: Sequence[np.ndarray] = (), frames: int = 1000
    ) -> Reference:
        """The reference of real rollouts, each (T, H, W, 3) uint8; keeps at most about `frames` of their frames, or of
        the episodes', where given: what only those show that are too short for a rollout is real, too."""
        samples = _every(rollouts, frames)
        moving, sample = metrics.moving_pixels(*samples), np.concatenate(_every(episodes, frames) or samples)
        if not moving.any():
            raise ValueError(f"{len(sample)} real frames hold no moving pixel; a still game has no collapse")
        changes = np.concatenate([metrics.changed_pixels(rollout) for rollout in rollouts])
        return cls(
            frames=sample.astype(np.float32),
            colours=metrics.colour_cumulative(sample).astype(np.float32),
            moving=moving,
            vivid_share=0.5 * float(metrics.coloured_share(sample).mean()),
            motion=float(np.mean([metrics.motion(rollout).mean() for rollout in rollouts])),
            still_pixels=max(1.0, 0.1 * float(np.median(changes))),
        )

    def showing(self, episodes: Sequence[np.ndarray], *, frames: int = 2000) -> Reference:
        """The same with at most about `frames` frames of more real episodes, each (T, H, W, 3) uint8: no frame is
        farther from the nearest real one by it, and all else is as before. Twice as many as `from_real` keeps, for
        twice as many episodes."""
        sample = np.concatenate(_every(episodes, frames))
        colours = metrics.colour_cumulative(sample).astype(np.float32)
        return replace(
            self,
            frames=np.concatenate([self.frames, sample.astype(np.float32)]),
            colours=np.concatenate([self.colours, colours]),
        )


@dataclass(frozen=True)
class Signs:
    """What one rollout shows; extremes are over blocks of 64 frames."""

    still_steps: int
    """Longest run of steps without change."""
    stuck_steps: int
    """Longest run of steps in which the player keeps its place (0 where the game cannot locate it)."""
    missing_frames: int
    """Most frames, in a row or within a block, in which some sprite cannot be seen."""
    sharpness_low: float
    """Sharpness of the moving pixels, ratio to the opening's."""
    sharpness_high: float
    abruptness_low: float
    """Share of the squared change over 20 steps that one step makes; what leaves a trail changes little by little."""
    motion_high: float
    """Change a frame, ratio to the real game's."""
    saturation_low: float
    """Chroma of a typical coloured pixel, ratio to the opening's: colours that fade or run into their limits show in
    it, a scene that fills with gaudy things does not."""
    saturation_high: float
    colour_distance: float
    """Largest distance of the colour histogram from the opening's or the nearest real frame's, whichever is less, in
    levels: a wall that fills the view is far from the opening."""
    nearest_db: float
    """PSNR to the nearest real frame, the opening's among them, in dB, averaged over a block: one frame of an explosion
    is far from all others in the real game too."""
    farthest_db: float
    """The same of the one frame that is farthest."""

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in vars(self).items())


def read_signs(
    frames: np.ndarray,
    opening: np.ndarray,
    reference: Reference,
    *,
    player: Locate | None = None,
    sprites: Sequence[Locate] = (),
    stride: int = 10,
) -> Signs:
    """Signs of one rollout, or of a stretch of it, (T, H, W, 3) uint8.

    opening: (K, H, W, 3) uint8, the real frames that the rollout begins with or goes on from. sprites: what must stay
    in sight. stride: of the frames whose neighbours are searched.
    """
    sharp = _beside(*(metrics.sharpness(each, reference.moving) for each in (frames, opening)))
    chroma = _beside(*(metrics.vividness(each, reference.vivid_share) for each in (frames, opening)))
    colours, own = (metrics.colour_cumulative(each) for each in (frames, opening))
    off = metrics.colour_distance(colours, own.mean(axis=0))
    like = [metrics.colour_distance(each, reference.colours).min() for each in colours[::stride].astype(np.float32)]
    off = np.minimum(off, np.repeat(like, stride)[: len(off)])
    some = frames[::stride]
    known = metrics.nearest_psnr(some, reference.frames, reference.squared_lengths)
    nearest = np.maximum(known, metrics.nearest_psnr(some, opening))
    tracks = {locate: sprite_track(frames, locate) for locate in (player, *sprites) if locate is not None}
    return Signs(
        still_steps=metrics.longest_run(metrics.changed_pixels(frames) < reference.still_pixels),
        stuck_steps=longest_stay(tracks[player]) if player is not None else 0,
        missing_frames=max((most_unseen(np.isnan(tracks[sprite][:, 0])) for sprite in sprites), default=0),
        sharpness_low=float(sharp.min()),
        sharpness_high=float(sharp.max()),
        abruptness_low=float(metrics.abruptness(frames, steps=TRAIL_STEPS, length=BLOCK).min()),
        motion_high=float(metrics.moving_average(metrics.motion(frames) / reference.motion, BLOCK).max()),
        saturation_low=float(chroma.min()),
        saturation_high=float(chroma.max()),
        colour_distance=float(metrics.moving_average(off, BLOCK).max()),
        nearest_db=float(metrics.moving_average(nearest, max(1, BLOCK // stride)).min()),
        farthest_db=float(nearest.min()),
    )


def _every(rollouts: Sequence[np.ndarray], frames: int) -> list[np.ndarray]:
    """Frames of these rollouts, evenly taken: all up to `frames`, of more at least that many and less than twice."""
    stride = max(1, sum(map(len, rollouts)) // frames)
    return [rollout[::stride] for rollout in rollouts]


def _beside(values: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Averages over blocks of a statistic of frames (T,), ratio to its median over the opening (K,)."""
    return metrics.moving_average((values + BLANK) / (np.median(opening) + BLANK), BLOCK)


def sprite_track(frames: np.ndarray, locate: Locate) -> np.ndarray:
    """Positions of a sprite over a rollout, (T, 2) float64 in pixels; NaN where it cannot be seen."""
    return np.array([(np.nan, np.nan) if (xy := locate(frame)) is None else xy for frame in frames], dtype=np.float64)


def most_unseen(unseen: np.ndarray) -> int:
    """Most frames in a row for which `unseen` (T,) bool holds, or more where it comes and goes within a block."""
    within_block = metrics.moving_average(unseen, BLOCK) * min(BLOCK, len(unseen))
    return max(metrics.longest_run(unseen), round(float(within_block.max())))


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
    abruptness: float
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
            stuck_steps=max(64, 3 * int(highest("stuck_steps"))),  # random play stands longer than most players
            missing_frames=max(16, 2 * int(highest("missing_frames"))),
            sharpness=(0.5 * lowest("sharpness_low"), 2.0 * highest("sharpness_high")),
            abruptness=0.3 * lowest("abruptness_low"),
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
        "smeared": not (signs.sharpness_low >= limits.sharpness[0] and signs.abruptness_low >= limits.abruptness),
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
