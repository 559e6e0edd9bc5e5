"""The pass that sees a whole clip at once: who sees whom, and what it shares with the causal ones."""

import pytest
import torch
from tiny import HEIGHT, WIDTH, tiny_denoiser

WORLDS, WINDOW, FRAMES = 2, 2, 8
MIDDLE = 4


@pytest.fixture(scope="module", params=[("conv", True), ("patch", False)], ids=["conv-previous", "patch-alone"])
def denoiser(request):
    """One temporal layer, so that the window is all that a frame sees."""
    stem_kind, previous_frame = request.param
    return tiny_denoiser(depth=1, window=WINDOW, stem_kind=stem_kind, previous_frame=previous_frame).requires_grad_(
        False
    )


@pytest.fixture
def clip():
    """Arguments of `bidirectional`: a clip at one noise level whose first action is not known."""
    generator = torch.Generator().manual_seed(0)
    return {
        "noisy": torch.randn(WORLDS, FRAMES, 3, HEIGHT, WIDTH, generator=generator),
        "sigma": torch.rand(WORLDS, 1, generator=generator).expand(-1, FRAMES),
        "actions": torch.randint(0, 2, (WORLDS, FRAMES, 5), generator=generator).float(),
        "known": torch.arange(FRAMES).repeat(WORLDS, 1) > 0,
    }


def change_at(denoiser, clip, name, frame):
    """How much the answer at MIDDLE changes with one input of one frame."""
    value = clip[name].clone()
    value[:, frame] = 1 - value[:, frame] if name == "actions" else -value[:, frame] + 0.3
    answers = [denoiser.bidirectional(**each)[:, MIDDLE] for each in (clip, {**clip, name: value})]
    return (answers[0] - answers[1]).abs().max().item()


@pytest.mark.parametrize("name", ["noisy", "actions"])
def test_a_frame_sees_the_window_before_and_after_it_and_no_further(denoiser, clip, name):
    reach = WINDOW + (name == "noisy" and denoiser.config.previous_frame)  # the stem of the farthest sees one more
    for frame in range(FRAMES):
        change = change_at(denoiser, clip, name, frame)
        if MIDDLE - reach <= frame <= MIDDLE + WINDOW:
            assert change > 1e-5, f"{name} of frame {frame} left frame {MIDDLE} as it was"
        else:
            assert change == 0, f"{name} of frame {frame} changed frame {MIDDLE}"


def test_an_unknown_action_is_not_looked_at(denoiser, clip):
    assert change_at(denoiser, clip, "actions", MIDDLE) > 1e-5
    clip["known"][:, MIDDLE] = False
    assert change_at(denoiser, clip, "actions", MIDDLE) == 0


def test_every_noise_level_counts(denoiser, clip):
    answer = denoiser.bidirectional(**clip)
    other = denoiser.bidirectional(**{**clip, "sigma": clip["sigma"] * 0.5})
    assert (answer - other).abs().amax(dim=(0, 2, 3, 4)).min() > 1e-5


def test_without_neighbours_it_is_the_causal_pass_of_an_empty_memory(denoiser, clip):
    alone = {name: value[:, :1] for name, value in clip.items()}
    packed = denoiser.packed(clean=alone["noisy"], clean_sigma=alone["sigma"], **alone)
    assert torch.allclose(denoiser.bidirectional(**alone), packed, atol=1e-5)


def test_every_weight_learns_so_that_the_causal_network_can_start_from_it(clip):
    denoiser = tiny_denoiser(window=WINDOW)
    denoiser.bidirectional(**clip).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in denoiser.parameters())
