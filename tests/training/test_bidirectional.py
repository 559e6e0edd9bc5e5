"""The optional stage 0, on the game of the dot."""

import pytest
import torch
from dot_game import HEIGHT, WIDTH, dot_recording
from tiny import tiny_denoiser

from worldsim.codec import PixelCodec
from worldsim.models.dit import CausalDiT
from worldsim_training import loop
from worldsim_training.bidirectional import Bidirectional
from worldsim_training.config import BidirectionalConfig, ContextConfig, LoopConfig
from worldsim_training.dataset import ClipSampler

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return dot_recording(tmp_path_factory.mktemp("dot"), frames=1000)


def test_a_clip_has_one_noise_level_and_all_its_frames_are_learnt(recording, monkeypatch):
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    config = BidirectionalConfig(pure_noise=0.25, weight_floor=0.3, clean_start_share=0.0)
    stage = Bidirectional(network, config, ContextConfig(action_dropout=0.4))
    calls, whole = [], network.bidirectional
    monkeypatch.setattr(network, "bidirectional", lambda *words: calls.append((*words, whole(*words))) or calls[-1][-1])
    clip = ClipSampler(recording, 4, 512, seed=0).sample()
    loss = stage.loss(clip, torch.Generator().manual_seed(0))
    ((noisy, sigma, actions, known, answer),) = calls
    assert sigma.shape == (512, 4) and (sigma == sigma[:, :1]).all()
    assert sigma.min() >= 0 and abs((sigma[:, 0] == 1).float().mean() - 0.25) < 0.08
    x_0, level = PixelCodec().encode(clip.frames), sigma[..., None, None, None]
    eps = ((noisy - (1 - level) * x_0) / level)[sigma > 0.05]
    assert abs(eps.mean()) < 0.01 and abs(eps.std() - 1) < 0.01
    assert torch.equal(actions, clip.actions) and not known[~clip.known].any()
    assert abs(known[clip.known].float().mean() - 0.6) < 0.05
    weight = (0.3 / sigma.clamp(min=0.3)) ** 2
    expected = ((answer - x_0).square().mean(dim=(2, 3, 4)) * weight).sum() / weight.sum()
    assert torch.allclose(loss, expected, rtol=1e-4)


def test_a_share_of_clips_begins_with_clean_frames_which_are_not_learnt(recording, monkeypatch):
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    stage = Bidirectional(network, BidirectionalConfig(clean_start_share=0.75), ContextConfig())
    calls, whole = [], network.bidirectional
    monkeypatch.setattr(network, "bidirectional", lambda *words: calls.append((*words, whole(*words))) or calls[-1][-1])
    clip = ClipSampler(recording, 4, 512, seed=0).sample()
    loss = stage.loss(clip, torch.Generator().manual_seed(0))
    ((noisy, sigma, _, _, answer),) = calls
    x_0, clean = PixelCodec().encode(clip.frames), sigma == 0
    assert torch.equal(noisy[clean], x_0[clean]) and not (noisy == x_0).all(dim=(2, 3, 4))[~clean].any()
    count = clean.sum(dim=1)
    assert torch.equal(clean, torch.arange(4) < count[:, None])  # they stand in front
    shares = torch.bincount(count, minlength=5) / 512
    assert torch.allclose(shares, torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0]), atol=0.07)
    weight = (0.3 / sigma.clamp(min=0.3)) ** 2 * ~clean
    expected = ((answer - x_0).square().mean(dim=(2, 3, 4)) * weight).sum() / weight.sum()
    assert torch.allclose(loss, expected, rtol=1e-4)


def test_it_learns_to_see_the_clip_through_the_noise(recording, tmp_path):
    """At a level where a single number says little, its guess is far nearer the clip than the best constant one."""
    torch.manual_seed(0)
    network = CausalDiT(HEIGHT, WIDTH, 4, dim=32, depth=2, heads=2, window=4, conv_widths=(8, 16))
    stage = Bidirectional(network, BidirectionalConfig(), ContextConfig())
    config = LoopConfig(steps=100, batch=8, learning_rate=4e-3, warmup=10, ema=0.9, checkpoint_every=100)
    assert loop.fit(stage, ClipSampler(recording, 4, 8, seed=1), config, tmp_path, settings={})
    clip = ClipSampler(recording, 4, 64, seed=2).sample()
    x_0 = PixelCodec().encode(clip.frames)
    noisy = 0.2 * x_0 + 0.8 * torch.randn(x_0.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        guess = stage.average.bidirectional(noisy, torch.full(x_0.shape[:2], 0.8), clip.actions, clip.known)
    constant = x_0.mean(dim=(0, 1), keepdim=True)
    assert (guess - x_0).square().mean() < 0.1 * (constant - x_0).square().mean()
