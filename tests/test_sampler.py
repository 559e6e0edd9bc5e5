"""Noise levels and samplers, against closed forms."""

import math
import re

import pytest
import torch
from gaussian_world import Gaussian

from worldsim.sampler import (
    FewStepSampler,
    OdeSampler,
    add_noise,
    euler_step,
    ode_grid,
    shifted,
    step_sigmas,
    velocity,
)

SAMPLES = 400_000
MEAN = 0.4


def gaussian_noise(seed=0, samples=SAMPLES):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(samples, dtype=torch.float64, generator=generator)


def test_the_step_lists_at_shift_five_are_the_published_ones():
    assert step_sigmas(4, 5.0) == (1.0, 0.9375, 5 / 6, 0.625)
    assert step_sigmas(2, 5.0) == (1.0, 5 / 6)
    assert step_sigmas(1, 5.0) == (1.0,)


@pytest.mark.parametrize(
    ("shift", "sigmas"),
    [(1, (1, 0.75, 0.5, 0.25)), (2, (1, 6 / 7, 2 / 3, 0.4)), (3, (1, 0.9, 0.75, 0.5))],
)
def test_the_shift_warps_the_step_list(shift, sigmas):
    assert step_sigmas(4, shift) == pytest.approx(sigmas, abs=1e-15)


@pytest.mark.parametrize("steps", [0, 3, -1, 1000, [2]])
def test_an_untrained_step_count_is_refused(steps):
    with pytest.raises(ValueError, match=f"^steps={re.escape(str(steps))} is not a trained step count; use 1, 2 or 4$"):
        step_sigmas(steps, 5.0)


def test_the_ode_grid_falls_from_one_to_zero_and_passes_the_step_list():
    grid = ode_grid(48, 5.0)
    assert grid[0] == 1 and grid[-1] == 0 and len(grid) == 49
    assert (grid.diff() < 0).all()
    assert [grid[i].item() for i in (0, 12, 24, 36)] == pytest.approx(step_sigmas(4, 5.0), abs=1e-12)
    assert shifted(0.0, 5.0) == 0.0 and shifted(1.0, 5.0) == 1.0


def test_the_true_velocity_leads_back_to_the_clean_frame():
    x_0, eps = torch.randn(2, 3, 1, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([[0.2, 1.0, 0.5]], dtype=torch.float64).T
    x_t = add_noise(x_0, eps, sigma)
    level = sigma[..., None, None, None]
    assert torch.allclose(x_t - level * (eps - x_0), x_0, rtol=0, atol=1e-12)
    assert torch.allclose(velocity(x_t, x_0, sigma), eps - x_0, rtol=0, atol=1e-12)


def test_noise_levels_run_from_the_clean_frame_to_pure_noise():
    x_0, eps = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(add_noise(x_0, eps, torch.zeros(4)), x_0)
    assert torch.equal(add_noise(x_0, eps, torch.ones(4)), eps)
    mixed = add_noise(x_0, eps, torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert torch.equal(mixed, torch.stack((x_0[0], eps[1], x_0[2], eps[3])))


def test_an_euler_step_stays_on_the_line_from_clean_frame_to_noise():
    x_0, eps = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    high, low = torch.full((4,), 0.8, dtype=torch.float64), torch.full((4,), 0.3, dtype=torch.float64)
    x_t = add_noise(x_0, eps, high)
    assert torch.allclose(euler_step(x_t, x_0, high, low), add_noise(x_0, eps, low), rtol=0, atol=1e-12)
    assert torch.allclose(euler_step(x_t, x_0, high, high), x_t, rtol=0, atol=1e-12)
    assert torch.equal(euler_step(x_t, x_0, high, torch.zeros_like(high)), x_0)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_fresh_noise_between_exact_steps_gives_the_true_distribution(steps):
    std = 0.3
    sampler = FewStepSampler(step_sigmas(steps, 5.0))
    out = sampler(Gaussian(MEAN, std).flow_map, gaussian_noise(steps))
    assert abs(out.mean() - MEAN) < 3 * std / math.sqrt(SAMPLES)
    assert abs(out.std() - std) < 3 * std / math.sqrt(2 * SAMPLES)


@pytest.mark.parametrize(("steps", "std", "inflation"), [(4, 1.0, 0.44), (4, 0.3, 0.17), (2, 0.3, 0.06)])
def test_an_euler_walk_through_a_consistency_map_inflates_the_spread(steps, std, inflation):
    walk = OdeSampler((*step_sigmas(steps, 5.0), 0.0))
    out = walk(Gaussian(MEAN, std).flow_map, gaussian_noise())
    assert out.std() / std - 1 == pytest.approx(inflation, abs=0.01)


def test_the_ode_sampler_approaches_the_exact_flow_at_first_order():
    start, data = gaussian_noise(samples=1000)(), Gaussian(MEAN, 0.3)
    errors = []
    for intervals in (200, 400):
        walk = OdeSampler(ode_grid(intervals, 5.0).tolist())
        out = walk(data.clean_frame, lambda: start)
        errors.append((out - data.flow_map(start, 1.0)).abs().max().item())
    assert errors[1] < 0.02 and errors[1] / errors[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("shift", [1.0, 2.0, 5.0])
def test_noise_around_a_black_frame_has_spread_sigma_at_every_call(steps, shift):
    """The known answer: with the true clean frame 0, what the denoiser is handed is sigma times unit noise."""
    seen = []

    def denoise(x_t, sigma):
        seen.append((sigma, x_t.mean().item(), x_t.std().item()))
        return torch.zeros_like(x_t)

    assert not FewStepSampler(step_sigmas(steps, shift))(denoise, gaussian_noise()).any()
    assert [sigma for sigma, _, _ in seen] == list(step_sigmas(steps, shift))
    for sigma, mean, std in seen:
        assert abs(mean) < 4 * sigma / math.sqrt(SAMPLES)
        assert std == pytest.approx(sigma, rel=0.005)


def test_a_call_sees_the_answer_before_it_under_fresh_noise():
    draws, seen = [], []
    noise = gaussian_noise(samples=5)

    def drawn():
        draws.append(noise())
        return draws[-1]

    def denoise(x_t, sigma):
        seen.append(x_t)
        return torch.full_like(x_t, 10 * sigma)

    out = FewStepSampler((1.0, 0.5, 0.25))(denoise, drawn)
    assert len(draws) == len(seen) == 3
    assert torch.equal(seen[0], draws[0])
    assert torch.equal(seen[1], 0.5 * torch.full((5,), 10.0, dtype=torch.float64) + 0.5 * draws[1])
    assert torch.equal(seen[2], 0.75 * torch.full((5,), 5.0, dtype=torch.float64) + 0.25 * draws[2])
    assert out.tolist() == [2.5] * 5


def test_the_ode_sampler_draws_noise_once():
    draws = []
    noise = gaussian_noise(samples=5)
    OdeSampler(ode_grid(8, 2.0).tolist())(lambda x, sigma: x, lambda: draws.append(1) or noise())
    assert draws == [1]


def test_one_step_may_be_taken_below_pure_noise_and_more_steps_never_are():
    assert step_sigmas(1, 2.0) == (1.0,) and step_sigmas(1, 2.0, single=0.99) == (0.99,)
    assert all(step_sigmas(steps, 2.0, single=0.99) == step_sigmas(steps, 2.0) for steps in (2, 4))
