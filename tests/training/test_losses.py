"""The losses and the consistency target, against closed forms: a scalar Gaussian, a linear student."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from gaussian_world import Gaussian

from worldsim.sampler import OdeSampler, add_noise, ode_grid, velocity
from worldsim_training.losses import (
    SOLVERS,
    clean_weight,
    consistency_points,
    consistency_target,
    frame_error,
    weighted_mean,
)

STD, SHIFT, INTERVALS = 0.3, 5.0, 48
DATA = Gaussian(0.0, STD)


def composed_solver(grid):
    """The factor by which Euler's solution over the grid multiplies pure noise."""
    sampler = OdeSampler(grid.tolist())
    return sampler(DATA.clean_frame, lambda: torch.ones(1, dtype=torch.float64)).item()


def composed_heun(grid):
    """The same for Heun's solution, with Euler's in the last interval; written for one number."""
    x = 1.0
    for sigma, sigma_next in pairwise(grid.tolist()):
        slope = (x - DATA.clean_frame(torch.tensor(x), sigma).item()) / sigma
        end = x + (sigma_next - sigma) * slope
        if sigma_next:
            slope = (slope + (end - DATA.clean_frame(torch.tensor(end), sigma_next).item()) / sigma_next) / 2
        x += (sigma_next - sigma) * slope
    return x


def solve_student(grid, last_index, start, solver="euler"):
    """Factors (N,) of a student that is linear at each node, fitted to its targets until they no longer change.

    Nodes 0..last_index are trained, from the data end of the path to pure noise; `start` is the factor of the others.
    """
    generator = torch.Generator().manual_seed(0)
    x_0 = STD * torch.randn(64, 1, 1, 1, 1, generator=generator, dtype=torch.float64)
    eps = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
    factor = torch.full((len(grid) - 1,), start, dtype=torch.float64)

    def answer(x, sigma):
        node = int((grid - sigma[0, 0]).abs().argmin())
        return factor[min(node, len(factor) - 1)] * x

    for n in range(last_index, -1, -1):
        index = torch.full((len(x_0), 1), n)
        x_n, sigma, sigma_next = consistency_points(x_0, eps, index, grid)
        x_next = SOLVERS[solver](x_n, DATA.clean_frame(x_n, sigma), sigma, sigma_next, DATA.clean_frame)
        target = consistency_target(x_next, sigma_next, answer)
        factor[n] = (x_n * target).sum() / x_n.square().sum()
        assert frame_error(factor[n] * x_n, target).max() < 1e-10  # a linear student can fit it
    return factor


def test_pure_noise_weighs_floor_squared_and_clean_frames_one():
    sigma = torch.tensor([1.0, 0.5, 0.25, 0.1, 0.0])
    assert torch.allclose(clean_weight(sigma, 0.25), torch.tensor([0.0625, 0.25, 1.0, 1.0, 1.0]))
    for floor in (0.1, 0.3):
        assert clean_weight(torch.ones(1), floor).item() == pytest.approx(floor**2)


def test_above_the_floor_the_weighted_clean_error_is_the_velocity_error():
    x_0, eps, guess = torch.randn(3, 2, 1, 3, 4, 5, dtype=torch.float64)
    sigma = torch.tensor([[0.4], [1.0]], dtype=torch.float64)
    x_t = add_noise(x_0, eps, sigma)
    velocity = (x_t - guess) / sigma.reshape(2, 1, 1, 1, 1)
    weighted = frame_error(guess, x_0) * clean_weight(sigma, 0.3) / 0.3**2
    assert torch.allclose(frame_error(velocity, eps - x_0).double(), weighted.double(), rtol=1e-5)


def test_a_denoiser_trained_on_samples_alone_learns_the_velocity_of_their_distribution():
    """The weighted clean-frame error has the probability flow as its minimum at every level (arXiv 2210.02747)."""
    data, generator = Gaussian(0.4, STD), torch.Generator().manual_seed(0)
    x_0 = data.mean + STD * torch.randn(100_000, 1, 1, 1, 1, generator=generator, dtype=torch.float64)
    for level in (1.0, 0.7, 0.4, 0.1):
        sigma = torch.full(x_0.shape[:2], level, dtype=torch.float64)
        x = add_noise(x_0, torch.randn(x_0.shape, generator=generator, dtype=torch.float64), sigma)
        affine = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([affine], max_iter=50, line_search_fn="strong_wolfe")

        def loss(x=x, sigma=sigma, affine=affine, optimizer=optimizer):
            optimizer.zero_grad()
            error = weighted_mean(frame_error(affine[0] * x + affine[1], x_0), clean_weight(sigma, 0.3))
            error.backward()
            return error

        optimizer.step(loss)
        learnt = velocity(x, (affine[0] * x + affine[1]).detach(), sigma)
        truth = data.velocity(x, sigma)
        assert (learnt - truth).square().mean().sqrt() < 0.02 * truth.square().mean().sqrt()


def test_the_frame_error_keeps_clips_and_frames_apart():
    target = torch.zeros(2, 3, 1, 4, 6)
    predicted = torch.arange(6.0).reshape(2, 3, 1, 1, 1).expand_as(target)
    assert torch.equal(frame_error(predicted, target), torch.tensor([[0.0, 1, 4], [9, 16, 25]]))


def test_a_weighted_mean_of_equal_values_is_that_value():
    assert weighted_mean(torch.full((2, 3), 7.0), torch.rand(2, 3)).item() == pytest.approx(7.0)
    assert weighted_mean(torch.tensor([[1.0, 3.0]]), torch.tensor([[3.0, 1.0]])).item() == 1.5


def test_the_solver_shrinks_a_gaussian_as_calculated():
    assert composed_solver(ode_grid(INTERVALS, SHIFT)) / STD - 1 == pytest.approx(-0.138, abs=0.0005)
    errors = [abs(composed_solver(ode_grid(n, SHIFT)) / STD - 1) for n in (12, 24, 48, 96)]
    ratios = [after / before for before, after in zip(errors[:-1], errors[1:], strict=True)]
    assert np.allclose(ratios, (0.551, 0.525, 0.515), atol=0.001)


def test_a_consistent_student_equals_the_composed_solver():
    grid = ode_grid(INTERVALS, SHIFT)
    factor = solve_student(grid, INTERVALS - 1, start=0.0)
    assert factor[0].item() == pytest.approx(composed_solver(grid), rel=1e-9)
    assert factor[0].item() / STD - 1 == pytest.approx(-0.138, abs=0.005)


def test_heuns_solver_shrinks_a_gaussian_less_as_calculated():
    grid = ode_grid(INTERVALS, SHIFT)
    factor = solve_student(grid, INTERVALS - 1, start=0.0, solver="heun")
    assert factor[0].item() == pytest.approx(composed_heun(grid), rel=1e-6)
    assert factor[0].item() / STD - 1 == pytest.approx(-0.052, abs=0.005)


def test_only_the_terminal_interval_heals_a_wrong_start():
    grid = ode_grid(INTERVALS, SHIFT)
    wrong = 7.0
    without = solve_student(grid, INTERVALS - 2, start=wrong)
    assert without[-1] == wrong
    assert abs(without[0].item() / composed_solver(grid) - 1) > 1
    healed = solve_student(grid, INTERVALS - 1, start=wrong)
    assert healed[-1].item() == pytest.approx(DATA.clean_frame(torch.ones(1), grid[-2]).item())
    assert healed[0].item() == pytest.approx(composed_solver(grid), rel=1e-9)


def test_each_frame_stands_at_its_own_point_of_the_path():
    grid = ode_grid(4, 2.0)
    x_0, eps = torch.randn(2, 2, 3, 1, 2, 2)
    index = torch.tensor([[0, 1, 3], [2, 3, 0]])
    x_n, sigma, sigma_next = consistency_points(x_0, eps, index, grid)
    assert torch.equal(x_n[0, 0], eps[0, 0]) and (sigma[0, 0], sigma_next[0, 2]) == (1, 0)
    assert torch.allclose(x_n, (1 - sigma[..., None, None, None]) * x_0 + sigma[..., None, None, None] * eps)
    x_next = SOLVERS["euler"](x_n, x_0, sigma, sigma_next, None)
    target = consistency_target(x_next, sigma_next, lambda x, level: torch.full_like(x, torch.nan))
    assert torch.equal(target.isfinite().all(dim=(-3, -2, -1)), index == 3)  # only there it needs no further answer
    assert torch.equal(target[index == 3], x_0[index == 3])
