"""The autoregressive loop, against a naive one that keeps no memory."""

import math

import pytest
import torch
from counting_denoiser import CountingDenoiser
from gaussian_world import GaussianWorld
from tiny import HEIGHT, WIDTH, tiny_denoiser

from worldsim.rollout import next_frame, remember, rollout
from worldsim.sampler import FewStepSampler, OdeSampler, ode_grid, step_sigmas

WORLDS, WINDOW, PAST = 2, 2, 3
SIGMAS = {1: (1.0,), 2: (1.0, 5 / 6), 4: (1.0, 0.9375, 5 / 6, 0.625)}  # shift 5, written out


@pytest.fixture(scope="module", params=["conv", "patch"])
def denoiser(request):
    return tiny_denoiser(window=WINDOW, stem_kind=request.param).requires_grad_(False)


@pytest.fixture
def past():
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(WORLDS, PAST, 3, HEIGHT, WIDTH, generator=generator) * 2 - 1
    return frames, torch.randint(0, 2, (WORLDS, PAST - 1, 5), generator=generator).float()


def unit_noise(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(WORLDS, 3, HEIGHT, WIDTH, generator=generator)


def random_actions(frames, seed=1):
    return torch.randint(0, 2, (WORLDS, frames, 5), generator=torch.Generator().manual_seed(seed)).float()


def imagine(denoiser, past, actions, steps=2, seed=0):
    cache = denoiser.new_cache(WORLDS)
    remember(denoiser, cache, *past)
    return rollout(denoiser, FewStepSampler(step_sigmas(steps, 5.0)), cache, actions, unit_noise(seed))


def naive_rollout(denoiser, past, actions, steps, noise):
    """Every frame from all clean frames before it, computed afresh: no loop shared, no cache, no memory."""
    frames, past_actions = past
    history = list(frames.unbind(1))
    into = [torch.zeros(WORLDS, 5), *past_actions.unbind(1), *actions.unbind(1)]  # into[t] leads to frame t
    while len(history) < len(into):
        length = len(history) + 1
        x = noise()
        for call, sigma in enumerate(SIGMAS[steps]):
            blank = torch.zeros(WORLDS, 3, HEIGHT, WIDTH)
            noisy = torch.stack([blank] * (length - 1) + [x], dim=1)
            levels = torch.zeros(WORLDS, length)
            levels[:, -1] = sigma
            known = torch.ones(WORLDS, length, dtype=torch.bool)
            known[:, 0] = False
            clean = torch.stack([*history, blank], dim=1)
            action = torch.stack(into[:length], dim=1)
            answer = denoiser.packed(noisy, levels, clean, torch.zeros(WORLDS, length), action, known)[:, -1]
            if call + 1 < steps:
                lower = SIGMAS[steps][call + 1]
                x = (1 - lower) * answer + lower * noise()
        history.append(answer.clamp(-1, 1))
    return torch.stack(history[frames.shape[1] :], dim=1)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_rollout_equals_a_naive_one_without_a_cache(denoiser, past, steps):
    actions = random_actions(2 * WINDOW)  # with the past, three windows and more
    right = naive_rollout(denoiser, past, actions, steps, unit_noise())
    assert (imagine(denoiser, past, actions, steps) - right).abs().max() < 1e-4
    assert right.std() > 0.1


def test_a_frame_takes_one_call_a_step_and_one_commit(past):
    denoiser = CountingDenoiser.of(tiny_denoiser(window=WINDOW, stem_kind="patch"))
    for steps in (1, 2, 4):
        actions, denoiser.calls = random_actions(5), []
        imagine(denoiser, past, actions, steps)
        past_commits = [("commit", None), *(("commit", action.tolist()) for action in past[1].unbind(1))]
        right = list(past_commits)
        for action in actions.unbind(1):
            right += [("denoise", [pytest.approx(sigma)] * WORLDS) for sigma in SIGMAS[steps]]
            right.append(("commit", action.tolist()))
        assert denoiser.calls == right
        assert len(right) == PAST + 5 * steps + 5


def test_a_swapped_action_changes_its_frame_and_all_later_ones_alone(denoiser, past):
    actions = random_actions(4)
    swapped = actions.clone()
    swapped[:, 2] = 1 - swapped[:, 2]
    change = (imagine(denoiser, past, swapped) - imagine(denoiser, past, actions)).abs().amax(dim=(0, 2, 3, 4))
    assert (change[:2] == 0).all() and (change[2:] > 1e-4).all()


def test_a_swapped_past_action_changes_what_is_imagined(denoiser, past):
    frames, past_actions = past
    actions = random_actions(1)
    other = imagine(denoiser, (frames, 1 - past_actions), actions)
    assert (imagine(denoiser, past, actions) - other).abs().max() > 1e-4


def test_the_same_noise_gives_the_same_bytes_and_other_noise_other_frames(denoiser, past):
    actions = random_actions(3)
    assert torch.equal(imagine(denoiser, past, actions), imagine(denoiser, past, actions))
    assert not torch.equal(imagine(denoiser, past, actions), imagine(denoiser, past, actions, seed=1))


def test_frames_stay_in_range(past):
    loud = tiny_denoiser(window=WINDOW, stem_kind="patch").requires_grad_(False)
    loud.head.paint.weight *= 100
    frames = imagine(loud, past, random_actions(3))
    assert frames.min() == -1 and frames.max() == 1


def test_painting_a_frame_leaves_the_memory_alone(denoiser, past):
    cache = denoiser.new_cache(WORLDS)
    remember(denoiser, cache, *past)
    before = cache.clone()
    sampler = OdeSampler(ode_grid(3, 2.0).tolist())
    next_frame(denoiser, sampler, cache, random_actions(1)[:, 0], unit_noise())
    tensors = [(*c.keys, *c.values, *c.turned, c.previous, c.frames) for c in (cache, before)]
    assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


def test_a_past_with_too_few_actions_is_refused(denoiser, past):
    frames, actions = past
    with pytest.raises(ValueError):
        remember(denoiser, denoiser.new_cache(WORLDS), frames, actions[:, :1])


def test_a_rollout_through_the_gaussian_world_keeps_its_exact_moments():
    """Far from the clamp; the denoiser is the world's consistency map."""
    world, worlds, length = GaussianWorld(rho=0.9, beta=0.05, std=0.03), 20_000, 30

    class Exact:
        def __call__(self, x_t, sigma, action, cache):
            return world.after(cache["last"], action).flow_map(x_t, sigma)

        def commit(self, x_0, action, cache):
            cache["last"] = x_0

    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(-1, 2, (length,), generator=generator).float()
    sampler, cache = FewStepSampler(step_sigmas(4, 5.0)), {"last": torch.zeros(worlds, 1)}
    frames = rollout(
        Exact(),
        sampler,
        cache,
        actions[None, :, None].expand(worlds, -1, 1),
        lambda: torch.randn(worlds, 1, generator=generator),
    )
    mean, variance = world.moments(0.0, actions)
    last = frames[:, -1, 0]
    assert abs(mean) > 0.02
    assert abs(last.mean() - mean) < 3 * math.sqrt(variance / worlds)
    assert abs(last.std() - math.sqrt(variance)) < 3 * math.sqrt(variance / (2 * worlds))
