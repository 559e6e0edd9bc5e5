"""The range of each figure within which a simulator passes, and which figure is meant for which fault."""

from __future__ import annotations

from collections.abc import Mapping

ANY = float("inf")

BARS: dict[str, tuple[float, float]] = {
    "control_c": (0.9, 1.1),
    "action_ratio": (0.95, ANY),
    "counterfactual_displacement": (0.9, ANY),
    "counterfactual_untouched": (0.98, ANY),
    "counterfactual_onset": (0.9, ANY),
    "onset_error": (0.0, 0.1),
    "probe_ratio_16_worst": (0.0, 1.25),
    "probe_ratio_64_worst": (0.0, 1.5),
    "reward_f1": (0.9, ANY),
    "end_recall": (0.9, ANY),
    "false_ends_per_2000": (0.0, 1.0),
    "picture_sharpness_ratio": (0.9, 1.1),
    "picture_motion_ratio": (0.9, 1.1),
    "picture_colour_emd": (0.0, 2.0),
}
"""Lowest and highest value that passes. For a perfect simulator with the game's own luck: see `ceilings` for others."""

MEANT_FOR = {
    "frozen": "action_ratio",
    "ignores actions": "control_c",
    "swaps directions": "action_ratio",
    "late by one step": "action_ratio",
    "drops actions": "action_ratio",
    "double speed": "probe_ratio_16_worst",
    "opponent erased": "probe_ratio_16_worst",
    "blurred": "picture_sharpness_ratio",
    "colours drift": "picture_colour_emd",
    "noisy": "picture_motion_ratio",
    "wrong rewards": "reward_f1",
    "ends early": "false_ends_per_2000",
}
"""The figure that must flag each of the faults of `broken`."""


MEASURED_BY = {
    "control_c": "control",
    "action_ratio": "actions",
    "probe_ratio_16_worst": "states",
    "reward_f1": "rewards",
    "false_ends_per_2000": "false_ends",
    "picture_sharpness_ratio": "pictures",
    "picture_motion_ratio": "pictures",
    "picture_colour_emd": "pictures",
}
"""The instrument that gives each of those figures."""


def passes(key: str, value: float) -> bool:
    """Whether a figure lies within its bar; one that is not a number does not."""
    low, high = BARS[key]
    return low <= value <= high


def failed(figures: Mapping[str, object]) -> list[str]:
    """The figures with a bar that do not pass, in the order of the bars; what was not measured is not among them."""
    return [key for key in BARS if key in figures and not passes(key, figures[key])]
