"""What distillation cost: step counts beside a many-step teacher."""

import argparse

import numpy as np
import pytest
import torch
from tiny import save_tiny_world, tiny_world
from toy_game import ToyGame
from toy_worlds import FrozenWorld, RealWorld

from worldsim.render import PremiumWorld
from worldsim_training import evaluate
from worldsim_training.battery import measure
from worldsim_training.battery.simulator import Past, WorldSimulator
from worldsim_training.battery.students import losses, weights_sha256
from worldsim_training.battery.tryouts import Size
from worldsim_training.battery.verdicts import FAIL, PASS, UNMEASURED, judge
from worldsim_training.heldout import Moment
from worldsim_training.imagine import Settings

pytestmark = pytest.mark.usefixtures("one_thread")


def test_losses_are_the_teachers_minus_the_students_for_each_step_count_and_the_one_played():
    figures = {"teacher_picture_gain_1_db": 8.0, "steps_1_picture_gain_1_db": 7.0, "steps_2_picture_gain_1_db": 7.75}
    figures |= {"teacher_reward_f1": None, "steps_1_reward_f1": 0.5, "steps_2_reward_f1": 0.5}
    out = losses(figures, (1, 2), 2)
    assert out == {
        "steps_1_student_gain_loss_1_db": 1.0,
        "steps_2_student_gain_loss_1_db": 0.25,
        "student_gain_loss_1_db": 0.25,
    }
    assert losses(figures, (1, 2), 4).keys() == {"steps_1_student_gain_loss_1_db", "steps_2_student_gain_loss_1_db"}


def test_a_student_may_lose_half_a_decibel_and_gain_any():
    def verdict(loss):
        return next(gate for gate in judge({"student_gain_loss_1_db": loss}) if gate.key == "student_gain_loss_1_db")

    assert [verdict(loss).verdict for loss in (-3.0, 0.5, 0.6)] == [PASS, PASS, FAIL]
    assert verdict(0.5).wanted == "0.5 or less"
    assert next(gate for gate in judge({}) if gate.key == "student_gain_loss_1_db").verdict == UNMEASURED


def test_the_battery_puts_the_teacher_to_the_trials_of_the_step_counts():
    extent = measure.Extent(
        instruments=("control",), size=Size(branches=4, steps=4), step_choices=(1, 2),
        step_size=Size(branches=4, windows=6, window_steps=16, state_steps=(16,), steps=4),
        step_instruments=("control", "pictures"),
    )  # fmt: skip
    plan = evaluate.Plan(
        episodes=6, windows=6, horizons=(1, 4), trials=8, rollouts=2, rollout_steps=160, real_rollouts=1, battery=extent
    )
    numbers = {"split": "validation", "seed": 0, "steps": 2, "progress": False}
    own = evaluate.Evaluation(RealWorld(), ToyGame(), plan, **numbers, teacher=FrozenWorld()).figures()
    assert own["teacher_picture_gain_1_db"] == 0.0 and own["steps_1_control_c"] == 1.0
    assert own["student_gain_loss_1_db"] == -own["steps_2_picture_gain_1_db"] < -20
    other = evaluate.Evaluation(FrozenWorld(), ToyGame(), plan, **numbers, teacher=RealWorld()).figures()
    assert other["student_gain_loss_1_db"] == own["steps_2_picture_gain_1_db"]
    assert other["student_control_loss"] == pytest.approx(1.0)
    without = evaluate.Evaluation(RealWorld(), ToyGame(), plan, **numbers).figures()
    assert own.items() > without.items() and not any("teacher" in key or "student" in key for key in without)


def test_a_teacher_is_a_simulator_whose_futures_are_its_own():
    world = tiny_world()
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 48, 64, 3), dtype=np.uint8)
    past = Past(frames, np.zeros((2, 3), int), [Moment(0, 0)] * 2)
    teacher = PremiumWorld(world, world.denoiser, intervals=5)
    shown, again, student = (
        WorldSimulator(each, Settings(steps=2, batch=2)).play(past, np.zeros((2, 1, 3), int), np.arange(2)).frames
        for each in (teacher, teacher, world)
    )
    assert np.array_equal(shown, again) and not np.array_equal(shown, student)


def test_the_hash_of_weights_tells_one_number_from_another():
    network = tiny_world().denoiser
    before = weights_sha256(network)
    assert weights_sha256(tiny_world().denoiser) == before
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1
    assert weights_sha256(network) != before


def arguments(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_the_command_names_the_teacher_whose_weights_decide_what_is_kept(tmp_path):
    folder = save_tiny_world(tmp_path / "tiny")
    args = arguments(folder, "--teacher", folder, "--intervals", 7)
    teacher = evaluate._teacher(args, tiny_world())
    told = evaluate._teacher_told(args, teacher)
    assert told == {"teacher_sha256": weights_sha256(teacher.denoiser), "teacher_steps": 7}
    assert evaluate._command(args).endswith(f"--teacher {folder} --intervals 7")
    kept = evaluate._ledger(args, told | {"command": "", "quick": False, "threads": 1}, evaluate.FULL).identity
    assert kept["teacher_sha256"] == told["teacher_sha256"] and kept["teacher_steps"] == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--quick", "--teacher", "{tiny}"], "--quick compares no step counts, so it takes no --teacher"),
        (["--teacher", "{tiny}/nothing"], "holds no network; give a world's folder or a stage's"),
    ],
)
def test_a_teacher_that_cannot_be_used_is_named_before_any_work(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "check_fit", lambda *fit: None)
    folder = save_tiny_world(tmp_path / "tiny")
    assert evaluate.main([str(folder), *(word.format(tiny=folder) for word in words)]) == 2
    assert message in capsys.readouterr().err
