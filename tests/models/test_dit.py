"""The causal transformer: who sees whom, and that one packed pass equals playing frame by frame."""

import pytest
import torch
from tiny import HEIGHT, WIDTH, tiny_denoiser

from worldsim.cache import rotary_table
from worldsim.models import dit
from worldsim.models.dit import CausalDiT, UnitNorm, packed_mask

WORLDS, WINDOW, FRAMES = 2, 2, 8  # FRAMES is past the window's overflow: more than 3 windows
VARIANTS = [(stem, previous) for stem in ("conv", "patch") for previous in (True, False)]


@pytest.fixture(scope="module", params=VARIANTS, ids=[f"{stem}-{'previous' if p else 'alone'}" for stem, p in VARIANTS])
def denoiser(request):
    stem_kind, previous_frame = request.param
    return tiny_denoiser(window=WINDOW, stem_kind=stem_kind, previous_frame=previous_frame).requires_grad_(False)


@pytest.fixture
def clip():
    """Arguments of `packed`: a clip at mixed noise levels whose first action is not known."""
    generator = torch.Generator().manual_seed(0)
    return {
        "noisy": torch.randn(WORLDS, FRAMES, 3, HEIGHT, WIDTH, generator=generator),
        "sigma": torch.rand(WORLDS, FRAMES, generator=generator),
        "clean": torch.rand(WORLDS, FRAMES, 3, HEIGHT, WIDTH, generator=generator) * 2 - 1,
        "clean_sigma": torch.zeros(WORLDS, FRAMES),
        "actions": torch.randint(0, 2, (WORLDS, FRAMES, 5), generator=generator).float(),
        "known": torch.arange(FRAMES).repeat(WORLDS, 1) > 0,
    }


def changed(clip, name, frames):
    """The clip with one input replaced in the given frames."""
    value = clip[name].clone()
    value[:, frames] = 1 - value[:, frames] if name == "actions" else -value[:, frames] + 0.3
    return {**clip, name: value}


def filled_cache(denoiser, clip, frames):
    cache = denoiser.new_cache(WORLDS)
    for t in range(frames):
        denoiser.commit(clip["clean"][:, t], clip["actions"][:, t] if t else None, cache)
    return cache


def cached(denoiser, clip, cache, t):
    return denoiser(clip["noisy"][:, t], clip["sigma"][:, t], clip["actions"][:, t], cache)


@pytest.mark.parametrize(("frames", "window"), [(1, 1), (5, 1), (6, 3), (4, 9)])
def test_the_packed_mask_equals_a_triple_loop(frames, window):
    mask = packed_mask(frames, window)
    for query_half in ("clean", "noisy"):
        for i in range(frames):
            for key_half in ("clean", "noisy"):
                for j in range(frames):
                    near = i - j <= window
                    sees = {
                        ("clean", "clean"): j <= i and near,
                        ("clean", "noisy"): False,
                        ("noisy", "clean"): j < i and near,
                        ("noisy", "noisy"): j == i,
                    }[query_half, key_half]
                    row = i + frames * (query_half == "noisy")
                    column = j + frames * (key_half == "noisy")
                    assert mask[row, column] == sees


@pytest.mark.parametrize("i", [0, 3, FRAMES - 1])
def test_a_frame_sees_neither_the_future_nor_other_noisy_frames(denoiser, clip, i):
    answer = denoiser.packed(**clip)[:, i]
    others = [j for j in range(FRAMES) if j != i]
    hidden = [("clean", range(i, FRAMES)), ("noisy", others), ("sigma", others), ("actions", range(i + 1, FRAMES))]
    for name, frames in hidden:
        again = denoiser.packed(**changed(clip, name, list(frames)))[:, i]
        assert torch.equal(again, answer), f"{name} of hidden frames changed frame {i}"


def test_a_frame_sees_its_noise_its_action_and_the_clean_frames_of_the_window(denoiser, clip):
    i = 5
    answer = denoiser.packed(**clip)[:, i]
    seen = [("noisy", i), ("sigma", i), ("actions", i), *(("clean", i - age) for age in range(1, WINDOW + 1))]
    for name, frame in seen:
        again = denoiser.packed(**changed(clip, name, [frame]))[:, i]
        assert (again - answer).abs().max() > 1e-4, f"{name} of frame {frame} left frame {i} as it was"


def test_memory_ends_after_one_window_per_temporal_layer(denoiser, clip):
    assert denoiser.temporal_layers == 2
    i = FRAMES - 1
    last_seen = i - 2 * WINDOW - denoiser.config.previous_frame
    answer = denoiser.packed(**clip)[:, i]
    assert torch.equal(denoiser.packed(**changed(clip, "clean", list(range(last_seen))))[:, i], answer)
    assert not torch.equal(denoiser.packed(**changed(clip, "clean", [last_seen]))[:, i], answer)


def test_an_unknown_action_is_not_looked_at(denoiser, clip):
    clip["known"][:, 3] = False
    answer = denoiser.packed(**clip)
    assert torch.equal(denoiser.packed(**changed(clip, "actions", [3])), answer)
    clip["known"][:, 3] = True
    assert not torch.equal(denoiser.packed(**clip)[:, 3], answer[:, 3])


def test_a_packed_frame_equals_the_cached_step_past_the_windows_overflow(denoiser, clip):
    packed = denoiser.packed(**clip)
    cache = denoiser.new_cache(WORLDS)
    for t in range(FRAMES):
        if t:  # the first frame's action is unknown, which a played step never meets
            assert (cached(denoiser, clip, cache, t) - packed[:, t]).abs().max() < 1e-5
        denoiser.commit(clip["clean"][:, t], clip["actions"][:, t] if t else None, cache)


@pytest.mark.parametrize("temporal_every", [1, 2, 4])
def test_a_packed_pass_spares_the_clean_frames_blocks_that_no_frame_looks_at(clip, temporal_every):
    network = tiny_denoiser(depth=4, temporal_every=temporal_every, window=WINDOW).requires_grad_(False)
    answer, seen = network.packed(**clip), []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    assert torch.equal(network.packed(**clip), answer)
    both = {1: 4, 2: 3, 4: 1}[temporal_every]
    assert seen == [2 * FRAMES] * both + [FRAMES] * (4 - both)
    network._last_temporal = lambda: len(network.blocks) - 1
    assert (network.packed(**clip) - answer).abs().max() < 1e-5


def test_a_spoilt_context_is_told_its_noise_level(denoiser, clip):
    spoilt = {**clip, "clean_sigma": torch.full((WORLDS, FRAMES), 0.3)}
    assert (denoiser.packed(**spoilt) - denoiser.packed(**clip)).abs().amax(dim=(0, 2, 3, 4)).min() > 1e-4


def test_forward_writes_nothing_and_commit_is_the_writer(denoiser, clip):
    cache = filled_cache(denoiser, clip, 3)
    before = cache.clone()
    cached(denoiser, clip, cache, 3)
    tensors = [(*c.keys, *c.values, *c.turned, c.previous, c.frames) for c in (cache, before)]
    assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))
    denoiser.commit(clip["clean"][:, 3], clip["actions"][:, 3], cache)
    assert not any(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


def test_a_committed_action_changes_what_comes_after(denoiser, clip):
    answers = []
    for each in (clip, changed(clip, "actions", [2])):
        answers.append(cached(denoiser, clip, filled_cache(denoiser, each, 3), 3))
    assert (answers[0] - answers[1]).abs().max() > 1e-4


def test_a_swapped_action_changes_the_cached_step(denoiser, clip):
    cache = filled_cache(denoiser, clip, 3)
    answer = cached(denoiser, clip, cache, 3)
    assert (cached(denoiser, changed(clip, "actions", [3]), cache, 3) - answer).abs().max() > 1e-4


def test_play_never_meets_an_unseen_position(denoiser, clip):
    cache = filled_cache(denoiser, clip, FRAMES - 1)
    answer = cached(denoiser, clip, cache, FRAMES - 1)
    cache.frames += 10_000
    assert torch.equal(cached(denoiser, clip, cache, FRAMES - 1), answer)


def test_shifting_all_positions_changes_nothing(denoiser, clip, monkeypatch):
    answer = denoiser.packed(**clip)
    monkeypatch.setattr(dit, "rotary_table", lambda positions, dim: rotary_table(positions + 10_000, dim))
    assert (denoiser.packed(**clip) - answer).abs().max() < 1e-4
    monkeypatch.setattr(dit, "rotary_table", lambda positions, dim: rotary_table(positions * 0, dim))
    assert (denoiser.packed(**clip) - answer).abs().max() > 1e-3


def test_an_empty_memory_answers_as_a_clips_first_frame(denoiser, clip):
    clip["known"][:] = True
    answer = cached(denoiser, clip, denoiser.new_cache(WORLDS), 0)
    assert (answer - denoiser.packed(**clip)[:, 0]).abs().max() < 1e-5


def test_bfloat16_weights_answer_in_float32_near_the_full_ones(clip):
    full = tiny_denoiser(window=WINDOW).requires_grad_(False)
    half = tiny_denoiser(window=WINDOW).requires_grad_(False).to(torch.bfloat16)
    answers = [cached(each, clip, filled_cache(each, clip, 4), 4) for each in (full, half)]
    assert answers[1].dtype == torch.float32
    assert (answers[0] - answers[1]).abs().mean() < 0.05 * answers[0].std()


def test_every_weight_learns(clip):
    torch.manual_seed(0)
    denoiser = tiny_denoiser(window=WINDOW)
    denoiser.packed(**clip).square().mean().backward()
    idle = [name for name, weight in denoiser.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not idle


def test_a_new_network_ignores_noise_level_and_action_until_trained(clip):
    """adaLN gates and action projections start at zero, so training starts from a plain path."""
    torch.manual_seed(0)
    fresh = CausalDiT(HEIGHT, WIDTH, 5, dim=32, depth=3, heads=2, window=WINDOW, stem_kind="patch")
    with torch.no_grad():
        answer = fresh.packed(**clip)
        assert torch.equal(fresh.packed(**changed(clip, "actions", [3])), answer)
        assert torch.equal(fresh.packed(**changed(clip, "sigma", [3])), answer)


def test_frames_that_do_not_divide_into_tokens_are_refused():
    with pytest.raises(ValueError, match="frames of 50x64 do not divide into 8x8 tokens; use multiples of 8"):
        CausalDiT(50, 64, 5)
    with pytest.raises(ValueError, match="unknown stem_kind 'unet'; use one of patch, conv"):
        CausalDiT(48, 64, 5, stem_kind="unet")


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 3e-2)])
def test_the_unit_norm_is_torch_s_root_mean_square_norm(dtype, tolerance):
    x = (3.0 * torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(0))).to(dtype)
    ours, theirs = UnitNorm(16).to(dtype), torch.nn.RMSNorm(16, eps=1e-6).to(dtype)
    assert torch.allclose(ours(x).float(), theirs(x).float(), atol=tolerance)


def test_the_unit_norm_of_nothing_is_nothing():
    assert torch.equal(UnitNorm(8)(torch.zeros(2, 8)), torch.zeros(2, 8))
