"""The packed network against the plain one."""

import pytest
import torch
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_denoiser

from worldsim import engine
from worldsim.world_model import WorldModel

needs_kernels = pytest.mark.skipif(not engine._has_kernels(), reason="this build has no bfloat16 kernels for the CPU")


def in_bfloat16(stem_kind):
    denoiser = tiny_denoiser(stem_kind=stem_kind)
    for weight in denoiser.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    return denoiser


@torch.no_grad()
def play(denoiser, frames=8):
    """What a network paints in one step, frame after frame; each frame of noise is committed; the noise is fixed."""
    generator = torch.Generator().manual_seed(0)
    cache, action, out = denoiser.new_cache(2), torch.ones(2, 5), []
    for _ in range(frames):
        noise = torch.randn(2, 3, HEIGHT, WIDTH, generator=generator)
        out.append(denoiser(noise, torch.ones(2), action, cache))
        denoiser.commit(noise, action, cache)
    return torch.stack(out)


@needs_kernels
@pytest.mark.parametrize("stem_kind", ["conv", "patch"])
def test_the_packed_network_answers_what_the_plain_one_does(stem_kind):
    plain = in_bfloat16(stem_kind)
    packed = engine.packed(plain)
    assert packed is not plain
    expected = play(plain)
    assert (play(packed) - expected).abs().max() < 0.02 * expected.abs().max()


@needs_kernels
def test_every_linear_layer_and_convolution_is_packed_and_shares_its_weight():
    plain = in_bfloat16("conv")
    packed = engine.packed(plain)
    kinds = [type(module) for module in packed.modules()]
    assert torch.nn.Linear not in kinds and torch.nn.Conv2d not in kinds
    ours, theirs = dict(packed.named_parameters()), dict(plain.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in theirs)


def test_a_network_in_float32_is_played_as_it_is():
    plain = tiny_denoiser()
    assert engine.packed(plain) is plain


@needs_kernels
def test_a_loaded_world_is_played_packed_and_saved_plain(tmp_path):
    first = save_tiny_world(tmp_path / "first")
    world = WorldModel.from_pretrained(first)
    assert world.painter is not world.denoiser
    world.save_pretrained(tmp_path / "second")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert all((tmp_path / "second" / file).read_bytes() == (first / file).read_bytes() for file in files)
