"""CUDA graphs of play: the frames of the plain network, from the weights as they are now."""

import pytest
import torch
from tiny import HEIGHT, WIDTH, tiny_denoiser
from torch import nn

from worldsim.engine import GraphedDiT, graphed
from worldsim.models.dit import CausalDiT
from worldsim.rollout import remember, rollout
from worldsim.sampler import FewStepSampler

PAST, FRAMES = 3, 5  # memory of 4 frames overflows
SAMPLER = FewStepSampler((1.0, 0.7))


class GatheredDiT(CausalDiT):
    """The network as a wrapper such as FSDP leaves it: of another class."""


def play(player, device, worlds=2, seed=0):
    """Frames (B, FRAMES, C, H, W) imagined after PAST frames of noise."""
    generator = torch.Generator(device).manual_seed(seed)
    past = torch.rand((worlds, PAST, 3, HEIGHT, WIDTH), device=device, generator=generator) * 2 - 1
    actions = torch.randint(2, (worlds, PAST - 1 + FRAMES, 5), device=device, generator=generator).float()
    cache = player.new_cache(worlds)
    with torch.no_grad():
        remember(player, cache, past, actions[:, : PAST - 1])
        return rollout(
            player,
            SAMPLER,
            cache,
            actions[:, PAST - 1 :],
            lambda: torch.randn(past[:, 0].shape, device=device, generator=generator),
        )


def grow(denoiser, factor=1.3):
    """Change every weight in place, enough to change the picture."""
    with torch.no_grad():
        for weight in denoiser.parameters():
            weight.mul_(factor)


def test_without_a_gpu_the_network_plays_itself():
    denoiser = tiny_denoiser()
    assert graphed(denoiser) is denoiser


@pytest.mark.gpu
def test_a_wrapped_network_plays_itself():
    denoiser = tiny_denoiser().cuda()
    denoiser.__class__ = GatheredDiT
    assert graphed(denoiser) is denoiser
    shared = tiny_denoiser().cuda()
    shared.no_action = type("Sharded", (nn.Parameter,), {})(shared.no_action.data)
    assert graphed(shared) is shared


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"previous_frame": False, "stem_kind": "patch"}])
def test_graphs_paint_the_plain_frames(settings):
    denoiser = tiny_denoiser(**settings).cuda()
    player = graphed(denoiser)
    assert isinstance(player, GraphedDiT)
    for seed in (0, 1):  # the second finds the memory of the first forgotten
        right = play(denoiser, "cuda", seed=seed)
        assert right.std() > 0.1
        assert (play(player, "cuda", seed=seed) - right).abs().max() < 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("autocast", [False, True])
def test_graphs_of_compiled_passes_paint_about_the_plain_frames(autocast):
    denoiser = tiny_denoiser().cuda().train()
    player = graphed(denoiser, compiled=True)
    before = torch.zeros(())
    for _ in range(2):
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
            right, seen = play(denoiser, "cuda"), play(player, "cuda")
        assert (seen - right).abs().mean() < 0.02 * right.std()  # convolutions may round to TF32 without autocast
        assert (right - before.to(right)).abs().mean() > 0.1 * right.std()
        before = right
        grow(denoiser)


@pytest.mark.gpu
def test_in_pure_half_precision_too_graphs_paint_the_plain_frames():
    denoiser = tiny_denoiser().cuda().to(torch.bfloat16)
    assert (play(graphed(denoiser), "cuda") - play(denoiser, "cuda")).abs().max() < 1e-2


@pytest.mark.gpu
def test_under_autocast_graphs_see_the_weights_of_now():
    denoiser = tiny_denoiser().cuda().train()
    player = graphed(denoiser)
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=1e-2, fused=True)
    seen = []
    for _ in range(3):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            words = (torch.ones(2, 3, HEIGHT, WIDTH, device="cuda"), torch.ones(2, device="cuda"))
            answer = denoiser(*words, torch.ones(2, 5, device="cuda"), denoiser.new_cache(2))  # fills autocast's memory
            seen.append(play(player, "cuda"))
            torch.clear_autocast_cache()
            right = play(denoiser, "cuda")
            torch.clear_autocast_cache()
        assert (seen[-1] - right).abs().max() < 1e-2
        answer.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert (seen[0] - seen[1]).abs().max() > 0.05 and (seen[1] - seen[2]).abs().max() > 0.05


@pytest.mark.gpu
def test_graphs_are_recorded_again_for_other_worlds_precision_or_places():
    denoiser = tiny_denoiser().cuda()
    player = graphed(denoiser)
    play(player, "cuda")
    paint = player.paint
    play(player, "cuda", seed=1)
    assert player.paint is paint
    assert (play(player, "cuda", worlds=3) - play(denoiser, "cuda", worlds=3)).abs().max() < 1e-4
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert (play(player, "cuda") - play(denoiser, "cuda")).abs().max() < 1e-2
    before = play(denoiser, "cuda")
    denoiser.head.leave.weight.data = 1.5 * denoiser.head.leave.weight.data
    right = play(denoiser, "cuda")
    assert (play(player, "cuda") - right).abs().max() < 1e-4 and (right - before).abs().max() > 0.1


@pytest.mark.gpu
def test_graphs_refuse_the_cache_of_another():
    denoiser = tiny_denoiser().cuda()
    player = graphed(denoiser)
    own, frame = player.new_cache(2), torch.zeros(2, 3, HEIGHT, WIDTH, device="cuda")
    player.commit(frame, None, own)
    with pytest.raises(ValueError, match="CUDA graphs play in one cache; this is another"):
        player.commit(frame, None, denoiser.new_cache(2))


@pytest.mark.gpu
def test_once_recorded_a_rollout_never_waits_for_the_gpu():
    player = graphed(tiny_denoiser().cuda())
    play(player, "cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        play(player, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
