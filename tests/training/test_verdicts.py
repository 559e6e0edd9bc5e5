"""Bars that hang on a game's luck, and the verdict on every gate."""

import pytest

from worldsim_training.battery.bars import BARS, bars_of, failed, measured_by, passes
from worldsim_training.battery.verdicts import count, judge

LUCKY = {"luck_reward_f1": 0.13, "luck_probe_ratio_16_worst": 13.2}


def verdict(key, **figures):
    return next(gate for gate in judge(figures) if gate.key == key)


def test_without_luck_the_bars_are_absolute():
    assert bars_of({})["reward_f1"] == BARS["reward_f1"] == (0.9, float("inf"))
    assert verdict("reward_f1", reward_f1=0.5).verdict == "fail"
    assert verdict("probe_ratio_16_worst", probe_ratio_16_worst=1.2).verdict == "pass"


@pytest.mark.parametrize(("f1", "said"), [(0.3, "pass"), (0.118, "pass"), (0.116, "fail"), (0.0, "fail")])
def test_rewards_are_judged_by_what_the_real_game_scores_with_other_luck(f1, said):
    gate = verdict("reward_f1", reward_f1=f1, **LUCKY)
    assert (gate.verdict, gate.luck) == (said, 0.13)
    assert gate.bar[0] == pytest.approx(0.9 * 0.13)


@pytest.mark.parametrize(("ratio", "said"), [(16.4, "pass"), (16.6, "fail")])
def test_places_are_judged_by_what_the_real_game_scores_with_other_luck(ratio, said):
    assert verdict("probe_ratio_16_worst", probe_ratio_16_worst=ratio, **LUCKY).verdict == said


def test_luck_never_makes_a_bar_harder():
    assert bars_of({"luck_probe_ratio_16_worst": 0.9})["probe_ratio_16_worst"] == BARS["probe_ratio_16_worst"]
    assert bars_of({"luck_reward_f1": 1.0})["reward_f1"] == BARS["reward_f1"]
    assert bars_of({"luck_reward_f1": None})["reward_f1"] == BARS["reward_f1"]


def test_gains_have_the_bars_of_their_kind_of_game_and_ask_no_more_than_other_luck_gives():
    assert bars_of({"env_id": "ALE/Pong-v5"})["gain_16_db"][0] == 3.0
    assert bars_of({"env_id": "ALE/Pong-v5", "reroll_16_db": 1.4})["gain_16_db"][0] == 1.4
    assert bars_of({"env_id": "VizdoomTakeCover-v1"})["gain_4_db"][0] == 2.0
    assert "gain_1_db" not in bars_of({"env_id": "Toy-v0"})


def test_a_drift_of_any_length_is_held_against_the_bars_of_1000_steps():
    gate = verdict("drift_500_end_motion_ratio", drift_500_end_motion_ratio=0.8)
    assert (gate.verdict, gate.bar) == ("fail", BARS["drift_1000_end_motion_ratio"])
    assert verdict("drift_1000_end_motion_ratio").verdict == "not measured"


def test_the_four_verdicts_have_their_reasons():
    figures = {"control_c": 1.0, "onset_error": 0.3, "refused_actions": "it failed", "end_recall": None}
    gates = {gate.key: gate for gate in judge(figures)}
    assert (gates["control_c"].verdict, gates["onset_error"].verdict) == ("pass", "fail")
    assert (gates["action_ratio"].verdict, gates["action_ratio"].why) == ("refused", "it failed")
    assert (gates["end_recall"].verdict, gates["end_recall"].why) == (
        "fail",
        "it has no meaning on what this world showed",
    )
    assert count([*gates.values()]) == {"pass": 1, "fail": 2, "refused": 1, "not measured": len(gates) - 4}
    assert failed(figures) == ["onset_error", "end_recall"] and not passes("end_recall", None)


def test_a_refusal_is_that_of_the_instrument_which_would_have_measured():
    figures = {"refused_collapse": "a real rollout is smeared", "refused_features": "too few frames"}
    gates = {gate.key: (gate.verdict, gate.why) for gate in judge(figures)}
    for key in ("collapsed", "drift_1000_collapsed", "drift_1000_end_colour_emd"):
        assert gates[key] == ("refused", "a real rollout is smeared")
    assert gates["fd_share"] == ("refused", "too few frames")
    assert gates["control_c"] == gates["deterministic_again"] == ("not measured", "")
    assert measured_by("drift_10000_far") == "collapse" and measured_by("deterministic_again") is None


def test_an_interval_that_crosses_its_bar_is_said():
    ends = {"control_c_low": 0.8, "control_c_high": 1.05}
    assert verdict("control_c", control_c=0.95, **ends).why == "the interval crosses the bar"
    assert verdict("control_c", control_c=0.95, **ends | {"control_c_low": 0.92}).why == ""


def test_state_numbers_that_are_not_read_are_named():
    gate = verdict("probe_ratio_16_worst", probe_ratio_16_worst=1.0, probe_refused="ball_x, ball_y")
    assert (gate.verdict, gate.why) == ("pass", "not read: ball_x, ball_y")
