"""The spoilt context of training clips, seen where it enters the network."""

import math

import pytest
import torch
from tiny import tiny_denoiser

from worldsim.codec import PixelCodec
from worldsim.rollout import rollout
from worldsim.sampler import FewStepSampler
from worldsim_training import context as contexts
from worldsim_training import draws
from worldsim_training.config import ContextConfig, TeacherForcingConfig
from worldsim_training.context import Conditions, Kept, drifted, paint, paint_clip, spoil
from worldsim_training.dataset import Clip
from worldsim_training.teacher_forcing import TeacherForcing

HEIGHT, WIDTH = 16, 24


@pytest.fixture(scope="module")
def network():
    return tiny_denoiser(height=HEIGHT, width=WIDTH, dim=16, depth=2)


def make_clip(batch, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    known = torch.ones(batch, length, dtype=torch.bool)
    known[::2, 0] = False  # every other clip begins with its episode
    return Clip(
        frames=torch.randint(256, (batch, length, 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8),
        actions=torch.randint(2, (batch, length, 5), generator=generator).float(),
        known=known,
        rewards=torch.zeros(batch, length),
        ended=torch.zeros(batch, length, dtype=torch.bool),
    )


def spoilt(network, clip, seed=0, **settings):
    quiet = {"noise_share": 0.0, "painted_share": 0.0, "action_dropout": 0.0}
    frames = PixelCodec().encode(clip.frames)
    generator = torch.Generator().manual_seed(seed)
    return frames, spoil(frames, clip, network, ContextConfig(**{**quiet, **settings}), generator)


def test_a_context_that_is_not_spoilt_is_the_clip(network):
    clip = make_clip(3, 4)
    frames, conditions = spoilt(network, clip)
    assert torch.equal(conditions.context, frames) and not conditions.context_sigma.any()
    assert torch.equal(conditions.actions, clip.actions) and torch.equal(conditions.known, clip.known)


def test_the_noise_level_is_one_per_clip_uniform_up_to_its_maximum_on_a_share_of_clips(network):
    _, conditions = spoilt(network, make_clip(2000, 2), noise_share=0.4, noise_max=0.3)
    sigma = conditions.context_sigma
    assert sigma.shape == (2000, 2) and torch.equal(sigma[:, 0], sigma[:, 1])
    noised = sigma[:, 0][sigma[:, 0] > 0]
    assert abs(len(noised) / 2000 - 0.4) < 0.05
    assert noised.max() <= 0.3 and noised.max() > 0.29 and abs(noised.mean() - 0.15) < 0.015


def test_the_context_is_noised_at_the_level_that_the_network_is_told(network):
    frames, conditions = spoilt(network, make_clip(16, 3), noise_share=1.0)
    sigma = conditions.context_sigma[..., None, None, None]
    eps = (conditions.context - (1 - sigma) * frames) / sigma
    assert abs(eps.mean()) < 0.02 and abs(eps.std() - 1) < 0.02


def test_the_noise_of_the_context_is_independent_of_the_noise_of_the_target(network, monkeypatch):
    seen, whole = {}, network.packed

    def watched(noisy, sigma, clean, clean_sigma, actions, known):
        seen.update(noisy=noisy, sigma=sigma, clean=clean, clean_sigma=clean_sigma)
        return whole(noisy, sigma, clean, clean_sigma, actions, known)

    context = ContextConfig(noise_share=1.0, noise_max=0.9)
    stage = TeacherForcing(network, TeacherForcingConfig(), context)
    monkeypatch.setattr(network, "packed", watched)
    clip = make_clip(32, 4)
    stage.loss(clip, torch.Generator().manual_seed(0))
    x_0 = PixelCodec().encode(clip.frames)
    together = (seen["sigma"] > 0.05) & (seen["clean_sigma"] > 0.05)
    target, context = (
        ((x - (1 - s[..., None, None, None]) * x_0) / s[..., None, None, None])[together].flatten()
        for x, s in ((seen["noisy"], seen["sigma"]), (seen["clean"], seen["clean_sigma"]))
    )
    assert abs(target.std() - 1) < 0.05 and abs(context.std() - 1) < 0.05
    assert abs(torch.corrcoef(torch.stack((target, context)))[0, 1]) < 5 / math.sqrt(len(target))


def test_painted_clips_keep_their_first_frame_and_the_others_are_the_networks_own(network):
    frames, conditions = spoilt(network, make_clip(8, 4), painted_share=0.5)
    assert torch.equal(conditions.context[4:], frames[4:])
    assert torch.equal(conditions.context[:4, 0], frames[:4, 0])
    assert (conditions.context[:4, 1:] - frames[:4, 1:]).abs().mean() > 0.1
    assert conditions.context[:4].abs().max() <= 1.0 and not conditions.context_sigma.any()


def test_a_share_of_the_clips_drifts_each_its_own_way_all_of_its_frames_alike():
    still = torch.rand(2000, 1, 3, 4, 6, generator=torch.Generator().manual_seed(1)).expand(-1, 3, -1, -1, -1) - 0.5
    seen = drifted(still, 0.3, torch.Generator().manual_seed(0))
    moved = (seen != still).flatten(1).any(1)
    assert abs(moved.float().mean() - 0.3) < 0.04
    assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 0], seen[:, 2]) and seen.abs().max() <= 1.0
    assert torch.equal(seen[~moved], still[~moved])


def test_flat_colours_drift_in_saturation_contrast_and_tint_within_their_bounds():
    colour = torch.tensor([0.3, 0.0, -0.3])
    frames = colour[None, None, :, None, None].expand(4000, 1, 3, 5, 5)
    seen = drifted(frames, 1.0, torch.Generator().manual_seed(0))[:, 0]
    assert (seen - seen[..., :1, :1]).abs().max() < 1e-6  # nothing to soften in a flat picture
    apart = (seen[:, 0] - seen[:, 2]).amax((1, 2)) / 0.6
    widest = contexts.SATURATION * contexts.CONTRAST
    assert widest * 0.9 < apart.max() < widest + 2 * contexts.TINT / 0.6 and 1 / apart.min() > widest * 0.9
    assert abs(apart.log().mean()) < 0.02 and seen.mean().abs() < 0.005
    assert contexts.TINT * 0.95 < seen[:, 1].abs().max() <= contexts.TINT * 1.0001


def test_edges_drift_softer_and_harder():
    edge = torch.cat((torch.full((5, 3), -0.2), torch.full((5, 3), 0.2)), dim=1).expand(4000, 1, 3, -1, -1)
    seen = drifted(edge, 1.0, torch.Generator().manual_seed(0))[:, 0, 0, 2]
    step, whole = seen[:, 3] - seen[:, 2], seen[:, 5] - seen[:, 0]
    share = step / whole
    assert 0.5 <= share.min() < 0.52 and 1.23 < share.max() <= 1.2501  # a whole binomial blur; half of one taken away


def test_a_drifted_context_is_painted_and_kept_as_it_is_seen_but_what_is_asked_for_is_real(network, monkeypatch):
    clip = make_clip(6, 4)
    frames, conditions = spoilt(network, clip, drifted_share=1.0)
    generator = torch.Generator().manual_seed(0)
    torch.rand((6, 4), generator=generator)  # the draw of the dropped actions
    seen = drifted(frames, 1.0, generator)
    assert torch.equal(conditions.context, seen) and not torch.equal(seen, frames)
    _, conditions = spoilt(network, clip, drifted_share=1.0, painted_share=0.5)
    assert torch.equal(conditions.context[:, 0], seen[:, 0]) and torch.equal(conditions.context[3:], seen[3:])
    _, conditions = spoilt(network, clip, drifted_share=1.0, kept_share=1.0, kept_sigmas=(1e-6, 1e-6))
    written = conditions.kept.sigma > 0
    assert written.any() and torch.allclose(conditions.kept.handed[written], seen[written], atol=1e-4)
    monkeypatch.setattr(network, "packed", lambda *given, **kept: frames)
    stage = TeacherForcing(network, TeacherForcingConfig(), ContextConfig(drifted_share=1.0))
    assert stage.loss(clip, torch.Generator().manual_seed(0)) == 0


def test_a_painted_frame_is_the_one_step_answer_after_real_frames(network):
    clip = make_clip(2, 4)
    frames, conditions = spoilt(network, clip, painted_share=1.0)
    generator = torch.Generator().manual_seed(0)
    torch.rand((2, 4), generator=generator)  # the draw of the dropped actions
    torch.randint(1, (), generator=generator)  # and of the rounds
    noise = torch.randn(frames.shape, generator=generator)
    cache = network.new_cache(2)
    with torch.no_grad():
        for t in range(3):
            network.commit(frames[:, t], None if t == 0 else clip.actions[:, t], cache)
        answer = network(noise[:, 3], torch.ones(2), clip.actions[:, 3], cache)
    # Clip 1 does not begin its episode: its first frame has an action that a new world would not know.
    assert torch.allclose(conditions.context[0, 3], answer[0].clamp(-1, 1), atol=1e-5)


def test_painted_as_often_as_a_clip_has_frames_the_context_is_a_rollout(network):
    clip = make_clip(1, 4)
    frames = PixelCodec().encode(clip.frames)
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(3))
    dream = frames
    for _ in range(3):  # the same noise every time, so that only the memory changes
        generator = torch.Generator().manual_seed(3)
        dream = paint_clip(network, FewStepSampler((1.0,)), dream, clip.actions, clip.known, generator)
    cache = network.new_cache(1)
    with torch.no_grad():
        network.commit(frames[:, 0], None, cache)
        for t in range(1, 4):
            frame = network(noise[:, t], torch.ones(1), clip.actions[:, t], cache).clamp(-1, 1)
            assert torch.allclose(dream[:, t], frame, atol=1e-5)
            network.commit(frame, clip.actions[:, t], cache)


def test_painted_as_often_with_kept_calls_the_context_is_a_rollout_that_keeps_them(network):
    clip, sampler = make_clip(1, 4), FewStepSampler((1.0, 0.6), kept_sigma=0.6)
    frames = PixelCodec().encode(clip.frames)
    levels = torch.tensor([[0.0, 0.6, 0.6, 0.6]])
    dream, kept = frames, Kept(frames, levels)
    for _ in range(3):  # the same noise every time, so that only the memory changes
        given = Conditions(dream, torch.zeros(1, 4), clip.actions, clip.known, kept)
        dream, left = paint(network, sampler, given, torch.Generator().manual_seed(3))
        kept = Kept(left, levels)
    generator = torch.Generator().manual_seed(3)
    noise = [torch.randn(frames.shape, generator=generator) for _ in sampler.sigmas]
    cache, drawn = network.new_cache(1), iter([each[:, t] for t in range(1, 4) for each in noise])
    with torch.no_grad():
        network.commit(frames[:, 0], None, cache)
        played = rollout(network, sampler, cache, clip.actions[:, 1:], lambda: next(drawn))
    assert torch.allclose(dream[:, 1:], played, atol=1e-5) and torch.equal(dream[:, 0], frames[:, 0])


def test_kept_calls_have_one_level_a_clip_and_begin_with_some_frame_of_it(network):
    frames, conditions = spoilt(network, make_clip(2000, 8), kept_share=0.75, kept_sigmas=(0.2, 0.6))
    levels = conditions.kept.sigma
    is_kept = levels > 0
    assert (is_kept[:, 1:] >= is_kept[:, :-1]).all() and abs(is_kept[:, -1].float().mean() - 0.75) < 0.03
    assert (levels[is_kept] >= 0.2).all() and (levels[is_kept] <= 0.6).all()
    assert ((levels == levels[:, -1:]) | ~is_kept).all() and levels[:, -1][is_kept[:, -1]].std() > 0.1
    starts = (~is_kept[is_kept[:, -1]]).sum(dim=1)
    assert abs((starts == 0).float().mean() - (0.5 + 0.5 / 8)) < 0.04 and starts.max() == 7
    handed, sigma = conditions.kept.handed, levels[..., None, None, None]
    assert torch.equal(handed[~is_kept], frames[~is_kept]) and torch.equal(conditions.context, frames)
    eps = ((handed - (1 - sigma) * frames) / sigma)[is_kept]
    assert abs(eps.mean()) < 0.01 and abs(eps.std() - 1) < 0.01


def test_a_committed_frame_beside_kept_ones_is_as_noisy_as_the_context(network):
    _, conditions = spoilt(network, make_clip(64, 4), kept_share=0.5, noise_share=1.0)
    committed = conditions.kept.sigma == conditions.context_sigma
    assert 0.2 < committed.float().mean() < 0.8
    assert torch.equal(conditions.kept.handed[committed], conditions.context[committed])


def test_painted_clips_are_kept_at_their_painters_last_level(network):
    _, conditions = spoilt(network, make_clip(8, 4), kept_share=1.0, painted_share=0.5, painted_sigmas=(1.0, 0.45))
    levels = conditions.kept.sigma
    assert set(levels[:4].unique().tolist()) <= {0.0, torch.tensor(0.45).item()} and (levels[:4, -1] > 0).all()
    assert (levels[4:, -1] != levels[0, -1]).all()


def test_the_rounds_of_painting_are_uniform_up_to_their_most(network, monkeypatch):
    rounds = []
    monkeypatch.setattr(
        "worldsim_training.context.paint", lambda n, s, given, *rest: rounds.append(s) or (given.context, None)
    )
    counts = []
    for seed in range(300):
        rounds.clear()
        spoilt(network, make_clip(2, 2), seed, painted_share=1.0, painted_rounds=3, painted_sigmas=(1.0, 0.5))
        counts.append(len(rounds))
    assert rounds[0].sigmas == (1.0, 0.5)
    assert all(80 < counts.count(n) < 120 for n in (1, 2, 3)) and set(counts) == {1, 2, 3}


def test_no_gradient_flows_through_what_was_painted(network):
    network.requires_grad_(True)
    _, conditions = spoilt(network, make_clip(4, 3), painted_share=1.0, noise_share=1.0)
    assert not conditions.context.requires_grad


def test_actions_are_dropped_at_their_rate_and_a_first_frame_is_never_known(network):
    clip = make_clip(2000, 4)
    _, conditions = spoilt(network, clip, action_dropout=0.1)
    assert not conditions.known[~clip.known].any()
    assert abs(conditions.known[clip.known].float().mean() - 0.9) < 0.02


@pytest.mark.parametrize(("share", "clips"), [(0.25, 2), (0.25, 1), (0.9, 4), (0.5, 3)])
def test_a_share_of_few_clips_is_right_on_average(share, clips):
    generator = torch.Generator().manual_seed(0)
    drawn = [draws.part(share, clips, generator) for _ in range(2000)]
    assert {*drawn} == {int(share * clips), int(share * clips) + 1}
    assert sum(drawn) / 2000 == pytest.approx(share * clips, abs=0.04)


@pytest.mark.parametrize(("share", "clips", "whole"), [(0.25, 8, 2), (0.3, 10, 3), (0.0, 3, 0), (1.0, 3, 3)])
def test_a_whole_share_is_no_matter_of_chance(share, clips, whole):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert draws.part(share, clips, generator) == whole and generator.get_state().equal(before)


def test_the_generator_decides_everything(network):
    clip, settings = make_clip(4, 3), {"noise_share": 0.5, "painted_share": 0.5, "action_dropout": 0.5}
    first, same, other = (spoilt(network, clip, seed, **settings)[1] for seed in (0, 0, 1))
    assert torch.equal(first.context, same.context) and torch.equal(first.known, same.known)
    assert not torch.equal(first.context, other.context)
