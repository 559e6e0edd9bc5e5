"""The closed forms that other tests measure with, against numerical integration and against samples."""

import math

import pytest
import torch
from gaussian_world import Gaussian, GaussianWorld

from worldsim import sampler

DATA = Gaussian(0.4, 0.3)
X = torch.linspace(-2, 2, 9, dtype=torch.float64)


def integrate(x, sigma, steps=400):
    """The probability flow from level sigma to 0, by the classical Runge-Kutta method."""
    step = -sigma / steps
    for i in range(steps):
        level = sigma + i * step
        k_1 = DATA.velocity(x, level)
        k_2 = DATA.velocity(x + step / 2 * k_1, level + step / 2)
        k_3 = DATA.velocity(x + step / 2 * k_2, level + step / 2)
        k_4 = DATA.velocity(x + step * k_3, level + step)
        x = x + step / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    return x


@pytest.mark.parametrize("sigma", [1.0, 0.7, 0.2])
def test_the_flow_map_is_the_integral_of_the_velocity(sigma):
    assert (integrate(X, sigma) - DATA.flow_map(X, sigma)).abs().max() < 1e-8


def test_the_flow_map_leaves_clean_data_alone():
    assert torch.allclose(DATA.flow_map(X, 0.0), X, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [1.0, 0.7, 0.2])
def test_the_velocity_points_away_from_the_clean_frame(sigma):
    level = torch.full_like(X, sigma)
    expected = sampler.velocity(X, DATA.clean_frame(X, level), level)
    assert torch.allclose(DATA.velocity(X, level), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.9, 0.5, 0.1])
def test_the_flow_map_does_not_change_along_the_flow(sigma):
    """The tangent of continuous-time consistency models (arXiv 2410.11081) vanishes: v - w - sigma dw/dsigma = 0 along
    the flow, where w = (x - f(x, sigma)) / sigma. Without the factor sigma, or with the other sign, it does not."""
    level = torch.full_like(X, sigma)

    def mean_velocity(x, at):
        return (x - DATA.flow_map(x, at)) / at

    v = DATA.velocity(X, level)
    w, slope = torch.autograd.functional.jvp(mean_velocity, (X, level), (v, torch.ones_like(level)))
    assert (v - w - level * slope).abs().max() < 1e-12
    assert min((v - w - slope).abs().max(), (v - w + level * slope).abs().max()) > 0.05


def test_samples_of_the_world_have_its_moments():
    world, batch = GaussianWorld(rho=0.8, beta=0.05, std=0.2), 100_000
    generator = torch.Generator().manual_seed(0)
    actions = torch.tensor([1.0, 0.0, -1.0, 1.0, 1.0])
    frames = world.play(torch.full((batch, 1), 0.3), actions.expand(batch, 5), generator)
    mean, variance = world.moments(0.3, actions)
    assert frames.shape == (batch, 5, 1)
    assert abs(frames[:, -1].mean() - mean) < 3 * math.sqrt(variance / batch)
    assert abs(frames[:, -1].var() - variance) < 3 * variance * math.sqrt(2 / batch)
