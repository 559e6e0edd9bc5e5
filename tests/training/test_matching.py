"""Guidance and distribution matching against closed forms: Gaussians, two modes, particles."""

import pytest
import torch

from worldsim.sampler import FewStepSampler, OdeSampler, add_noise, ode_grid, shifted, step_sigmas, velocity
from worldsim_training.losses import (
    clean_weight,
    frame_error,
    guided,
    matching_gradient,
    matching_loss,
    weighted_mean,
)

TARGET, ALL = (0.7, 0.35), (0.0, 1.0)  # mean and spread of what the teacher knows: under the action, and without one
MODES, STD = (-1.0, 1.0), 0.2

pytestmark = pytest.mark.usefixtures("one_thread")


def gaussian_x_0(x, sigma, mean, std):
    """E[x_0 | x_sigma = x] where clean data are N(mean, std^2)."""
    return mean + (1 - sigma) * std**2 * (x - (1 - sigma) * mean) / ((1 - sigma) ** 2 * std**2 + sigma**2)


def mixture_x_0(x, sigma, means, weights, std):
    """E[x_0 | x_sigma = x] where clean data are a mixture of N(mean, std^2)."""
    means, weights = (torch.as_tensor(each, dtype=x.dtype) for each in (means, weights))
    away = x[..., None] - (1 - sigma)[..., None] * means
    variance = ((1 - sigma) ** 2 * std**2 + sigma**2)[..., None]
    share = (weights.log() - away.square() / (2 * variance)).softmax(dim=-1)
    return (share * (means + (1 - sigma)[..., None] * std**2 / variance * away)).sum(dim=-1)


def noised(x, generator):
    """One clip of scalars under noise of the published levels."""
    u, eps = torch.rand(x.shape, generator=generator), torch.randn(x.shape, generator=generator)
    sigma = shifted(u.double(), 5.0).clamp(0.02, 0.98)
    return add_noise(x.detach(), eps.double(), sigma), sigma


def test_guidance_of_one_is_the_conditional_answer_and_of_nought_the_unconditional_one():
    c, u = torch.randn(2, 5, dtype=torch.float64)
    assert torch.allclose(guided(c, u, 1.0), c, rtol=0, atol=1e-15) and torch.equal(guided(c, u, 0.0), u)


def test_w_is_one_more_than_the_extra_of_the_other_convention():
    c, u = torch.randn(2, 5, dtype=torch.float64)
    for extra in (0.0, 0.5, 3.0):
        assert torch.allclose(guided(c, u, 1 + extra), c + extra * (c - u))


def test_guiding_clean_frames_is_guiding_velocities():
    x, c, u = torch.randn(3, 4, 2, 3, dtype=torch.float64)
    sigma = torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    by_velocity = guided(velocity(x, c, sigma), velocity(x, u, sigma), 2.5)
    assert torch.allclose(velocity(x, guided(c, u, 2.5), sigma), by_velocity)


def test_the_slope_of_the_loss_is_the_gradient_over_the_number_of_values():
    x, critic, teacher = torch.randn(3, 2, 3, 1, 4, 6, dtype=torch.float64)
    x.requires_grad_(True)
    gradient = matching_gradient(x, critic, teacher)
    matching_loss(x, gradient).backward()
    assert torch.allclose(x.grad, gradient / x.numel(), rtol=0, atol=1e-10)
    by_hand = [(c - t) / (y - t).abs().mean() for y, c, t in zip(x.detach(), critic, teacher, strict=True)]
    assert torch.allclose(gradient, torch.stack(by_hand), rtol=0, atol=1e-10)
    assert not gradient.requires_grad


def test_where_critic_and_teacher_agree_nothing_moves():
    x, same = torch.randn(2, 2, 3, 1, 4, 6)
    assert not matching_gradient(x, same, same).any()


def test_the_gradient_of_known_gaussians_has_its_closed_form():
    """Critic N(a, s^2) and teacher N(b, s^2): the answers differ by (a - b) sigma^2 / D at every x."""
    x = torch.randn(1, 50, dtype=torch.float64)
    sigma, a, b, std = torch.tensor(0.4, dtype=torch.float64), 0.3, -0.2, 0.5
    critic, teacher = (gaussian_x_0(x, sigma, mean, std) for mean in (a, b))
    variance = (1 - sigma) ** 2 * std**2 + sigma**2
    expected = (a - b) * sigma**2 / variance / (x - teacher).abs().mean()
    assert torch.allclose(matching_gradient(x, critic, teacher), expected.expand_as(x), rtol=0, atol=1e-10)


def test_what_is_not_finite_stays_so():
    x = torch.zeros(2, 3)
    assert not matching_gradient(x, x + 1, x).isfinite().any()  # nothing to divide by
    gradient = matching_gradient(x, torch.full_like(x, torch.nan), x + 1)
    assert matching_loss(x, gradient).isnan()


@pytest.mark.parametrize(
    ("w", "mean", "std", "within"), [(1.0, 0.70, 0.35, 0.02), (1.5, 0.99, 0.13, 0.04), (4.0, 2.07, 0.06, 0.06)]
)
def test_a_gaussian_student_learns_the_target_and_under_guidance_overshoots_it(w, mean, std, within):
    generator = torch.Generator().manual_seed(0)
    student = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (-0.5, 0.8)]
    optimizer = torch.optim.Adam(student, lr=0.03, betas=(0.0, 0.99))
    decay, late = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, 600), []
    for _ in range(600):
        x = student[0] + student[1] * torch.randn(1, 512, generator=generator, dtype=torch.float64)
        x_t, sigma = noised(x, generator)
        teacher = guided(gaussian_x_0(x_t, sigma, *TARGET), gaussian_x_0(x_t, sigma, *ALL), w)
        critic = gaussian_x_0(x_t, sigma, *(each.detach() for each in student))
        optimizer.zero_grad()
        matching_loss(x, matching_gradient(x, critic, teacher)).backward()
        optimizer.step()
        decay.step()
        late.append([each.item() for each in student])
    learned_mean, learned_std = torch.tensor(late[-100:]).mean(dim=0).tolist()
    assert learned_mean == pytest.approx(mean, abs=within)
    assert abs(learned_std) == pytest.approx(std, abs=within)


def test_a_critic_trained_on_samples_recovers_what_is_behind_the_noise():
    mean, std, floor, samples = 0.4, 0.3, 0.3, 4096
    generator = torch.Generator().manual_seed(0)
    weight = torch.zeros(2, 8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")
    x_0 = mean + std * torch.randn(samples, 1, 1, 1, 1, generator=generator, dtype=torch.float64)
    sigma = 0.02 + 0.96 * torch.rand(samples, 1, generator=generator, dtype=torch.float64)
    eps = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)

    def critic(x, sigma):
        slope, shift = (torch.cos(torch.arange(8) * torch.pi * sigma) @ weight.T)[..., None, None, None].unbind(1)
        return slope.unsqueeze(1) * x + shift.unsqueeze(1)

    def closure():
        optimizer.zero_grad()
        error = frame_error(critic(add_noise(x_0, eps, sigma), sigma), x_0)
        loss = weighted_mean(error.double(), clean_weight(sigma, floor))
        loss.backward()
        return loss

    optimizer.step(closure)
    x = torch.linspace(-0.5, 1.3, 19, dtype=torch.float64).reshape(-1, 1, 1, 1, 1)
    for level in (0.1, 0.3, 0.5, 0.7, 0.9):
        sigma = torch.full((19, 1), level, dtype=torch.float64)
        x_t = add_noise(x, torch.zeros_like(x), sigma)
        exact = gaussian_x_0(x_t, level, mean, std)
        assert (critic(x_t, sigma) - exact).norm() / exact.norm() < 0.03


def test_a_flow_keeps_both_modes():
    """Few steps over the exact flow of a mixture; the exact flow by many Euler steps from wherever it is asked."""
    generator = torch.Generator().manual_seed(0)

    def flow(x, sigma):
        levels = sigma * ode_grid(60, 1.0)
        return OdeSampler(levels.tolist())(
            lambda y, level: mixture_x_0(y, torch.full_like(y, level), MODES, (0.3, 0.7), STD), lambda: x
        )

    sampler = FewStepSampler(step_sigmas(2, 5.0))
    out = sampler(flow, lambda: torch.randn(2000, generator=generator, dtype=torch.float64))
    assert (out > 0).double().mean().item() == pytest.approx(0.7, abs=0.04)


@pytest.mark.parametrize(("w", "share", "within"), [(1.0, 0.7, 0.06), (4.0, 0.98, 0.021)])
def test_matching_keeps_both_modes_and_under_guidance_drops_one(w, share, within):
    """Free particles against their own exact critic; the action makes the right mode likelier, .7 instead of .5."""
    generator, count = torch.Generator().manual_seed(0), 150
    x = (0.8 * torch.randn(1, count, generator=generator, dtype=torch.float64)).requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=0.03, betas=(0.0, 0.99))
    for _ in range(250):
        x_t, sigma = noised(x, generator)
        teacher = guided(*(mixture_x_0(x_t, sigma, MODES, shares, STD) for shares in ((0.3, 0.7), (0.5, 0.5))), w)
        critic = mixture_x_0(x_t, sigma, x.detach()[0], torch.full((count,), 1 / count), 0.05)
        optimizer.zero_grad()
        matching_loss(x, matching_gradient(x, critic, teacher)).backward()
        optimizer.step()
    assert (x > 0).double().mean().item() == pytest.approx(share, abs=within)
