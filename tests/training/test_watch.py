"""Rollouts watched up to the end that their world says: what comes after it is told apart."""

import numpy as np
import pytest
import torch
from toy_worlds import RealWorld

from worldsim.world_model import Step
from worldsim_training import imagine, stability
from worldsim_training.battery import drift
from worldsim_training.collapse import BLOCK
from worldsim_training.watch import Watch

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH = 160


class EndingWorld(RealWorld):
    """Plays on as the real game until it says an end after so many steps, and is black from then on."""

    def __init__(self, steps):
        self.steps = steps

    def reset(self, frames, actions, seeds):
        worlds = super().reset(frames, actions, seeds)
        worlds.played = 0
        return worlds

    def step(self, state, action, *, steps):
        step, state.played = super().step(state, action, steps=steps), state.played + 1
        over = state.played > self.steps
        frame = torch.zeros_like(step.frame) if over else step.frame
        return Step(frame, step.reward, torch.full_like(step.ended, state.played == self.steps))


@pytest.fixture(scope="module")
def judge(game, heldout):
    return stability.appoint_judge(game, *([*heldout.cut([i], LENGTH)] for i in (0, 1)), opening_frames=4)


@pytest.fixture
def measured(judge, heldout):
    amount = {"rollouts": 3, "settings": imagine.Settings(steps=2, batch=2)}

    def measure(world):
        figures = drift.measure_drift(world, judge, heldout, length=LENGTH, **amount, rng=np.random.default_rng(0))
        short = stability.measure_stability(
            world, judge, heldout, length=LENGTH, **amount, rng=np.random.default_rng(0)
        )
        return {key.removeprefix(f"drift_{LENGTH}_"): value for key, value in figures.items()}, short

    return measure


@pytest.mark.parametrize("steps", [100, 20])
def test_what_a_world_paints_after_its_end_collapses_unseen(measured, steps):
    for figures in measured(EndingWorld(steps)):
        assert (figures["collapsed"], figures["collapsed_shown"]) == (3, 0)
        assert figures["rollouts_ended"] == 3
    assert [figures["rollouts_ended"] for figures in measured(RealWorld())] == [0, 0]


def test_what_it_shows_before_its_end_counts(measured):
    for figures in measured(EndingWorld(10_000)):
        assert (figures["collapsed"], figures["collapsed_shown"], figures["rollouts"]) == (0, 0, 3)

    class Black(EndingWorld):
        def step(self, state, action, *, steps):
            step = super().step(state, action, steps=steps)
            return Step(torch.zeros_like(step.frame), step.reward, step.ended)

    for figures in measured(Black(100)):
        assert (figures["collapsed"], figures["collapsed_shown"]) == (3, 3)


def test_the_end_is_compared_as_it_was_shown(measured):
    """After 100 steps the real game is elsewhere than after 160, and black frames are nowhere."""
    figures, _ = measured(EndingWorld(100))
    assert 0.8 < figures["end_sharpness_ratio"] < 1.2 and figures["end_rollouts"] == 3
    assert figures["end_colour_emd"] < 5
    assert "end_sharpness_ratio" not in measured(EndingWorld(5))[0]  # 4 real frames and 5 imagined ones


def spans(frames, opening):
    """Numbers of the first and last frame read, instead of signs."""
    return int(frames[0].flat[0]), int(frames[-1].flat[0])


@pytest.mark.parametrize(
    ("end", "read"),
    [
        (None, [(4, 103), (104, 203)]),
        (199, [(4, 103), (104, 203)]),
        (189, [(4, 103), (104, 193)]),
        (119, [(4, 103), (60, 123)]),
        (99, [(4, 103)]),
        (69, [(4, 73)]),
        (61, [(2, 65)]),
        (59, [(0, 63)]),
        (58, []),
    ],
)
def test_the_stretch_of_the_end_is_read_up_to_it(end, read):
    frames = np.arange(204, dtype=np.uint8)[:, None, None, None].repeat(3, axis=-1)
    watch, ended = Watch(spans, frames[:4]), np.arange(200) == end
    for first in (0, 100):
        watch.see(frames[4 + first : 104 + first], ended[first : first + 100])
    assert watch.shown == read and watch.signs == [(4, 103), (104, 203)]
    assert watch.over == (end is not None)
    last = 203 if end is None else end + 4
    assert watch.end[:, 0, 0, 0].tolist() == list(range(max(0, last - BLOCK + 1), last + 1))
