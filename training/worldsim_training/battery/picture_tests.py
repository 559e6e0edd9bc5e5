"""What a simulator's frames look like beside the real ones under the same actions."""

from __future__ import annotations

from collections.abc import Sequence

from worldsim_training import metrics
from worldsim_training.battery.futures import Futures
from worldsim_training.battery.simulator import Played

LATE_FRAMES = 8


def score_pictures(futures: Futures, played: Played, horizons: Sequence[int]) -> dict[str, float]:
    """Gains over the still picture, and sharpness, motion and colours of the last 8 frames; 1, 1 and 0 when perfect.

    Sharpness and motion are ratios to the real frames', sharpness on the pixels that move; colours the distance of the
    mean histograms, in levels.
    """
    real, shown = futures.real.frames[:, 0], played.frames[:, 0]
    still = futures.past.frames[:, -1]
    out = {}
    for h in horizons:
        error, floor = (metrics.squared_error(each, real[:, h - 1]) for each in (shown[:, h - 1], still))
        out |= {
            f"picture_gain_{h}_db": metrics.gain_over(error, floor),
            f"picture_psnr_{h}_db": metrics.pooled_psnr(error),
        }
    late, wanted = shown[:, -LATE_FRAMES:], real[:, -LATE_FRAMES:]
    moving = metrics.moving_pixels(wanted.reshape(-1, *wanted.shape[2:]))
    sharp = [float(metrics.sharpness(each, moving).mean()) for each in (late, wanted)]
    moved = [float(metrics.motion(each).mean()) for each in (late, wanted)]
    colours = [metrics.colour_cumulative(each).mean(axis=(0, 1)) for each in (late, wanted)]
    return out | {
        "picture_sharpness_ratio": sharp[0] / sharp[1],
        "picture_motion_ratio": moved[0] / moved[1],
        "picture_colour_emd": float(metrics.colour_distance(*colours)),
    }
