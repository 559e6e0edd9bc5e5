"""The gates between the stages, on scores."""

import re
from dataclasses import replace

import pytest

from worldsim_training import gates
from worldsim_training.config import GatesConfig
from worldsim_training.gates import GateFailed

GOOD = {
    "gain_1_db": 5.0,
    "motion_ratio": 1.0,
    "sharpness_ratio": 1.0,
    "saturation_ratio": 1.0,
    "drift_levels": 1.0,
    "response_levels": 2.0,
}
ASKED = GatesConfig(
    teacher_gain_db=0.0,
    teacher_response_levels=0.1,
    gain_loss_db=1.0,
    response_share=0.5,
    motion=(0.5, 1.5),
    sharpness=(0.5, 1.5),
    saturation=(0.5, 1.5),
    drift_levels=4.0,
)
TEACHER = {"1_step": {**GOOD, "gain_1_db": 9.0}, "8_step_ode": GOOD}


def student(**changed):
    poor = {name: float("nan") for name in GOOD}
    return {"1_step": poor, "2_step": {**GOOD, **changed}, "4_step": poor}


@pytest.mark.parametrize(
    ("changed", "gate", "said"),
    [
        (
            {"gain_1_db": 3.9},
            "gain_loss_db",
            "gain_1_db is 3.9, gates.gain_loss_db=1 below its teacher's asks for 4",
        ),
        ({"response_levels": 0.9}, "response_share", "response_levels is 0.9, gates.response_share=0.5 of its teacher"),
        ({"motion_ratio": 1.6}, "motion", "motion_ratio is 1.6, gates.motion asks for 0.5 to 1.5"),
        ({"sharpness_ratio": 0.4}, "sharpness", "sharpness_ratio is 0.4, gates.sharpness asks for 0.5 to 1.5"),
        ({"saturation_ratio": float("nan")}, "saturation", "saturation_ratio is nan, gates.saturation asks for 0.5 to"),
        ({"drift_levels": 4.1}, "drift_levels", "drift_levels is 4.1, gates.drift_levels asks for 4 or less"),
    ],
)
def test_a_student_is_stopped_by_the_gate_that_it_fails_and_by_no_other(changed, gate, said):
    with pytest.raises(GateFailed, match=f"stage ode failed its gate: {re.escape(said)}[^;]*\\. Its network") as error:
        gates.judge_student("ode", student(**changed), TEACHER, ASKED)
    assert "\n" not in str(error.value) and "gates.enabled=false" in str(error.value)
    gates.judge_student("ode", student(**changed), TEACHER, replace(ASKED, **{gate: None}))


@pytest.mark.parametrize(
    ("changed", "gate"),
    [({"gain_1_db": 0.0}, "teacher_gain_db"), ({"response_levels": 0.0}, "teacher_response_levels")],
)
def test_a_teacher_is_judged_as_its_ode_sampler_plays_it(changed, gate):
    gates.judge_teacher({"1_step": {**GOOD, **changed}, "8_step_ode": GOOD}, ASKED)
    scores = {"1_step": GOOD, "8_step_ode": {**GOOD, **changed}}
    with pytest.raises(GateFailed, match=f"is 0, gates.{gate} asks for more than"):
        gates.judge_teacher(scores, ASKED)
    gates.judge_teacher(scores, replace(ASKED, **{gate: None}))


def test_figures_on_the_border_pass():
    gates.judge_student("dmd", student(gain_1_db=4.0, response_levels=1.0, motion_ratio=1.5), TEACHER, ASKED)


def test_all_failures_are_named_and_after_distribution_matching_the_way_back():
    with pytest.raises(GateFailed, match="motion_ratio is 9.*; drift_levels is 9.*dmd.loop.steps=0 world.release=dist"):
        gates.judge_student("dmd", student(motion_ratio=9.0, drift_levels=9.0), TEACHER, ASKED)
