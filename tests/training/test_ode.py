"""Causal ODE distillation, against paths that are known in closed form."""

import math

import pytest
import torch
from dot_game import HEIGHT, WIDTH, dot_recording
from gaussian_world import Gaussian
from tiny import tiny_denoiser

from worldsim.sampler import OdeSampler, ode_grid, step_sigmas
from worldsim_training.config import ContextConfig, OdeConfig
from worldsim_training.dataset import ClipSampler
from worldsim_training.ode import OdeDistillation, integrate, path_grid

SAMPLES, RHO = 20_000, 0.95
LEVELS = step_sigmas(4, 2.0)


def noise(frames, seed=0):
    """(SAMPLES, frames, 1, 1, 1) unit noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SAMPLES, frames, 1, 1, 1, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("intervals", "shift", "length"), [(24, 2.0, 25), (24, 1.0, 27), (5, 2.0, 9)])
def test_the_grid_passes_exactly_through_every_level_of_the_step_lists(intervals, shift, length):
    grid = path_grid(intervals, shift, LEVELS)
    assert set(LEVELS) <= set(grid) and len(grid) == length
    assert grid[0] == 1 and grid[-1] == 0 and all(a - b > 1e-6 for a, b in zip(grid[:-1], grid[1:], strict=True))
    assert all(min(abs(sigma - there) for there in grid) < 1e-9 for sigma in ode_grid(intervals, shift).tolist())


def test_the_path_is_the_samplers_walk_and_each_state_has_the_spread_of_its_level():
    data, grid = Gaussian(0.4, 0.3), path_grid(200, 2.0, LEVELS)
    eps = noise(frames=2)
    path, end = integrate(data.clean_frame, eps, grid, LEVELS)
    assert torch.allclose(end, OdeSampler(grid)(data.clean_frame, lambda: eps), rtol=0, atol=1e-12)
    assert torch.equal(path[0], eps) and len(path) == len(LEVELS)
    for state, sigma in zip(path, LEVELS, strict=True):
        spread = math.sqrt((1 - sigma) ** 2 * data.std**2 + sigma**2)
        assert state.mean() == pytest.approx((1 - sigma) * data.mean, abs=0.02)
        assert state.std() == pytest.approx(spread, rel=0.02)
        assert (end - data.flow_map(state, sigma)).abs().max() < 0.05 * data.std * eps.abs().max()


def regress(inputs, end):
    """The best linear answer to `end` from inputs, all (SAMPLES,)."""
    causes = torch.stack(inputs, dim=1)
    return causes @ torch.linalg.lstsq(causes, end[:, None]).solution[:, 0]


def test_only_a_causal_teacher_leaves_a_causal_student_its_spread():
    """Two frames of unit variance, correlated; a student of the first frame sees its own noise alone. The path of a
    bidirectional teacher depends on both noises, so the student's best answer is a blurred mean (arXiv 2602.02214)."""
    root = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    together = [Gaussian(0.0, math.sqrt(1 + RHO)), Gaussian(0.0, math.sqrt(1 - RHO))]
    grid, eps = path_grid(200, 1.0, (1.0,)), noise(frames=2)

    def bidirectional(x, sigma):
        apart = (x.flatten(1) @ root).unbind(1)
        answers = [axis.clean_frame(each, sigma[:, 0]) for axis, each in zip(together, apart, strict=True)]
        return (torch.stack(answers, dim=1) @ root).view_as(x)

    _, end = integrate(bidirectional, eps, grid, (1.0,))
    assert torch.corrcoef(end.flatten(1).T)[0, 1] == pytest.approx(RHO, abs=0.01)  # it paints the right world
    first = eps[:, 0].flatten()
    assert regress([first], end[:, 0].flatten()).std() == pytest.approx(0.81, abs=0.02)

    clean = noise(frames=1, seed=1)
    mean = torch.cat((torch.zeros_like(clean), RHO * clean), dim=1)
    std = torch.tensor([1.0, math.sqrt(1 - RHO**2)], dtype=torch.float64).view(1, 2, 1, 1, 1)
    _, end = integrate(Gaussian(mean, std).clean_frame, eps, grid, (1.0,))
    for frame, inputs in enumerate(([first], [eps[:, 1].flatten(), clean.flatten()])):
        assert regress(inputs, end[:, frame].flatten()).std() == pytest.approx(1.0, abs=0.02)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return ClipSampler(dot_recording(tmp_path_factory.mktemp("dot"), frames=300), 4, 32, seed=0).sample()


def make_stage(points, context=None):
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    return OdeDistillation(network, OdeConfig(intervals=6, points=points), context or ContextConfig(), shift=2.0)


def spied(network, monkeypatch):
    """The arguments and answers of every packed pass of a network, in turn."""
    calls, whole = [], network.packed

    def packed(*arguments):
        calls.append((*arguments, whole(*arguments)))
        return calls[-1][-1]

    monkeypatch.setattr(network, "packed", packed)
    return calls


def test_the_student_learns_the_end_of_its_teachers_path_from_points_at_the_played_levels(clip, monkeypatch):
    stage = make_stage(points=3, context=ContextConfig(noise_share=1.0))
    with torch.no_grad():
        for weight in stage.student.parameters():
            weight.mul_(1.1)
    teacher, student = spied(stage.teacher, monkeypatch), spied(stage.student, monkeypatch)
    loss = stage.loss(clip, torch.Generator().manual_seed(0))
    assert len(teacher) == len(stage.grid) - 1 and len(student) == 3
    given = student[0][2:6]
    assert all(torch.equal(a, b) for call in (*teacher, *student) for a, b in zip(call[2:6], given, strict=True))
    states = {call[1][0, 0].item(): call[0] for call in teacher}
    end, errors = teacher[-1][-1], []  # the last Euler step ends in the teacher's own answer
    for x, sigma, *_, answer in student:
        for frame, level in ((x[b, t], sigma[b, t].item()) for b in range(32) for t in range(4)):
            assert any(torch.equal(frame, state) for state in states[level].flatten(0, 1))
        errors.append((answer - end)[:, 1:].square().mean())
    assert torch.allclose(loss, torch.stack(errors).mean(), rtol=1e-4)
    levels = torch.stack([call[1] for call in student]).sort(dim=0).values
    assert torch.equal(levels.unique(), torch.tensor(LEVELS).sort().values)
    assert (levels[1:] > levels[:-1]).all()  # no frame meets a level twice
    loss.backward()
    assert not any(weight.grad is not None for weight in (*stage.teacher.parameters(), *stage.average.parameters()))
    assert all(weight.grad is not None for weight in stage.student.parameters())


def test_the_level_that_one_step_is_played_at_is_learnt_too():
    assert OdeDistillation(tiny_denoiser(), OdeConfig(), ContextConfig(), 2.0).levels == sorted(LEVELS, reverse=True)
    told = OdeDistillation(tiny_denoiser(), OdeConfig(), ContextConfig(), 2.0, 0.9895)
    assert told.levels == sorted({*LEVELS, 0.9895}, reverse=True) and {*told.levels} <= {*told.grid}


def test_levels_that_no_list_has_are_refused():
    for points in (0, 5):
        with pytest.raises(ValueError, match=f"ode.points is {points}; the step lists have 1 to 4 noise levels"):
            make_stage(points)
