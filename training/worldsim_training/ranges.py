"""The range of each setting of a world, which is refused outside of it before anything is recorded or trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from worldsim_training.config import ContextConfig, ModelConfig, OutcomesConfig, WorldConfig


@dataclass(frozen=True)
class Range:
    """Which values are right, NaN never, and how that is asked for."""

    holds: Callable[[float], bool]
    asks: str


SHARE = Range(lambda value: 0 <= value <= 1, "give a share from 0 to 1")
DECAY = Range(lambda value: 0 <= value < 1, "give a share from 0 to below 1")
LEVEL = Range(lambda value: 0 < value <= 1, "give a noise level above 0, up to 1")
MOST_LEVEL = Range(lambda value: 0 <= value <= 1, "give a noise level from 0 to 1")
POSITIVE = Range(lambda value: 0 < value < math.inf, "give a number above 0")
NOT_NEGATIVE = Range(lambda value: 0 <= value < math.inf, "give 0 or more")
COUNT = Range(lambda value: value >= 1, "use at least 1")

LOOP = {
    **dict.fromkeys(("steps", "batch", "accumulate", "checkpoint_every"), COUNT),
    "learning_rate": POSITIVE,
    "clip_norm": Range(lambda value: value > 0, POSITIVE.asks),  # infinite: never clipped
    **dict.fromkeys(("seconds", "seed", "warmup", "weight_decay"), NOT_NEGATIVE),
    **dict.fromkeys(("beta_1", "beta_2", "ema"), DECAY),
    "decay": SHARE,
}
TEACHER_FORCING = {"shift": POSITIVE, "pure_noise": SHARE, "weight_floor": POSITIVE}
STAGES = {
    "teacher_forcing": TEACHER_FORCING,
    "bidirectional": {**TEACHER_FORCING, "clean_start_share": SHARE},
    "consistency": {"intervals": COUNT, "grid_shift": POSITIVE, "mean_share": SHARE},
    "ode": {"intervals": COUNT, "grid_shift": POSITIVE, "points": COUNT},
    "dmd": {"critic_learning_rate": POSITIVE, "weight_floor": POSITIVE},
    "outcomes": {"width": COUNT, "reward_share": SHARE, "end_share": SHARE},
}
WORLD = {"shift": POSITIVE, "single_sigma": LEVEL, "still_levels": NOT_NEGATIVE, "starts": COUNT}
MODEL = dict.fromkeys(("dim", "depth", "heads", "window", "temporal_every"), COUNT)
CONTEXT = {
    **dict.fromkeys(("noise_share", "painted_share", "drifted_share", "kept_share", "action_dropout"), SHARE),
    "noise_max": MOST_LEVEL,
    "painted_rounds": COUNT,
}


def check(settings: object, place: str, ranges: Mapping[str, Range]) -> None:
    """ValueError, naming the override as it is typed, where a setting at `place` (`world.model`) is out of range."""
    for key, allowed in ranges.items():
        if not allowed.holds(value := getattr(settings, key)):
            raise ValueError(f"{place}.{key}={value}; {allowed.asks}")


def check_world(world: WorldConfig) -> None:
    """ValueError where a setting of the world or of a stage, but for its loop, is out of its range."""
    check(world, "world", WORLD)
    check(world.model, "world.model", MODEL)
    check(world.context, "world.context", CONTEXT)
    for stage, ranges in STAGES.items():
        check(getattr(world, stage), f"world.{stage}", ranges)
    _check_model(world.model)
    _check_painted(world.context)
    _check_events(world.outcomes)


def _check_model(model: ModelConfig) -> None:
    """ValueError where a network of this form cannot be made."""
    if model.dim % (2 * model.heads):
        seen = f"world.model.dim={model.dim} and world.model.heads={model.heads}"
        raise ValueError(f"{seen}; let dim be a multiple of twice the heads")  # positions turn pairs of numbers
    if len(model.conv_widths) != 2 or min(model.conv_widths) < 1:
        raise ValueError(f"world.model.conv_widths={list(model.conv_widths)}; give two widths of at least 1")


def _check_painted(context: ContextConfig) -> None:
    """ValueError where the sampler that paints the context has no noise levels, or such as no sampler has."""
    sigmas = context.painted_sigmas
    falls = all(high > low for high, low in pairwise(sigmas))
    if not sigmas or not falls or not all(map(LEVEL.holds, sigmas)):
        seen = f"world.context.painted_sigmas={list(sigmas)}"
        raise ValueError(f"{seen}; give noise levels above 0, up to 1, each below the one before")


def _check_events(outcomes: OutcomesConfig) -> None:
    """ValueError where more clips than there are would be drawn around events."""
    if outcomes.reward_share + outcomes.end_share > 1:
        seen = f"world.outcomes.reward_share={outcomes.reward_share} and end_share={outcomes.end_share}"
        raise ValueError(f"{seen}; together they are 1 at most")
