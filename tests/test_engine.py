"""The packed network against the plain one."""

import math

import pytest
import torch
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_denoiser
from torch import nn
from torch.nn import functional as F

from worldsim import engine
from worldsim.engine import network, stems
from worldsim.heads import OutcomeHead
from worldsim.models.dit import CausalDiT
from worldsim.rollout import remember
from worldsim.world_model import WorldModel

needs_kernels = pytest.mark.skipif(not engine.has_kernels(), reason="this build has no bfloat16 kernels for the CPU")
pytestmark = pytest.mark.usefixtures("one_thread")

VARIANTS = [(stem, previous) for stem in ("conv", "patch") for previous in (True, False)]


def in_bfloat16(stem_kind="conv", **config):
    denoiser = tiny_denoiser(stem_kind=stem_kind, **config)
    for weight in denoiser.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return denoiser


@torch.no_grad()
def play(denoiser, frames=8, sigma=1.0):
    """What a network paints in one step, frame after frame; each frame of noise is committed; the noise is fixed."""
    generator = torch.Generator().manual_seed(0)
    cache, out = denoiser.new_cache(2), []
    for t in range(frames):
        noise = torch.randn(2, 3, HEIGHT, WIDTH, generator=generator)
        action = torch.randint(0, 2, (2, 5), generator=generator).float()
        out.append(denoiser(noise, torch.full((2,), sigma), action, cache))
        denoiser.commit(noise, action if t else None, cache)
    return torch.stack(out)


@needs_kernels
@pytest.mark.parametrize(("stem_kind", "previous_frame"), VARIANTS)
def test_the_packed_network_answers_what_the_plain_one_does(stem_kind, previous_frame):
    plain = in_bfloat16(stem_kind, previous_frame=previous_frame)
    packed = engine.packed(plain)
    assert packed is not plain
    for sigma in (1.0, 0.4):
        expected = play(plain, sigma=sigma)
        assert (play(packed, sigma=sigma) - expected).abs().max() < 0.02 * expected.abs().max()


@needs_kernels
@torch.no_grad()
def test_the_shipped_world_is_painted_as_the_plain_network_paints_it():
    """Each frame from the same memory; below 50 dB a difference would be more than bfloat16's rounding."""
    world = WorldModel.from_pretrained("boxing")
    past = world.codec.encode(torch.from_numpy(world.starts.frames[:2]).permute(0, 1, 4, 2, 3))
    actions = torch.from_numpy(world.actions.encode(world.starts.actions[:2]))
    networks = [world.denoiser, world.painter]
    caches = [each.new_cache(2) for each in networks]
    for each, cache in zip(networks, caches, strict=True):
        remember(each, cache, past, actions)
    generator = torch.Generator().manual_seed(0)
    for t in range(4):
        noise = torch.randn(past[:, 0].shape, generator=generator)
        asked = noise, torch.ones(2), actions[:, t]
        plain, packed = (each(*asked, cache) for each, cache in zip(networks, caches, strict=True))
        assert 10 * math.log10(4 / (packed - plain).square().mean()) > 50
        assert (packed - plain).abs().max() < 0.1
        for each, cache in zip(networks, caches, strict=True):
            each.commit(plain.clamp(-1, 1), actions[:, t], cache)


@needs_kernels
def test_an_announced_noise_level_is_answered_with_the_same_bytes_as_any_other():
    plain = in_bfloat16()
    announced, unannounced = engine.packed(plain, [0.4]), engine.packed(plain)
    assert len(announced.levels) == 1 + len(unannounced.levels)
    assert torch.equal(play(announced, sigma=0.4), play(unannounced, sigma=0.4))
    assert len(unannounced.levels) == 1


@needs_kernels
@torch.no_grad()
@pytest.mark.parametrize(("stem_kind", "previous_frame"), VARIANTS)
def test_one_packed_pass_over_two_frames_is_a_packed_commit_and_then_a_call(stem_kind, previous_frame):
    packed = engine.packed(in_bfloat16(stem_kind, previous_frame=previous_frame, depth=4), [0.4])
    generator = torch.Generator().manual_seed(0)
    apart, together = packed.new_cache(1), packed.new_cache(1)
    for frame in range(6):
        x_0, x_t = torch.randn(2, 1, 3, HEIGHT, WIDTH, generator=generator)
        before, action = torch.randint(2, (2, 1, 5), generator=generator).float()
        packed.commit(x_0, before, apart)
        expected = packed.at_level(x_t, 0.4, action, apart)
        found = packed.advance(x_0, before, x_t, 0.4, action, together)
        assert (found - expected).abs().max() < 0.02 * expected.abs().max(), frame
        for name, tensor in apart.tensors().items():
            assert (together.tensors()[name] - tensor).abs().max() <= 0.03 * tensor.abs().max(), name
    assert torch.equal(apart.frames, together.frames) and torch.equal(apart.previous, together.previous)


@needs_kernels
@torch.no_grad()
def test_more_actions_than_are_remembered_steer_as_they_did_before():
    packed = engine.packed(in_bfloat16())
    actions = torch.rand(2 * network.REMEMBERED_ACTIONS, 5, generator=torch.Generator().manual_seed(0))
    first = [packed.steer_of(action[None]).clone() for action in actions]
    assert all(torch.equal(packed.steer_of(action[None]), seen) for action, seen in zip(actions, first, strict=True))
    assert len(packed.steered) <= network.REMEMBERED_ACTIONS and not torch.equal(first[0], first[1])
    several = packed.steer_of(actions[:3])
    assert (several - torch.cat(first[:3])).abs().max() < 0.02 * several.abs().max()


@needs_kernels
@torch.no_grad()
def test_a_batch_at_mixed_noise_levels_goes_to_the_plain_network():
    plain = in_bfloat16()
    asked = torch.randn(2, 3, HEIGHT, WIDTH), torch.tensor([1.0, 0.4]), torch.ones(2, 5)
    cache = plain.new_cache(2)
    assert torch.equal(engine.packed(plain)(*asked, cache), plain(*asked, cache))


@needs_kernels
@torch.no_grad()
def test_a_convolution_of_folded_pixels_is_one_of_the_frame():
    plain = nn.Conv2d(4 * 6, 8, 3, padding=1, dtype=torch.bfloat16)
    frame = torch.randn(2, 6, HEIGHT, WIDTH, dtype=torch.bfloat16)
    expected = plain(F.pixel_unshuffle(frame, 2))
    assert (stems.halving(plain)(frame) - expected).abs().max() < 0.01 * expected.abs().max()


@needs_kernels
@torch.no_grad()
def test_the_packed_head_answers_what_the_plain_one_does():
    plain = OutcomeHead(HEIGHT, WIDTH, width_conv=8).to(torch.bfloat16)
    packed = engine.packed_head(plain)
    assert packed is not plain
    frames = torch.rand(2, 32, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for ours, theirs in zip(packed(*frames), plain(*frames), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == torch.float32
        assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()
    reward, odds = packed.read(*frames)
    logits, end = packed(*frames)
    assert reward.tolist() == [plain.config.rewards[i] for i in logits.argmax(dim=1)]
    assert torch.equal(odds, end)


def test_networks_in_float32_are_played_as_they_are():
    plain, head = tiny_denoiser(), OutcomeHead(HEIGHT, WIDTH, width_conv=8)
    assert engine.packed(plain) is plain and engine.packed_head(head) is head


def test_a_network_of_another_kind_is_played_as_it_is():
    class Other(CausalDiT):
        def forward(self, x_t, sigma, action, cache):
            return cache.previous.float()

    plain = in_bfloat16()
    plain.__class__ = Other
    assert engine.packed(plain) is plain


@needs_kernels
def test_a_loaded_world_is_played_packed_and_saved_plain(tmp_path):
    first = save_tiny_world(tmp_path / "first")
    world = WorldModel.from_pretrained(first)
    assert world.painter is not world.denoiser and world.reader is not world.heads
    world.save_pretrained(tmp_path / "second")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert all((tmp_path / "second" / file).read_bytes() == (first / file).read_bytes() for file in files)
