"""The stages in turn on a world whose every answer is known: what they teach, against the closed form."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from gaussian_world import GaussianWorld
from torch import nn

from worldsim.action import ActionSpec, Channel
from worldsim.codec import PixelCodec
from worldsim.rollout import rollout
from worldsim.sampler import FewStepSampler, OdeSampler, step_sigmas
from worldsim_training import loop
from worldsim_training.config import ConsistencyConfig, ContextConfig, LoopConfig, OdeConfig, TeacherForcingConfig
from worldsim_training.consistency import Consistency
from worldsim_training.dataset import ClipSampler, Recording
from worldsim_training.ode import OdeDistillation
from worldsim_training.teacher_forcing import TeacherForcing

pytestmark = pytest.mark.usefixtures("one_thread")

WORLD = GaussianWorld(rho=0.8, beta=0.05, std=0.15)
FRAME = (3, 1, 2)  # six numbers that know nothing of each other
CONTEXT = ContextConfig(noise_share=0.0, action_dropout=0.0)
HORIZON, START, SHIFT = 50, 0.2, 2.0


@dataclass
class LastFrame:
    """All memory that this world needs."""

    previous: torch.Tensor


class AffineDenoiser(nn.Module):
    """Answers that are affine in the noisy number, the number before and the action; how, is learnt for each noise
    level: 17 Chebyshev polynomials of sigma. It offers what `CausalDiT` does, to the stages and to the rollout."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(17, 4))

    def answer(self, x, sigma, before, action):
        order = torch.arange(len(self.weight))
        basis = torch.cos(order * torch.acos((2 * sigma[..., None] - 1).clamp(-1, 1)))
        parts = (basis[..., None] * self.weight).sum(-2)[..., None, None, None, :].unbind(-1)
        return parts[0] * x + parts[1] * before + parts[2] * action[..., None, None] + parts[3]

    def packed(self, noisy, sigma, clean, clean_sigma, actions, known):
        before = torch.cat((torch.zeros_like(clean[:, :1]), clean[:, :-1]), dim=1)
        return self.answer(noisy, sigma, before, actions)

    def forward(self, x_t, sigma, action, cache):
        return self.answer(x_t, sigma, cache.previous, action)

    def commit(self, x_0, action, cache):
        cache.previous = x_0


@pytest.fixture(scope="module")
def recording():
    """64 episodes of 1000 steps under actions -1, 0 or 1, as pixels."""
    episodes, steps = 64, 1000
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(-1, 2, (episodes, steps), generator=generator).float()
    start = torch.zeros(episodes, *FRAME)
    frames = torch.cat((start[:, None], WORLD.play(start, actions, generator)), dim=1)
    into = torch.cat((torch.zeros(episodes, 1), actions), dim=1)
    total = episodes * (steps + 1)
    return Recording(
        frames=PixelCodec().decode(frames).movedim(2, -1).flatten(0, 1).numpy(),
        actions=into.reshape(total, 1).numpy(),
        known=np.arange(total) % (steps + 1) > 0,
        rewards=np.zeros(total, np.float32),
        ended=np.zeros(total, bool),
        offsets=np.arange(episodes + 1) * (steps + 1),
        policies=("random",) * episodes,
        spec=ActionSpec([Channel("push", "axis")]),
        meta={},
    )


def train(stage, recording, folder, *, steps, learning_rate, ema, batch=64):
    rate = {"learning_rate": learning_rate, "warmup": 20, "decay": 0.7, "weight_decay": 0.0, "ema": ema}
    config = LoopConfig(steps=steps, batch=batch, checkpoint_every=steps, **rate)
    assert loop.fit(stage, ClipSampler(recording, 16, batch, seed=1), config, folder, settings={})
    return stage.average


@pytest.fixture(scope="module")
def teacher(recording, tmp_path_factory):
    stage = TeacherForcing(AffineDenoiser(), TeacherForcingConfig(shift=1.0), CONTEXT)
    folder = tmp_path_factory.mktemp("teacher")
    return train(stage, recording, folder, steps=1200, learning_rate=5e-2, ema=0.998)


@pytest.fixture(scope="module", params=["consistency", "ode"])
def student(request, teacher, recording, tmp_path_factory):
    if request.param == "consistency":
        stage = Consistency(copy.deepcopy(teacher), ConsistencyConfig(intervals=128, grid_shift=0.5), CONTEXT)
        settings = {"steps": 1500, "learning_rate": 2e-2, "ema": 0.8}
    else:
        stage = OdeDistillation(
            copy.deepcopy(teacher), OdeConfig(intervals=192, grid_shift=0.5, points=4), CONTEXT, SHIFT
        )
        settings = {"steps": 100, "learning_rate": 4e-2, "ema": 0.9, "batch": 16}
    return train(stage, recording, tmp_path_factory.mktemp(request.param), **settings)


def imagine(network, sampler, actions, seed=5):
    """Frames (B, T, 3, 1, 2) that follow START under actions (B, T)."""
    generator, worlds = torch.Generator().manual_seed(seed), len(actions)
    memory = LastFrame(torch.full((worlds, *FRAME), START))
    with torch.no_grad():
        return rollout(
            network, sampler, memory, actions[..., None], lambda: torch.randn(worlds, *FRAME, generator=generator)
        )


def errors_at_the_horizon(network, sampler, worlds=500):
    """Of mean and variance at the horizon under one string of actions, each in its standard errors."""
    actions = torch.randint(-1, 2, (HORIZON,), generator=torch.Generator().manual_seed(2)).float()
    mean, variance = WORLD.moments(START, actions)
    last = imagine(network, sampler, actions.expand(worlds, -1))[:, -1].flatten().double()
    of_mean = (last.mean() - mean) / math.sqrt(variance / len(last))
    of_variance = (last.var() - variance) / (variance * math.sqrt(2 / len(last)))
    return of_mean.item(), of_variance.item()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_fifty_frames_on_mean_and_variance_are_the_worlds_own(student, steps):
    of_mean, of_variance = errors_at_the_horizon(student, FewStepSampler(step_sigmas(steps, SHIFT)))
    assert abs(of_mean) < 3 and abs(of_variance) < 3


def test_neither_an_undistilled_network_nor_an_euler_walk_keeps_the_variance(teacher, student):
    assert errors_at_the_horizon(teacher, FewStepSampler((1.0,)))[1] < -10  # paints the mean
    assert errors_at_the_horizon(student, OdeSampler((*step_sigmas(2, SHIFT), 0.0)))[1] > 3


def test_imagined_frames_follow_the_action_and_the_frame_before_as_the_worlds_do(student):
    """Ordinary least squares of each frame on the one before and the action finds the world's constants."""
    actions = torch.randint(-1, 2, (100, HORIZON), generator=torch.Generator().manual_seed(4)).float()
    frames = imagine(student, FewStepSampler(step_sigmas(2, SHIFT)), actions).flatten(2).double()
    into = actions[:, 1:, None].expand_as(frames[:, 1:]).double()
    causes = torch.stack((frames[:, :-1], into, torch.ones_like(into)), dim=-1).flatten(0, 2)
    found = torch.linalg.lstsq(causes, frames[:, 1:].flatten()[:, None]).solution[:, 0]
    standard_error = WORLD.std * torch.linalg.inv(causes.T @ causes).diagonal().sqrt()
    truth = torch.tensor([WORLD.rho, WORLD.beta, 0.0], dtype=torch.float64)
    assert ((found - truth).abs() < 3 * standard_error).all()
