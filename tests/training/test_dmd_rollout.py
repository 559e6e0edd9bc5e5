"""Self rollouts and their replay: the calls they take, and where gradient flows."""

from dataclasses import replace

import pytest
import torch
from counting_denoiser import CountingDenoiser
from dmd_kit import (
    FRAMES,
    HEIGHT,
    PAST,
    SIGMAS,
    WIDTH,
    idle,
    imagined,
    make_clip,
    network,
    slopes,
    stage,
)

from worldsim.rollout import remember
from worldsim_training import dmd

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("exit_step", [0, 1])
def test_a_frame_takes_the_calls_up_to_its_exit_and_one_commit(exit_step):
    denoiser = CountingDenoiser.of(network())
    run = imagined(denoiser, exit_step)
    calls = [pytest.approx(sigma) for sigma in SIGMAS[: exit_step + 1]]
    asked = [levels[0] if what == "denoise" else what for what, levels in denoiser.calls]
    assert asked == ["commit"] * PAST + [*calls, "commit"] * FRAMES
    assert run.exit_sigma == SIGMAS[exit_step] and run.context == PAST
    assert run.frames.shape == (3, PAST + FRAMES, 3, HEIGHT, WIDTH) and run.exit_input.shape[1] == FRAMES
    assert not run.frames.requires_grad and not run.exit_input.requires_grad


def test_every_rollout_draws_its_exit_and_all_exits_come_up():
    trained, generator = stage(), torch.Generator().manual_seed(0)
    clip = make_clip()
    seen = {trained._imagine(clip, generator).exit_sigma for _ in range(12)}
    assert seen == set(SIGMAS)


@pytest.mark.parametrize("exit_step", [0, 1])
@pytest.mark.parametrize("attention", dmd.ATTENTION.values())
@pytest.mark.parametrize("settings", [{}, {"previous_frame": False, "stem_kind": "patch"}])
def test_the_replay_is_the_rollout(exit_step, attention, settings):
    denoiser = network(**settings)
    run = imagined(denoiser, exit_step)
    again = dmd.replay(denoiser, run, attention)
    assert (again - run.frames[:, PAST:]).abs().max() < 1e-4
    assert again.requires_grad and again.std() > 0.1


def test_in_half_precision_too_the_replay_is_about_the_rollout_and_every_weight_learns():
    denoiser = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = imagined(denoiser)
        again = dmd.replay(denoiser, run, dmd.ATTENTION["plain"])
    assert (again - run.frames[:, PAST:]).abs().mean() < 0.02 * again.std()
    assert idle(denoiser, slopes(denoiser, again.square().mean())) == ["no_action"]


def cached_answers(denoiser, run, *, frames=range(FRAMES)):
    """The exit calls one by one, each from a memory that is written without gradient."""
    for t in frames:
        cache = denoiser.new_cache(len(run.frames))
        with torch.no_grad():
            remember(denoiser, cache, run.frames[:, : PAST + t], run.actions[:, 1 : PAST + t])
        sigma = torch.full((len(run.frames),), run.exit_sigma)
        yield denoiser(run.exit_input[:, t], sigma, run.actions[:, PAST + t], cache)


def test_plain_gradient_is_that_of_the_exit_calls_over_a_detached_memory():
    denoiser = network()
    run = imagined(denoiser)
    weight = torch.randn(run.exit_input.shape, generator=torch.Generator().manual_seed(1))
    right = slopes(denoiser, (torch.stack(list(cached_answers(denoiser, run)), dim=1) * weight).mean())
    plain, through_memory = (
        slopes(denoiser, (dmd.replay(denoiser, run, attention) * weight).mean())
        for attention in (dmd.ATTENTION["plain"], dmd.ATTENTION["self_gradient"])
    )
    scale = max(slope.abs().max() for slope in right)
    assert all((a - b).abs().max() < 1e-5 * scale for a, b in zip(plain, right, strict=True))
    assert max((a - b).abs().max() for a, b in zip(through_memory, right, strict=True)) > 1e-2 * scale


def test_a_self_gradient_is_the_slope_of_play_whose_memory_is_written_anew():
    denoiser = network()
    run = imagined(denoiser)
    last = FRAMES - 1

    weight = denoiser.blocks[0].time.qkv.weight
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(weight.shape, generator=generator)
    counted = torch.randn(run.exit_input[:, last].shape, generator=generator)
    values = []
    for step in (1e-2, -2e-2, 1e-2):
        with torch.no_grad():
            weight.add_(direction, alpha=step)
            (answer,) = cached_answers(denoiser, run, frames=[last])
            values.append((answer * counted).double().sum().item())
    by_hand = (values[0] - values[1]) / 2e-2
    through_memory, plain = (
        (torch.autograd.grad((dmd.replay(denoiser, run, kind)[:, last] * counted).sum(), weight)[0] * direction).sum()
        for kind in (dmd.ATTENTION["self_gradient"], dmd.ATTENTION["plain"])
    )
    assert abs(through_memory - by_hand) < 0.05 * abs(by_hand) < abs(plain - by_hand)


@pytest.mark.parametrize("attention", dmd.ATTENTION.values())
def test_the_loss_of_a_frame_reaches_what_its_own_call_was_handed_alone(attention):
    denoiser = network()
    run = imagined(denoiser)
    run = replace(run, exit_input=run.exit_input.requires_grad_(True))
    dmd.replay(denoiser, run, attention)[:, 2].square().sum().backward()
    reached = run.exit_input.grad.abs().amax(dim=(0, 2, 3, 4)) > 0
    assert reached.tolist() == [t == 2 for t in range(FRAMES)]


def test_a_pixel_that_left_the_range_is_clamped_and_can_come_back():
    denoiser = network()
    with torch.no_grad():
        denoiser.head.leave.bias += 100
    run = imagined(denoiser)
    again = dmd.replay(denoiser, run, dmd.ATTENTION["plain"])
    assert (run.frames[:, PAST:] == 1).all() and torch.allclose(again, torch.ones(()), atol=1e-4)
    (slope,) = torch.autograd.grad(again.mean(), denoiser.head.leave.bias)
    assert (slope > 0).all()
