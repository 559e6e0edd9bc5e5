"""What the report calls a figure."""

from __future__ import annotations

import re
from collections.abc import Mapping

GATES = {
    "gain_1_db": "better than copying, 1 step ahead (dB)",
    "gain_4_db": "better than copying, 4 steps ahead (dB)",
    "gain_16_db": "better than copying, 16 steps ahead (dB)",
    "sign_test_share": "opposite moves go opposite ways, share of the real game's score",
    "control_c": "the action decides the pixels it should: 0 ignored, 1 perfect",
    "action_ratio": "actions recovered from frames, share of the real game's",
    "counterfactual_displacement": "two branches part as far as the real ones (correlation)",
    "counterfactual_untouched": "pixels that no action reaches stay equal (share)",
    "counterfactual_onset": "the player answers at the real step, give or take one (share)",
    "onset_error": "the opponent answers when the real one does (greatest difference)",
    "opponent_ratio": "the opponent's next move foretold by the real one's habits, share of the real game's",
    "probe_ratio_16_worst": "state read from frames after 16 steps, error over the probe's own",
    "probe_ratio_64_worst": "state read from frames after 64 steps, error over the probe's own",
    "fd_share": "FD-self: features as far from the real ones as so many halves of them from each other",
    "reward_f1": "rewards of the right value at the right step (F1)",
    "reward_seen_ratio": "rewards paid are those that its own frames show (F1), share of the real game's",
    "end_recall": "real ends that are said (share)",
    "false_ends_per_2000": "ends said that are none, in 2,000 steps",
    "picture_sharpness_ratio": "sharpness, ratio to real frames",
    "picture_motion_ratio": "motion, ratio to real frames",
    "picture_colour_emd": "colours off (levels)",
    "collapsed": "long rollouts that collapse",
    "student_gain_loss_1_db": "gain lost against the many-step teacher, 1 step ahead (dB)",
    "student_gain_loss_16_db": "gain lost against the many-step teacher, 16 steps ahead (dB)",
    "student_action_f1_loss": "actions recovered, lost against the many-step teacher",
    "student_reward_f1_loss": "rewards (F1), lost against the many-step teacher",
    "deterministic_again": "the same seed and actions give the same bytes again",
    "deterministic_slot": "the same bytes in any slot of a batch",
    "deterministic_threads": "the same bytes with another number of threads",
    "deterministic_process": "the same bytes in another process",
}
DRIFT = {
    "collapsed": "rollouts that collapse",
    "far": "rollouts with a frame unlike any real one (below 10 dB)",
    "end_motion_ratio": "motion of the last 64 frames, ratio to real ones",
    "end_sharpness_ratio": "sharpness of the last 64 frames, ratio to real ones",
    "end_saturation_ratio": "saturation of the last 64 frames, ratio to real ones",
    "end_colour_emd": "colours of the last 64 frames off (levels)",
    "end_fd_share": "FD-self of the last 64 frames: as far from real ones as so many draws of as many real rollouts",
}
NPC = {
    "answers": "an NPC's right answers, by gesture and temperament (share)",
    "delay_error_frames": "an NPC's delay, mean error (frames)",
    "false": "an NPC's answers to nothing (share)",
    "changes": "an NPC's right answers after its temperament changed in mid-scene (share)",
}
STRIPS = {
    "film": "Real frames above imagined ones, under the same actions",
    "actions": "One row for each action, from one state with the same noise",
    "drift": "A long rollout",
}
PROVENANCE = (
    *("command", "world", "world_manifest_sha256", "heldout_sha256", "game", "env_id", "resolution", "split", "seed"),
    *("steps", "context_frames", "episodes", "episode_steps", "windows", "dtype", "device", "device_name", "threads"),
    *("system", "seconds", "test_split_opened", "teacher_sha256", "teacher_steps"),
)
"""Keys that say how the figures were made, besides the versions."""


def title(key: str) -> str:
    """What a gate asks, in words; the key itself where no words are known."""
    drift = re.fullmatch(r"drift_(\d+)_(\w+)", key)
    if drift and drift[2] in DRIFT:
        return f"after {int(drift[1]):,} steps: {DRIFT[drift[2]]}"
    return (GATES | NPC).get(key, key)


def number(value: object) -> str:
    """A figure as the report prints it."""
    if value is None:
        return "no meaning"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def out_of(key: str, figures: Mapping[str, object]) -> str:
    """Of how many rollouts a figure counts some, as " of 24", and how many of the collapsed a player saw where worlds
    ended some; nothing where it counts none."""
    kind = re.search(r"(collapsed|far)$", key)
    total = figures.get(key[: kind.start()] + "rollouts") if kind else None
    shown = figures.get(f"{key}_shown") if kind and figures.get(key[: kind.start()] + "rollouts_ended") else None
    return "" if total is None else f" of {total}" + ("" if shown is None else f", {shown} before an end")


def opened(figures: Mapping[str, object]) -> str:
    """How often the test split was opened for these weights."""
    times = figures.get("test_split_opened")
    if times is None:
        return "opened how often is not told"
    return f"opened {'once' if times == 1 else f'{times} times'} for these weights"
