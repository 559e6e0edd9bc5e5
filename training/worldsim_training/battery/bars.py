"""The range of each figure within which a simulator passes, and which figure is meant for which fault."""

from __future__ import annotations

import re
from collections.abc import Mapping

ANY = float("inf")
Bar = tuple[float, float]

BARS: dict[str, Bar] = {
    "sign_test_share": (0.95, ANY),
    "control_c": (0.9, 1.1),
    "action_ratio": (0.95, ANY),
    "counterfactual_displacement": (0.9, ANY),
    "counterfactual_untouched": (0.98, ANY),
    "counterfactual_onset": (0.9, ANY),
    "onset_error": (0.0, 0.1),
    "opponent_ratio": (0.95, ANY),
    "probe_ratio_16_worst": (0.0, 1.25),
    "probe_ratio_64_worst": (0.0, 1.5),
    "fd_share": (0.0, 3.0),
    "reward_f1": (0.9, ANY),
    "reward_seen_ratio": (0.9, ANY),
    "end_recall": (0.9, ANY),
    "false_ends_per_2000": (0.0, 1.0),
    "picture_sharpness_ratio": (0.9, 1.1),
    "picture_motion_ratio": (0.9, 1.1),
    "picture_colour_emd": (0.0, 2.0),
    "collapsed": (0, 0),
    "drift_1000_collapsed": (0, 0),
    "drift_1000_far": (0, 0),
    "drift_1000_end_motion_ratio": (0.9, 1.1),
    "drift_1000_end_sharpness_ratio": (0.9, 1.1),
    "drift_1000_end_saturation_ratio": (0.9, 1.1),
    "drift_1000_end_colour_emd": (0.0, 2.0),
    "drift_1000_end_fd_share": (0.0, 3.0),
    "student_gain_loss_1_db": (-ANY, 0.5),
    "student_gain_loss_16_db": (-ANY, 0.5),
    "student_action_f1_loss": (-ANY, 0.02),
    "student_reward_f1_loss": (-ANY, 0.02),
    "deterministic_again": (1, 1),
    "deterministic_slot": (1, 1),
    "deterministic_threads": (1, 1),
    "deterministic_process": (1, 1),
}
"""Lowest and highest value that passes, for a perfect simulator with the game's own luck; see `bar`.

Those of a drift test of 1,000 steps hold for any number of steps.
"""

GAIN_BARS: dict[str, dict[str, Bar]] = {
    "ALE/": {"gain_1_db": (6.0, ANY), "gain_16_db": (3.0, ANY)},
    "CarRacing": {"gain_1_db": (6.0, ANY), "gain_16_db": (3.0, ANY)},
    "Vizdoom": {"gain_1_db": (1.5, ANY), "gain_4_db": (2.0, ANY)},
}
"""Bars of the gain, by how the game's `env_id` begins: pictures that hardly change are easily copied."""

BY_LUCK = {
    "reward_f1": "luck_reward_f1",
    "probe_ratio_16_worst": "luck_probe_ratio_16_worst",
    "probe_ratio_64_worst": "luck_probe_ratio_64_worst",
}
"""Figures that hang on the game's luck, and what the real game scores with other luck. Where that was measured, a bar
is a share of it (of .9, say): nobody who cannot see the luck can be asked for more."""

AT_MOST_LUCK = re.compile(r"gain_(\d+)_db")
"""Gains that need not exceed those of the real game with other luck, `reroll_{h}_db`."""

MEANT_FOR: dict[str, tuple[str, ...]] = {
    "frozen": ("action_ratio", "picture_motion_ratio"),
    "ignores actions": ("control_c",),
    "swaps directions": ("action_ratio", "control_c"),
    "late by one step": ("action_ratio", "control_c"),
    "drops actions": ("action_ratio", "control_c"),
    "double speed": ("probe_ratio_16_worst", "action_ratio", "picture_motion_ratio"),
    "opponent erased": ("probe_ratio_16_worst", "onset_error"),
    "blurred": ("picture_sharpness_ratio",),
    "colours drift": ("picture_colour_emd",),
    "noisy": ("picture_motion_ratio",),
    "wrong rewards": ("reward_f1",),
    "ends early": ("false_ends_per_2000",),
}
"""The figure that must flag each of the faults of `broken`: the first of these that the game lets be measured."""


MEASURED_BY = {
    "sign_test_share": "sign_test",
    "control_c": "control",
    "action_ratio": "actions",
    "counterfactual_displacement": "counterfactuals",
    "counterfactual_untouched": "counterfactuals",
    "counterfactual_onset": "counterfactuals",
    "onset_error": "onset",
    "opponent_ratio": "opponent",
    "probe_ratio_16_worst": "states",
    "probe_ratio_64_worst": "states",
    "fd_share": "features",
    "reward_f1": "rewards",
    "reward_seen_ratio": "seen_rewards",
    "end_recall": "ends",
    "false_ends_per_2000": "false_ends",
    "picture_sharpness_ratio": "pictures",
    "picture_motion_ratio": "pictures",
    "picture_colour_emd": "pictures",
    "collapsed": "collapse",
    **{key: "collapse" for key in BARS if key.startswith("drift_")},
    "drift_1000_end_fd_share": "end_features",
}
"""The instrument that gives each of those figures, where one that may be refused does; see `measured_by`."""


def measured_by(key: str) -> str | None:
    """The instrument that gives a figure, whose refusal is told as `refused_...`; None where none can be refused."""
    return MEASURED_BY.get(_of_1000(key))


def bars_of(figures: Mapping[str, object]) -> dict[str, Bar]:
    """Every bar that holds for a world with these figures, by key: gains, `BARS`, drifts of other lengths."""
    begins = str(figures.get("env_id", ""))
    gains = next((bars for prefix, bars in GAIN_BARS.items() if begins.startswith(prefix)), {})
    drifts = {key: BARS[_of_1000(key)] for key in figures if _of_1000(key) in BARS}
    return {key: bar(key, figures, limits) for key, limits in (gains | BARS | drifts).items()}


def bar(key: str, figures: Mapping[str, object], limits: Bar) -> Bar:
    """The limits of a figure, put lower or wider where the real game with other luck itself falls short of them."""
    low, high = limits
    luck = figures.get(BY_LUCK.get(key, ""))
    if _number(luck):
        return low * luck, high * max(1.0, luck)
    gain = AT_MOST_LUCK.fullmatch(key)
    ceiling = figures.get(f"reroll_{gain[1]}_db") if gain else None
    return (min(low, ceiling), high) if _number(ceiling) else (low, high)


def passes(key: str, value: object, limits: Bar | None = None) -> bool:
    """Whether a figure lies within its bar, or the limits given; one that is not a number does not."""
    low, high = BARS[key] if limits is None else limits
    return _number(value) and low <= value <= high


def failed(figures: Mapping[str, object]) -> list[str]:
    """The figures with a bar that do not pass, in the order of the bars; what was not measured is not among them."""
    bars = bars_of(figures)
    return [key for key, limits in bars.items() if key in figures and not passes(key, figures[key], limits)]


def _of_1000(key: str) -> str:
    return re.sub(r"^drift_\d+_", "drift_1000_", key)


def _number(value: object) -> bool:
    return isinstance(value, int | float)
